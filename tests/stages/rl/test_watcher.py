"""What follows from the rules in a run: its files and words."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from stages.config import Watch
from stages.rl.attempts import Attempts
from stages.rl.watcher import Verdict, Watcher
from stages.stage import StageLog
from stages.training.restore_points import RestorePoints
from tests.stages.conftest import lines_of

FLOOR = {"kind": "entropy_floor", "limit": 0.5, "window": 2}


class Arm:
    """A watcher over steps whose entropies are given."""

    def __init__(self, out: Path, *actions: str, checkpoints: tuple[int, ...] = (0,), **values: Any) -> None:
        self.out, self.stream = out, io.StringIO()
        for step in checkpoints:
            (out / "checkpoints" / f"step-{step:06d}").mkdir(parents=True, exist_ok=True)
        watch = Watch.model_validate({"rules": [{**FLOOR, "action": action} for action in actions], **values})
        kept = RestorePoints(out / "checkpoints", every=2, keep=3)
        self.watcher = Watcher(watch, Attempts(out), kept, out, StageLog(self.stream))

    def look(self, *entropies: float) -> Verdict:
        rows = [
            {"step": step, "phase": "one", "policy/entropy": value} for step, value in enumerate(entropies, start=1)
        ]
        (self.out / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return self.watcher.look(len(entropies))

    @property
    def rows(self) -> list[dict[str, Any]]:
        return Attempts(self.out).rows

    @property
    def messages(self) -> list[str]:
        return [event["text"] for event in lines_of(self.stream)]


def test_a_warning_is_told_and_written_and_the_arm_goes_on(tmp_path: Path) -> None:
    arm = Arm(tmp_path, "warn")
    entropies = (1.0, 0.25, 0.25, 0.25, 1.0)
    verdicts = [arm.look(*entropies[:count]) for count in range(1, 6)]
    assert verdicts == [Verdict()] * 5
    found = {"rule": "entropy_floor", "value": 0.25, "limit": 0.5, "window": 2, "since": 2}
    assert arm.rows == [{"step": 3, "attempt": 0, "event": "warn", **found}]
    assert arm.messages == ["step 3: entropy_floor is 0.25 over 2 steps, below its limit of 0.5"]
    assert arm.watcher.metrics() == {"watch/warnings": 1.0, "watch/roll_backs": 0.0, "watch/abandoned_steps": 0.0}
    assert arm.watcher.notes() == ("the watch warned 1 times and rolled back 0 times, 0 steps in all: watch.jsonl",)


def test_a_stop_says_why_and_what_to_do_and_again_where_it_is_run_again(tmp_path: Path) -> None:
    for _ in range(2):
        verdict = Arm(tmp_path, "stop").look(0.25, 0.25)
        assert verdict.back_to is None
        assert verdict.stop.startswith(
            "step 2: entropy_floor is 0.25 over 2 steps, below its limit of 0.5. The arm stops here, "
        )
        assert "as rl.watch.rules wants it" in verdict.stop and "the same recipe stops here again" in verdict.stop
    assert [row["event"] for row in Arm(tmp_path, "stop").rows] == ["stop"]


@pytest.mark.parametrize(("num_steps", "to"), [(2, 0), (3, 0), (4, 2), (5, 2)])
def test_a_roll_back_goes_to_the_last_checkpoint_before_the_window(tmp_path: Path, num_steps: int, to: int) -> None:
    """The window begins with the last step but one; a checkpoint after it has seen a bad value."""
    arm = Arm(tmp_path, "roll_back", checkpoints=(0, 2, 4))
    assert arm.look(*[1.0] * (num_steps - 2), 0.0, 0.0) == Verdict(back_to=to)
    assert arm.rows == [
        {
            "step": num_steps, "attempt": 0, "event": "roll back", "rule": "entropy_floor", "value": 0.0, "limit": 0.5,
            "window": 2, "since": num_steps - 1, "to": to,
        }
    ]  # fmt: skip
    assert arm.messages[0].endswith(f"; back to step {to}, attempt 2 of at most 3")
    assert arm.watcher.metrics()["watch/abandoned_steps"] == num_steps - to


def test_the_last_attempt_stops_at_what_rolls_back(tmp_path: Path) -> None:
    arm = Arm(tmp_path, "roll_back", max_attempts=2)
    assert arm.look(0.25, 0.25) == Verdict(back_to=0)
    verdict = arm.look(0.125, 0.25)
    assert verdict.back_to is None
    assert "because rl.watch.max_attempts = 2 attempts came to this" in verdict.stop
    assert [(row["event"], row["attempt"]) for row in arm.rows] == [("roll back", 0), ("stop", 1)]


def test_one_attempt_never_rolls_back(tmp_path: Path) -> None:
    assert Arm(tmp_path, "roll_back", max_attempts=1).look(0.25, 0.25).stop


def test_without_a_rule_no_file_is_read_and_there_is_nothing_to_say(tmp_path: Path) -> None:
    watcher = Arm(tmp_path).watcher
    assert watcher.look(1) == Verdict()
    assert (watcher.metrics(), watcher.notes()) == ({}, ())
