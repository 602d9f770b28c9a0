"""Saves at fixed steps, to which a run can go back: those of the last steps, and that of the beginning.

In: an engine's saves. Out: folders `step-000010` under the resume state. Which of them there are depends on the steps that were taken
and not on the clock, so that a run that goes back goes back to the same step whatever was killed before.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ring_model.engine import remove_save

_NAME = re.compile(r"step-(\d{6})")


@dataclass(frozen=True, slots=True)
class RestorePoints:
    """The folder of them; every rank has one, and rank 0 removes."""

    folder: Path
    every: int  # steps between two
    keep: int  # the newest that are kept, beside that of step 0

    def path(self, step: int) -> Path:
        """Folder of a step's."""
        return self.folder / f"step-{step:06d}"

    def is_due(self, step: int) -> bool:
        """Whether this step's is wanted: at the beginning (0) and every so many steps, where it is not there."""
        return step % self.every == 0 and not self.path(step).exists()

    @property
    def steps(self) -> list[int]:
        """Those that are there, in order."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("*"))
        return sorted(int(name[1]) for name in names if name)

    @property
    def newest(self) -> Path | None:
        """Folder of the last one, if there is any."""
        return self.path(self.steps[-1]) if self.steps else None

    def before(self, step: int) -> int:
        """Step of the newest one whose weights are older than the update of `step`; the beginning where there is none."""
        return max((there for there in self.steps if there < step), default=0)

    def prune(self) -> None:
        """Remove those that are no longer kept."""
        for step in [step for step in self.steps if step][: -self.keep]:
            remove_save(self.path(step))

    def forget_after(self, step: int) -> None:
        """Remove those of later steps."""
        for later in self.steps:
            if later > step:
                remove_save(self.path(later))
