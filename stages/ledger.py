"""The token-efficiency ledger (paper 4.3.2): tokens spent by SFT and by RL, read from the steps.jsonl of their artifacts.

`tokens/trained` counts response tokens that entered a loss, cumulatively, in both.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from stages.stage import Row

STEPS = "steps.jsonl"


def checkpoint_name(epoch: int) -> str:
    """Folder of the checkpoint after `epoch` (counted from 1); names sort in the order of training."""
    return f"epoch-{epoch:02d}"


def steps_of(artifact: Path) -> Iterator[Row]:
    """The logged steps of an artifact, in order."""
    with (artifact / STEPS).open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def sft_tokens_by_checkpoint(artifact: Path) -> dict[str, int]:
    """Checkpoint -> response tokens trained on up to it."""
    return {checkpoint_name(step["epoch"]): int(step["tokens/trained"]) for step in steps_of(artifact)}


def tokens_trained(artifact: Path) -> int:
    """Response tokens trained on in a whole artifact."""
    return max((int(step["tokens/trained"]) for step in steps_of(artifact)), default=0)
