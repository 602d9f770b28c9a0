"""What every stage takes and gives: `run(config, *, inputs, runtime, out, log) -> StageRecord`.

`inputs` maps the name of an input (`curation`, `sft`, `rl/mixed`, ...) to the folder of its sealed artifact. A stage writes
only under `out`; what it needs to resume after a kill it keeps under `out / STATE`, which is removed when the result is
sealed. `log` carries progress, metrics and messages to whoever started the stage, as JSON lines.
"""

import json
import time
from dataclasses import dataclass, field
from typing import Any, TextIO

STATE = ".state"
ROLLOUTS = "rollouts"  # folder of an RL arm's journal: a file a step
Row = dict[str, Any]  # one row of a table for people: text, numbers or None


def step_file(step: int) -> str:
    """Name of the file that holds the responses of a step."""
    return f"step-{step:06d}.parquet"


@dataclass(frozen=True, slots=True)
class StageRecord:
    """What a stage has to say about its result, besides the files.

    metrics: `group/name` -> value, the same for the same inputs and seed.
    tables: name -> rows of equal keys, for the terminal, MLflow and the report; sealed as tables.json.
    notes: sentences a reader must see (no checkpoint inside the window, budget under-filled, ...).
    timings: seconds by activity; they go to the manifest, never into a data file.
    """

    metrics: dict[str, float]
    tables: dict[str, list[Row]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)


class StageLog:
    """Writes events as JSON lines; progress at most five times a second. Rank 0 writes, other ranks get `stream=None`."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._last_progress = 0.0

    def progress(self, done: int, total: int, *, unit: str, detail: str = "") -> None:
        """`done` of `total` units are finished; the reader works out rate and time left."""
        now = time.monotonic()
        if done < total and now - self._last_progress < 0.2:
            return
        self._last_progress = now
        self._write({"event": "progress", "done": done, "total": total, "unit": unit, "detail": detail})

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Per-step metrics (`group/name`), timings included; they go to MLflow."""
        self._write({"event": "metrics", "step": step, "values": values})

    def message(self, text: str) -> None:
        """One line that a person should see."""
        self._write({"event": "message", "text": text})

    def resumed(self, text: str) -> None:
        """Say that the stage goes on from an earlier step rather than from the start."""
        self._write({"event": "resumed", "text": text})

    def error(self, text: str) -> None:
        """The reason for which the stage stops, and which a user can mend."""
        self._write({"event": "error", "text": text})

    def failure(self, text: str) -> None:
        """The reason for which the stage stops, where it is none of the user's."""
        self._write({"event": "failure", "text": text})

    def _write(self, event: Row) -> None:
        if self._stream is not None:
            self._stream.write(json.dumps(event) + "\n")
            self._stream.flush()
