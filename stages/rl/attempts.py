"""What was decided about the course of an arm, and the attempts that a roll back ended.

watch.jsonl holds a row a decision: a warning, a stop, a roll back, a phase that ended early. It is written once, however often a kill
makes a step be taken again. The steps from which an arm rolled back are moved to rollouts-abandoned/attempt-00/ with their lines of
steps.jsonl and their probes; the row of the roll back is written before, so that a kill in between leaves something to finish.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from stages.rl.probe import PROBES
from stages.stage import ROLLOUTS, STATE, Row
from stages.training.ledger import STEPS, steps_of

WATCH = "watch.jsonl"
ABANDONED = "rollouts-abandoned"
ROLL_BACK = "roll back"


class Attempts:
    """The decisions of an arm; rank 0 has it. The arm's attempts are counted from 0."""

    def __init__(self, out: Path) -> None:
        """Read what is there; the piece of a line that a kill left goes."""
        self._out, self._path = out, out / WATCH
        text = self._path.read_bytes() if self._path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            self._path.write_bytes(whole)
        self.rows: list[Row] = [json.loads(line) for line in whole.splitlines()]

    @property
    def roll_backs(self) -> list[Row]:
        """Of the rows those by which an attempt ended, in order: the first ended attempt 0."""
        return [row for row in self.rows if row["event"] == ROLL_BACK]

    def of(self, step: int) -> int:
        """The attempt in which the arm, as it goes by now, takes this step: the last one that began before it."""
        return max((number for number, row in enumerate(self.roll_backs, start=1) if row["to"] < step), default=0)

    def note(self, step: int, event: str, **values: object) -> bool:
        """Write a decision after a step, unless it is there; returns whether it was not."""
        row = {"step": step, "attempt": self.of(step), "event": event, **values}
        if row in self.rows:
            return False
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        self.rows.append(row)
        return True

    def settle(self, *, forget_after: Callable[[int], None]) -> None:
        """Move the steps away from which the arm rolled back, where that is not done.

        `forget_after` removes the weights that are kept of later steps than one.
        """
        for number, row in enumerate(self.roll_backs):
            folder = self._out / ABANDONED / f"attempt-{number:02d}"
            if not folder.exists():
                beside = folder.with_name(folder.name + ".writing")
                self._move(beside, to=row["to"], last=row["step"])
                forget_after(row["to"])
                beside.rename(folder)

    def _move(self, folder: Path, *, to: int, last: int) -> None:
        """The steps after `to` up to `last`, as far as they are there; what was sampled ahead was not trained on, and goes."""
        (folder / PROBES).mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row) + "\n" for row in steps_of(self._out) if row["step"] > to]
        (folder / STEPS).write_text("".join(lines), encoding="utf-8")
        for path in _later(self._out / ROLLOUTS, to):
            path.rename(folder / path.name) if _step(path) <= last else path.unlink()
        for path in _later(self._out / PROBES, to):
            path.rename(folder / PROBES / path.name)
        for chunks in (*_later(self._out / STATE / "chunks", to), *_later(self._out / STATE / PROBES, to)):
            shutil.rmtree(chunks)


def _later(folder: Path, step: int) -> list[Path]:
    """What is named after a step later than this one."""
    return [path for path in sorted(folder.glob("step-*")) if _step(path) > step]


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
