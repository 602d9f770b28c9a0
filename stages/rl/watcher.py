"""What follows from the rules of the recipe after each step of an arm: warnings are told, and the arm goes on, stops, or goes back.

Rank 0 has a `Watcher`; it reads the last lines of steps.jsonl and writes its decisions into watch.jsonl. The same recipe stops at the
same step again when it is run again: the rules, or what drives the figures, must change.
"""

from dataclasses import dataclass
from pathlib import Path

from stages.config import Watch
from stages.rl.attempts import ROLL_BACK, Attempts
from stages.rl.watch import Finding, decide, rows_needed
from stages.stage import STATE, StageLog
from stages.training.ledger import last_steps
from stages.training.restore_points import RestorePoints
from stages.training.trainer import Trainer


def restore_points_of(watch: Watch, out: Path) -> RestorePoints | None:
    """Where an arm keeps what it may go back to; None where no rule rolls back."""
    if not watch.rolls_back:
        return None
    return RestorePoints(out / STATE / "restore-points", every=watch.checkpoint_every, keep=watch.keep)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What every rank does after a step."""

    back_to: int | None = None  # step to go back to
    stop: str = ""  # why the arm stops; empty: it does not


@dataclass(frozen=True, slots=True)
class Watcher:
    """Applies the rules."""

    config: Watch
    attempts: Attempts
    restore_points: RestorePoints | None  # None where no rule rolls back
    out: Path
    log: StageLog

    @classmethod
    def start(cls, config: Watch, trainer: Trainer) -> "Watcher":
        """Before the trainer resumes: what a kill left of a roll back is done."""
        attempts = Attempts(trainer.out)
        attempts.settle(forget_after=trainer.forget_after)
        if trainer.restore_points is not None:
            trainer.restore_points.prune()
        return cls(config, attempts, trainer.restore_points, trainer.out, trainer.log)

    def look(self, step: int) -> Verdict:
        """Decide on the ledger, whose last line is that of `step`."""
        if not self.config.rules:
            return Verdict()
        decision = decide(last_steps(self.out, rows_needed(self.config.rules)), self.config.rules)
        for finding in decision.warnings:
            self.attempts.note(step, "warn", **finding.row)
            self.log.message(f"step {step}: {finding.words}")
        return Verdict() if decision.ends is None else self._end(step, decision.ends)

    def _end(self, step: int, finding: Finding) -> Verdict:
        attempt = len(self.attempts.roll_backs) + 1
        if finding.rule.action == "stop" or attempt >= self.config.max_attempts:
            self.attempts.note(step, "stop", **finding.row)
            return Verdict(stop=self._reason(step, finding))
        assert self.restore_points is not None
        to = self.restore_points.before(finding.reading.since)
        self.attempts.note(step, ROLL_BACK, **finding.row, to=to)
        self.log.message(
            f"step {step}: {finding.words}; back to step {to}, attempt {attempt + 1} of at most {self.config.max_attempts}"
        )
        return Verdict(back_to=to)

    def _reason(self, step: int, finding: Finding) -> str:
        why = "as rl.watch.rules wants it"
        if finding.rule.action == "roll_back":
            why = f"because rl.watch.max_attempts = {self.config.max_attempts} attempts came to this"
        return (
            f"step {step}: {finding.words}. The arm stops here, {why}; all that it made is kept, and the same recipe stops here again: "
            "look at steps.jsonl and watch.jsonl, then change what drives the figure, or the rule"
        )

    def metrics(self) -> dict[str, float]:
        """Of the whole arm; nothing where nothing is watched."""
        if not self.config.rules:
            return {}
        backs = self.attempts.roll_backs
        return {
            "watch/warnings": float(sum(row["event"] == "warn" for row in self.attempts.rows)),
            "watch/roll_backs": float(len(backs)),
            "watch/abandoned_steps": float(sum(row["step"] - row["to"] for row in backs)),
        }

    def notes(self) -> tuple[str, ...]:
        """Sentences that a reader must see."""
        found = self.metrics()
        if not any(found.values()):
            return ()
        return (
            f"the watch warned {found['watch/warnings']:.0f} times and rolled back {found['watch/roll_backs']:.0f} times, "
            f"{found['watch/abandoned_steps']:.0f} steps in all: watch.jsonl",
        )
