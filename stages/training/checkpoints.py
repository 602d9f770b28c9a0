"""The checkpoints that SFT leaves: their names, and checkpoints.json, what is known of each.

In and out: an sft artifact with a model folder a checkpoint. checkpoints.json is a list in the order of training, of values that
depend on inputs and seed alone; selection and evaluation take from it what checkpoints there are and what they cost.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from stages.config import Training
from stages.records.artifact import write_json
from stages.stage import Row

CHECKPOINTS = "checkpoints.json"
_EPOCHS, _MEAN = "epoch-", "mean-of-last-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model folder of SFT."""

    checkpoint: str  # name of the folder
    epoch: float  # passes over the data before it; a whole number is an int
    steps: int  # optimiser steps before it
    tokens_trained: int  # response tokens trained on before it
    validation_loss: float | None  # nats per response token; None without validation rows
    mean_of: tuple[str, ...] = ()  # the checkpoints whose mean it is; empty for one that was trained


def checkpoint_name(epoch: int, *, part: int = 1, num_parts: int = 1) -> str:
    """Folder of the checkpoint after `part` of the `num_parts` of `epoch`, both counted from 1; names sort in the order of training.

    A whole epoch is `epoch-02`; what is behind it by the first third of the next is `epoch-02+1of3`.
    """
    if part == num_parts:
        return f"{_EPOCHS}{epoch:02d}"
    return f"{_EPOCHS}{epoch - 1:02d}+{part:0{len(str(num_parts))}d}of{num_parts}"


def mean_name(num_checkpoints: int) -> str:
    """Folder of the mean of the last checkpoints."""
    return f"{_MEAN}{num_checkpoints}"


def planned_checkpoints(training: Training) -> list[str]:
    """Names of what SFT will keep, in the order of training; a mean comes last."""
    parts = training.checkpoints_per_epoch
    names = [
        checkpoint_name(epoch, part=part, num_parts=parts)
        for epoch in range(1, training.epochs + 1)
        for part in range(1, parts + 1)
    ]
    return [*names, *([mean_name(training.mean_of_last)] if training.mean_of_last else [])]


def checkpoint_folders(artifact: Path) -> list[Path]:
    """The model folders of an sft artifact, those that were trained first, in the order of training."""
    return [*sorted(artifact.glob(f"{_EPOCHS}*")), *sorted(artifact.glob(f"{_MEAN}*"))]


def write_checkpoints(artifact: Path, checkpoints: Iterable[Checkpoint]) -> None:
    """Write checkpoints.json."""
    write_json(artifact / CHECKPOINTS, [asdict(checkpoint) for checkpoint in checkpoints])


def checkpoints_of(artifact: Path) -> dict[str, Checkpoint]:
    """Name -> what checkpoints.json says of it, in the order of training; a mean comes last."""
    rows: list[Row] = json.loads((artifact / CHECKPOINTS).read_text(encoding="utf-8"))
    found = (Checkpoint(**row) for row in rows)
    return {checkpoint.checkpoint: replace(checkpoint, mean_of=tuple(checkpoint.mean_of)) for checkpoint in found}
