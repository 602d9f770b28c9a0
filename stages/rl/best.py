"""The model with the most right answers to the probe, kept in best/ beside that of the end.

best/best.json says its step, its attempt and the share of right answers. On equal shares the earlier model stays. What is on disk
counts, so that a step that is taken again after a kill changes nothing, and a roll back loses no model.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from stages.stage import STATE, Row

BEST = "best"
_FILE = "best.json"


@dataclass(frozen=True, slots=True)
class Best:
    """The best model of an arm so far."""

    out: Path

    @property
    def row(self) -> Row:
        """`step`, `attempt` and `score` of the model that is there; empty where none is."""
        path = self.out / BEST / _FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def is_beaten_by(self, score: float) -> bool:
        """Whether a model with this share of right answers is better."""
        return score > self.row.get("score", -1.0)

    @property
    def beside(self) -> Path:
        """Folder for a model that is to take the place of the best one."""
        return self.out / STATE / BEST

    def clear(self) -> None:
        """Remove what a kill left beside."""
        shutil.rmtree(self.beside, ignore_errors=True)

    def keep(self, row: Row) -> None:
        """Replace the model by the one that was written beside."""
        beside, folder = self.beside, self.out / BEST
        (beside / _FILE).write_text(json.dumps(row) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)

    def metrics(self) -> dict[str, float]:
        """Its score and its step; nothing where there is none."""
        row = self.row
        return {"probe/best": row["score"], "probe/best_step": float(row["step"])} if row else {}
