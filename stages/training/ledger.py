"""steps.jsonl, the step-by-step ledger of a training stage, and the tokens and FLOPs read from it (paper 4.3.2).

One JSON object a line and step, of values that depend on inputs and seed alone. `tokens/trained` counts response tokens that
entered a loss, cumulatively, in SFT and RL alike: token efficiency is RL tokens / SFT tokens against the score.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from stages.stage import Row, StageLog
from stages.training.compute import TOTAL

STEPS = "steps.jsonl"


class StepLedger:
    """Appends lines. `size` belongs to the resume state: a resumed run cuts off what was written after its resume point."""

    def __init__(self, out: Path, *, size: int, writes: bool) -> None:
        self.size = size
        self._stream: TextIO | None = None
        if writes:
            self._stream = (out / STEPS).open("a", encoding="utf-8")
            self._stream.truncate(size)

    def write(self, row: Row) -> None:
        """Add a line; ranks other than the writing one do nothing."""
        if self._stream is not None:
            line = json.dumps(row) + "\n"
            self._stream.write(line)
            self._stream.flush()
            self.size += len(line)

    def cut(self, size: int) -> None:
        """Drop what is behind so many bytes."""
        self.size = size
        if self._stream is not None:
            self._stream.truncate(size)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()


def replay(artifact: Path, log: StageLog, *, every: int = 1) -> None:
    """Log the metrics of finished steps again: after a kill the tracker may have lost the last of them; it drops what it has."""
    for row in steps_of(artifact):
        if row["step"] % every == 0:
            log.metrics(row["step"], {name: value for name, value in row.items() if "/" in name})


def steps_of(artifact: Path) -> Iterator[Row]:
    """The logged steps of an artifact, in order."""
    with (artifact / STEPS).open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def last_steps(artifact: Path, count: int) -> list[Row]:
    """The last so many logged steps, in order."""
    lines = (artifact / STEPS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[max(0, len(lines) - count) :]]


def tokens_trained(artifact: Path) -> int:
    """Response tokens trained on in a whole artifact."""
    return max((int(step["tokens/trained"]) for step in steps_of(artifact)), default=0)


def flops_spent(artifact: Path) -> float:
    """FLOPs that a whole artifact took, see `compute`."""
    return max((step[TOTAL] for step in steps_of(artifact)), default=0.0)
