"""What base, SFT and RL have in common beside a loss: the guarded update, the ledger of steps, the resume point, the model at the end.

Every rank has a `Trainer`; rank 0 writes. A stage keeps its counters in a dataclass of its own with the fields `step` and
`ledger_bytes`, which is saved with the engine: after a kill `resume` gives it back as it was at the last resume point, and
steps.jsonl is cut back to it.
"""

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from ring_model.engine import Engine, NonFiniteError, OptimizerSettings, Precision, remove_save
from ring_model.policy import Scorer
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime
from stages.imports import heavy_imports
from stages.stage import STATE, Row, StageLog
from stages.training.ledger import StepLedger, replay
from stages.training.model_card import write_card
from stages.training.restore_points import RestorePoints

_RESUME = "training"  # the engine's save under STATE
_LOGGED_POINTS = 500  # about so many points of a curve go to the tracker; steps.jsonl holds every step


class Counters(Protocol):
    """Where a run stands; a dataclass of plain values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    step: int  # finished steps
    ledger_bytes: int  # length of steps.jsonl


Progress = TypeVar("Progress", bound=Counters)


def _precision(runtime: Runtime) -> Precision:
    if runtime.precision == "auto":
        return "bfloat16" if runtime.device == "cuda" else "float32"
    return runtime.precision


class Trainer:
    """One model in training, step by step, with what is kept of it."""

    def __init__(
        self,
        engine: Engine,
        *,
        num_steps: int,
        runtime: Runtime,
        out: Path,
        log: StageLog,
        restore_points: RestorePoints | None = None,
    ) -> None:
        """Use `Trainer.start`."""
        self.engine, self.num_steps, self.runtime, self.out, self.log = engine, num_steps, runtime, out, log
        self.restore_points = restore_points
        self.timings: dict[str, float] = {}  # seconds by activity
        self.every = max(1, num_steps // _LOGGED_POINTS)
        self._last_save = time.monotonic()
        self._ledger: StepLedger

    @classmethod
    def start(
        cls,
        scorer: Scorer,
        *,
        optimizer: OptimizerSettings,
        num_steps: int,
        runtime: Runtime,
        out: Path,
        log: StageLog,
        restore_points: RestorePoints | None = None,
    ) -> "Trainer":
        """Make the engine as the runtime says. `restore_points`: where a run that may go back keeps them."""
        with heavy_imports():  # of DeepSpeed
            engine = Engine.start(
                scorer,
                optimizer=optimizer,
                zero_stage=runtime.zero_stage,
                device=runtime.device,
                precision=_precision(runtime),
                checkpoints_layers=runtime.checkpoint_layers,
            )
        return cls(engine, num_steps=num_steps, runtime=runtime, out=out, log=log, restore_points=restore_points)

    @property
    def writes(self) -> bool:
        """Whether this rank is the one that writes."""
        return self.engine.rank == 0

    def resume(self, progress: Progress) -> Progress:
        """Go on from the resume point, if there is one: its weights, optimizer and counters. Else from `progress`, a beginning."""
        saved = self.engine.load(self._resume_point)
        newest = self.engine.broadcast(self.restore_points.newest if self.restore_points is not None else None)
        if saved is None and newest is not None:
            saved = self.engine.load(newest)  # a resume point that is there is newer
        if saved is not None:
            progress = type(progress)(**saved)
            self.log.resumed(f"step {progress.step} of {self.num_steps}")
        self._ledger = StepLedger(self.out, size=progress.ledger_bytes, writes=self.writes)
        if saved is not None and self.writes:
            replay(self.out, self.log, every=self.every)
        self._last_save = time.monotonic()
        return progress

    def go_back(self, step: int, progress: type[Progress]) -> Progress:
        """Be again as after `step`, of which there is a restore point; later lines of the ledger go. All ranks call."""
        assert self.restore_points is not None
        saved = self.engine.load(self.restore_points.path(step))
        assert saved is not None
        found = progress(**saved)
        self._ledger.cut(found.ledger_bytes)
        return found

    def forget_after(self, step: int) -> None:
        """Remove weights that a run which goes back to `step` must not go on with; one rank calls."""
        assert self.restore_points is not None
        self.restore_points.forget_after(step)
        remove_save(self._resume_point)

    def apply(self, step: int, *, loss: float, learning_rate: float) -> float:
        """One optimiser step with the gradients that are there; returns their norm before clipping.

        `loss` is the step's, over all ranks.

        Raises:
            NonFiniteError: loss or norm is not finite; it is told with its step. No weight has changed.

        """
        try:
            if not math.isfinite(loss):
                raise NonFiniteError(f"the loss is {loss}")
            self.engine.set_learning_rate(learning_rate)
            return self.engine.step()
        except NonFiniteError as error:
            raise self.diverged(step, f"{error} (learning rate {learning_rate:g})") from error

    def diverged(self, step: int, what: str) -> NonFiniteError:
        """The error that ends the stage at a step whose numbers are not finite."""
        return NonFiniteError(
            f"step {step} of {self.num_steps}: {what}. Training has diverged, and nothing of this step is kept; "
            "lower the learning rate, or look at the steps before in steps.jsonl"
        )

    def write_step(self, progress: Counters, row: Row) -> None:
        """Write a line of the ledger for the step that `progress` counts as finished."""
        self._ledger.write({"step": progress.step, **row})
        progress.ledger_bytes = self._ledger.size

    def save_is_due(self) -> bool:
        """Whether this rank finds that it is time for a resume point; ranks agree on rank 0's answer."""
        return self.writes and time.monotonic() - self._last_save >= self.runtime.checkpoint_seconds

    def save(self, progress: Counters) -> None:
        """Write a resume point; all ranks call. Not after the last step, which is followed by the result itself."""
        if progress.step != self.num_steps:
            self._save(progress, self._resume_point)

    def restore_point_is_due(self, step: int) -> bool:
        """Whether a restore point is wanted after this step."""
        return self.restore_points is not None and step != self.num_steps and self.restore_points.is_due(step)

    def save_restore_point(self, progress: Counters) -> None:
        """Write one to go back to, where it is due: it serves as resume point, too. All ranks call."""
        if self.restore_points is None or not self.engine.broadcast(self.restore_point_is_due(progress.step)):
            return
        self._save(progress, self.restore_points.path(progress.step))
        if self.writes:
            self.restore_points.prune()
            remove_save(self._resume_point)
        self.engine.barrier()

    @property
    def _resume_point(self) -> Path:
        return self.out / STATE / _RESUME

    def _save(self, progress: Counters, folder: Path) -> None:
        started = time.monotonic()
        state: dict[str, Any] = self.engine.broadcast(asdict(progress))  # only rank 0 knows how long steps.jsonl is
        try:
            self.engine.save(folder, state)
        except NonFiniteError as error:
            raise self.diverged(progress.step, f"its update broke the model: {error}") from error
        self._last_save = time.monotonic()
        self.spend("save", self._last_save - started)

    def spend(self, activity: str, seconds: float) -> None:
        """Add to the timings."""
        self.timings[activity] = self.timings.get(activity, 0.0) + seconds

    def export(self, tokenizer: Tokenizer, folder: Path, *, step: int) -> None:
        """Write a model folder; all ranks call. Raises NonFiniteError where weights are not finite, as the last update can leave them."""
        try:
            self.engine.export(folder, end_ids=tokenizer.end_ids)
        except NonFiniteError as error:
            raise self.diverged(step, f"its update broke the model: {error}") from error
        if self.writes:
            tokenizer.save(folder)
            write_card(folder)
        self.engine.barrier()

    def close(self) -> None:
        """Close the ledger and leave the process group; all ranks call."""
        self._ledger.close()
        self.engine.close()
