"""The decisions of an arm and the steps it left, with files that are made by hand."""

import json
from pathlib import Path

import pytest

from stages.rl.attempts import ABANDONED, ROLL_BACK, WATCH, Attempts


def arm(out: Path, *, steps: int) -> Path:
    """What an arm has after so many steps; every second one has a probe."""
    lines = [json.dumps({"step": step, "train/loss": 0.1 * step}) + "\n" for step in range(1, steps + 1)]
    out.mkdir()
    (out / "steps.jsonl").write_text("".join(lines))
    for step in range(1, steps + 1):
        write(out / "rollouts" / f"step-{step:06d}.parquet", f"rows {step}")
    for step in range(0, steps + 1, 2):
        write(out / "probes" / f"step-{step:06d}.parquet", f"probe {step}")
        write(out / ".state" / "probes" / f"step-{step:06d}" / "0000000.arrow", "chunk")
    write(out / ".state" / "chunks" / f"step-{steps:06d}" / "0000.arrow", "chunk")
    return out


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def rolled_back(out: Path, *backs: tuple[int, int]) -> Attempts:
    """An arm that rolled back after steps to others."""
    attempts = Attempts(out)
    for step, to in backs:
        attempts.note(step, ROLL_BACK, to=to)
    return attempts


# ---------------------------------------------------------------- decisions


def test_a_decision_is_written_once_however_often_its_step_is_taken(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    assert attempts.note(3, "warn", rule="repetition", value=0.25)
    assert not attempts.note(3, "warn", rule="repetition", value=0.25)
    assert attempts.note(3, "warn", rule="mismatch", value=0.25)
    again = Attempts(tmp_path)
    assert not again.note(3, "warn", rule="mismatch", value=0.25)
    assert again.rows == attempts.rows
    assert (tmp_path / WATCH).read_text().splitlines()[0] == (
        '{"step": 3, "attempt": 0, "event": "warn", "rule": "repetition", "value": 0.25}'
    )


def test_an_arm_without_a_decision_has_no_file(tmp_path: Path) -> None:
    assert Attempts(tmp_path).rows == []
    assert not (tmp_path / WATCH).exists()


def test_the_piece_of_a_line_that_a_kill_left_is_written_anew(tmp_path: Path) -> None:
    Attempts(tmp_path).note(3, "warn")
    whole = (tmp_path / WATCH).read_bytes()
    Attempts(tmp_path).note(4, "stop")
    both = (tmp_path / WATCH).read_bytes()
    for length in range(len(whole), len(both)):
        (tmp_path / WATCH).write_bytes(both[:length])
        attempts = Attempts(tmp_path)
        assert (tmp_path / WATCH).read_bytes() == whole
        attempts.note(4, "stop")
        assert (tmp_path / WATCH).read_bytes() == both


@pytest.mark.parametrize(
    ("backs", "attempt_of"),
    [
        ((), [0, 0, 0, 0, 0, 0, 0, 0]),
        (((6, 4),), [0, 0, 0, 0, 1, 1, 1, 1]),
        (((6, 4), (7, 6)), [0, 0, 0, 0, 1, 1, 2, 2]),
        (((6, 4), (5, 4)), [0, 0, 0, 0, 2, 2, 2, 2]),  # attempt 1 has no step that stayed
        (((6, 4), (7, 2)), [0, 0, 2, 2, 2, 2, 2, 2]),
        (((6, 4), (7, 2), (8, 7)), [0, 0, 2, 2, 2, 2, 2, 3]),
        (((3, 0),), [1, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_a_step_belongs_to_the_last_attempt_that_began_before_it(tmp_path: Path, backs, attempt_of: list[int]) -> None:
    attempts = rolled_back(tmp_path, *backs)
    assert [attempts.of(step) for step in range(1, 9)] == attempt_of


def test_a_decision_says_the_attempt_of_its_step(tmp_path: Path) -> None:
    attempts = rolled_back(tmp_path, (6, 4), (7, 5))
    attempts.note(8, "warn")
    attempts.note(4, "warn")
    assert [row["attempt"] for row in attempts.rows] == [0, 1, 2, 0]


# ---------------------------------------------------------------- what an attempt leaves


def test_steps_that_were_left_are_moved_with_their_lines_and_probes(tmp_path: Path) -> None:
    out, forgotten = arm(tmp_path / "arm", steps=5), []
    rolled_back(out, (5, 2)).settle(forget_after=forgotten.append)
    assert forgotten == [2]
    assert sorted(path.name for path in (out / "rollouts").iterdir()) == ["step-000001.parquet", "step-000002.parquet"]
    assert sorted(path.name for path in (out / "probes").iterdir()) == ["step-000000.parquet", "step-000002.parquet"]
    assert sorted(path.name for path in (out / ".state" / "probes").iterdir()) == ["step-000000", "step-000002"]
    assert not list((out / ".state" / "chunks").iterdir())
    assert files(out / ABANDONED) == {
        "attempt-00/probes/step-000004.parquet": "probe 4",
        "attempt-00/step-000003.parquet": "rows 3",
        "attempt-00/step-000004.parquet": "rows 4",
        "attempt-00/step-000005.parquet": "rows 5",
        "attempt-00/steps.jsonl": "".join((out / "steps.jsonl").read_text().splitlines(keepends=True)[2:]),
    }


def test_what_is_settled_is_left_alone(tmp_path: Path) -> None:
    out, forgotten = arm(tmp_path / "arm", steps=5), []
    rolled_back(out, (5, 2)).settle(forget_after=forgotten.append)
    before = files(out)
    Attempts(out).settle(forget_after=forgotten.append)
    assert files(out) == before
    assert forgotten == [2]


def test_every_attempt_has_a_folder_of_its_own(tmp_path: Path) -> None:
    out = arm(tmp_path / "arm", steps=5)
    rolled_back(out, (5, 4)).settle(forget_after=lambda step: None)
    write(out / "rollouts" / "step-000005.parquet", "other rows 5")
    rolled_back(out, (5, 4)).settle(forget_after=lambda step: None)
    assert {
        name: text for name, text in files(out / ABANDONED).items() if "rollouts" not in name and "00000" in name
    } == {
        "attempt-00/step-000005.parquet": "rows 5",
        "attempt-01/step-000005.parquet": "other rows 5",
    }


class KilledError(Exception):
    pass


@pytest.mark.parametrize("moment", range(12))
def test_a_roll_back_that_was_killed_is_finished(tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before one of the renames, or before the weights go."""
    straight, killed = arm(tmp_path / "straight", steps=5), arm(tmp_path / "killed", steps=5)
    rolled_back(straight, (5, 1)).settle(forget_after=lambda step: None)
    attempts, left, rename = rolled_back(killed, (5, 1)), [moment], Path.rename

    def count_down(path: Path, target: Path) -> Path:
        if left[0] == 0:
            raise KilledError
        left[0] -= 1
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", count_down)
    num_renames = 4 + 2 + 1  # rollouts 2 to 5, probes 2 and 4, the folder
    if moment < num_renames:
        with pytest.raises(KilledError):
            attempts.settle(forget_after=lambda step: None)
    else:
        attempts.settle(forget_after=lambda step: None)
    monkeypatch.undo()
    forgotten: list[int] = []
    Attempts(killed).settle(forget_after=forgotten.append)
    assert files(killed) == files(straight)
    assert forgotten == ([1] if moment < num_renames else [])
