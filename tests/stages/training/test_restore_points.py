"""Which checkpoints are wanted, kept and gone back to, by folders that are made by hand."""

from pathlib import Path

import pytest

from stages.training.restore_points import RestorePoints


def checkpoints(folder: Path, *steps: int, every: int = 10, keep: int = 2) -> RestorePoints:
    for step in steps:
        (folder / f"step-{step:06d}").mkdir(parents=True)
    return RestorePoints(folder, every=every, keep=keep)


def test_without_any_there_is_none_to_go_on_with(tmp_path: Path) -> None:
    none = checkpoints(tmp_path / "nowhere")
    assert (none.steps, none.newest, none.before(5)) == ([], None, 0)
    none.prune()
    none.forget_after(0)


def test_one_is_due_at_the_beginning_and_every_so_many_steps_where_it_is_not_there(tmp_path: Path) -> None:
    some = checkpoints(tmp_path, 10, every=5)
    assert [step for step in range(17) if some.is_due(step)] == [0, 5, 15]


def test_what_a_kill_left_of_a_save_is_none(tmp_path: Path) -> None:
    (tmp_path / "step-000010.writing").mkdir()
    (tmp_path / "step-000020.old").mkdir()
    some = checkpoints(tmp_path, 0)
    assert some.steps == [0]
    assert some.newest == tmp_path / "step-000000"


@pytest.mark.parametrize(("step", "before"), [(41, 40), (40, 30), (31, 30), (30, 0), (1, 0)])
def test_one_goes_back_to_the_newest_that_is_older_than_the_step(tmp_path: Path, step: int, before: int) -> None:
    assert checkpoints(tmp_path, 0, 30, 40).before(step) == before


@pytest.mark.parametrize(("keep", "left"), [(1, [0, 40]), (2, [0, 30, 40]), (9, [0, 10, 20, 30, 40])])
def test_the_newest_are_kept_and_that_of_the_beginning(tmp_path: Path, keep: int, left: list[int]) -> None:
    some = checkpoints(tmp_path, 0, 10, 20, 30, 40, keep=keep)
    some.prune()
    assert some.steps == left


def test_a_run_that_goes_back_forgets_what_came_after(tmp_path: Path) -> None:
    some = checkpoints(tmp_path, 0, 10, 20, 30)
    some.forget_after(10)
    assert some.steps == [0, 10]
    assert some.newest == tmp_path / "step-000010"
