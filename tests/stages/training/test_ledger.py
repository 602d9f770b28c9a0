"""steps.jsonl: a line a step, cut back to the resume point, and what is read from it."""

import io
import json
from pathlib import Path

import pytest

from stages.stage import StageLog
from stages.training.ledger import (
    STEPS,
    StepLedger,
    flops_spent,
    last_steps,
    replay,
    steps_of,
    tokens_trained,
)
from tests.stages.conftest import lines_of


def written(out: Path, *rows: dict, size: int = 0) -> int:
    ledger = StepLedger(out, size=size, writes=True)
    for row in rows:
        ledger.write(row)
    ledger.close()
    return ledger.size


def test_a_line_a_step_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    ledger = StepLedger(tmp_path, size=0, writes=True)
    for step in (1, 2):
        ledger.write({"step": step, "train/loss": 0.1, "phase": "größer"})
        assert list(steps_of(tmp_path))[-1] == {"step": step, "train/loss": 0.1, "phase": "größer"}
        assert ledger.size == (tmp_path / STEPS).stat().st_size
    ledger.close()


def test_a_resumed_ledger_is_cut_back_to_its_resume_point_and_goes_on_behind_it(tmp_path: Path) -> None:
    size = written(tmp_path, {"step": 1}, {"step": 2})
    end = written(tmp_path, {"step": 3, "of": "the run that was killed"}, {"step": 4}, size=size)
    assert end > size
    again = StepLedger(tmp_path, size=size, writes=True)
    assert [row["step"] for row in steps_of(tmp_path)] == [1, 2]
    again.write({"step": 3})
    again.close()
    assert list(steps_of(tmp_path)) == [{"step": 1}, {"step": 2}, {"step": 3}]
    assert again.size == (tmp_path / STEPS).stat().st_size


def test_a_beginning_leaves_nothing_of_a_run_before_it(tmp_path: Path) -> None:
    written(tmp_path, {"step": 1})
    written(tmp_path)
    assert list(steps_of(tmp_path)) == []


def test_a_ledger_that_is_cut_goes_on_behind_the_cut(tmp_path: Path) -> None:
    size = written(tmp_path, {"step": 1})
    ledger = StepLedger(tmp_path, size=size, writes=True)
    ledger.write({"step": 2, "of": "an attempt that was left"})
    ledger.cut(size)
    assert ledger.size == size
    ledger.write({"step": 2})
    ledger.close()
    assert list(steps_of(tmp_path)) == [{"step": 1}, {"step": 2}]
    assert ledger.size == (tmp_path / STEPS).stat().st_size


@pytest.mark.parametrize(("count", "steps"), [(0, []), (1, [3]), (2, [2, 3]), (3, [1, 2, 3]), (9, [1, 2, 3])])
def test_the_last_lines_are_read_in_order(tmp_path: Path, count: int, steps: list[int]) -> None:
    written(tmp_path, *({"step": step} for step in (1, 2, 3)))
    assert [row["step"] for row in last_steps(tmp_path, count)] == steps


def test_a_rank_that_does_not_write_makes_no_file_and_counts_no_byte(tmp_path: Path) -> None:
    ledger = StepLedger(tmp_path, size=7, writes=False)
    ledger.write({"step": 1})
    ledger.close()
    assert ledger.size == 7
    assert not (tmp_path / STEPS).exists()


def test_a_closed_ledger_is_closed(tmp_path: Path) -> None:
    ledger = StepLedger(tmp_path, size=0, writes=True)
    ledger.close()
    with pytest.raises(ValueError, match="closed file"):
        ledger.write({"step": 1})
    assert (tmp_path / STEPS).read_text() == ""


def replayed(out: Path, **every: int) -> list[tuple[int, dict]]:
    events = io.StringIO()
    replay(out, StageLog(events), **every)
    lines = lines_of(events)
    assert {line["event"] for line in lines} <= {"metrics"}
    return [(line["step"], line["values"]) for line in lines]


def test_a_replay_tells_the_metrics_of_every_so_manieth_step_and_nothing_else(tmp_path: Path) -> None:
    written(tmp_path, *({"step": step, "phase": "one", "train/loss": step / 10} for step in range(1, 7)))
    assert replayed(tmp_path, every=3) == [(3, {"train/loss": 0.3}), (6, {"train/loss": 0.6})]
    assert replayed(tmp_path) == [(step, {"train/loss": step / 10}) for step in range(1, 7)]


def test_the_tokens_of_a_run_are_those_of_its_last_step(tmp_path: Path) -> None:
    written(tmp_path, *({"step": step, "tokens/trained": 10.0 * step} for step in (1, 2, 3)))
    assert tokens_trained(tmp_path) == 30
    written(tmp_path)
    assert tokens_trained(tmp_path) == 0


def test_the_flops_of_a_run_are_those_of_its_last_step(tmp_path: Path) -> None:
    written(tmp_path, {"step": 1, "compute/total_flops": 5.0}, {"step": 2, "compute/total_flops": 1.5e12})
    assert flops_spent(tmp_path) == 1.5e12
    written(tmp_path)
    assert flops_spent(tmp_path) == 0


def test_a_line_is_one_json_object(tmp_path: Path) -> None:
    written(tmp_path, {"step": 1, "text": "two\nlines"}, {"step": 2})
    lines = (tmp_path / STEPS).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
