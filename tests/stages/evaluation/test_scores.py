"""Scores by problem from judged samples, worked by hand."""

import math
from collections.abc import Sequence

import pyarrow as pa
import pytest

from data.schema import Problem
from stages.evaluation.scores import model_scores, result_rows, shown_samples, with_model
from tests.stages.rl.scripted import samples


def verdicts(**by_problem: str) -> list[dict]:
    """Rows of samples: + right, - wrong, ! the judge failed."""
    statuses = {"+": "correct", "-": "wrong", "!": "judge_error"}
    return [
        {"problem_id": name, "sample": number, "status": statuses[mark], "extracted": mark}
        for name, marks in by_problem.items()
        for number, mark in enumerate(marks)
    ]


def scored(num_samples: int, **by_problem: str) -> dict[str, dict[str, float]]:
    greedy, sampled = samples(verdicts(p="+", q="-", r="!")), samples(verdicts(**by_problem))
    return model_scores(greedy, sampled, num_samples=num_samples)


def test_scores_of_a_model_by_hand() -> None:
    found = scored(6, p="+-----", q="++++--", r="+!----")
    assert list(found) == ["greedy", "pass@1", "pass@4", "pass@6", "maj@6"]
    assert (found["greedy"]["p"], found["greedy"]["q"]) == (1, 0)
    assert found["pass@1"] == pytest.approx({"p": 1 / 6, "q": 4 / 6, "r": 1 / 5})
    assert found["pass@4"] == pytest.approx({"p": 4 / 6, "q": 1.0, "r": 4 / 5})
    assert (found["maj@6"]["p"], found["maj@6"]["q"]) == (0, 1)
    unknown = (found["greedy"], found["pass@6"], found["maj@6"])
    assert all(math.isnan(values["r"]) for values in unknown)


@pytest.mark.parametrize(
    ("num_samples", "metrics"),
    [
        (1, ("greedy", "pass@1")),
        (2, ("greedy", "pass@1", "pass@2")),
        (3, ("greedy", "pass@1", "pass@3", "maj@3")),
        (4, ("greedy", "pass@1", "pass@4", "maj@4")),
        (17, ("greedy", "pass@1", "pass@4", "pass@16", "pass@17", "maj@17")),
    ],
)
def test_the_metrics_that_so_many_samples_give(num_samples: int, metrics: Sequence[str]) -> None:
    assert tuple(scored(num_samples, p="+")) == metrics


def test_a_group_may_have_a_slash_in_its_name() -> None:
    assert result_rows({"arm/set/one/pass@1": {"value": 0.5}}) == [
        {"model": "arm", "group": "set/one", "metric": "pass@1", "value": 0.5}
    ]


def test_a_few_problems_from_the_whole_set_are_shown_with_every_models_greedy_response() -> None:
    problems = [Problem(f"p{number:02d}", "math", "heldout", f"p{number:02d} please", "8") for number in range(20)]
    rows = samples([{"problem_id": one.id, "status": "wrong", "extracted": "7", "response": "r"} for one in problems])
    shown = shown_samples({"b": rows, "a": rows}, problems)
    assert [row["problem"] for row in shown[::2]] == [f"p{number:02d}" for number in range(0, 16, 2)]
    assert [row["model"] for row in shown[:2]] == ["b", "a"]
    first = {"problem": "p00", "prompt": "p00 please", "model": "b", "status": "wrong", "extracted": "7"}
    assert shown[0] == first | {"response": "r"}
    few = shown_samples({"a": rows.slice(0, 3)}, problems[:3])
    assert [row["problem"] for row in few] == ["p00", "p01", "p02"]


def test_every_row_says_whose_it_is() -> None:
    one, two = (pa.table({"problem_id": ids}) for ids in (["p"], ["p", "q"]))
    assert with_model([one, two], ["sft", "arm"])["model"].to_pylist() == ["sft", "arm", "arm"]
