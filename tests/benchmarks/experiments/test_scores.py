"""Scores of models and their differences, by hand."""

import math

import pyarrow as pa
import pytest

from benchmarks.experiments.scores import Scores, scores_by_model

NAN = math.nan
SCORES = Scores(
    {
        ("new", "greedy"): {"a": 1.0, "b": 0.0, "c": 1.0, "d": NAN},
        ("old", "greedy"): {"a": 0.0, "b": 0.0, "c": NAN, "d": 1.0},
    },
    {"all": ["a", "b", "c", "d"], "math": ["a", "b"], "code": ["d"]},
)


def test_a_mean_is_over_the_problems_that_were_judged() -> None:
    assert SCORES.mean("new", "greedy") == pytest.approx(2 / 3)
    assert SCORES.mean("old", "greedy", "math") == 0.0
    assert math.isnan(SCORES.mean("new", "greedy", "code"))


def test_a_difference_is_of_the_problems_that_were_judged_for_both() -> None:
    assert SCORES.differences("new", "old", "greedy") == [1.0, 0.0]
    assert SCORES.differences("old", "new", "greedy", "math") == [-1.0, 0.0]
    assert SCORES.differences("new", "old", "greedy", "code") == []


def test_samples_become_means_by_model_metric_and_problem() -> None:
    rows = [
        ("m", "a", -1, "correct", 1.0),
        ("m", "a", 0, "correct", 1.0),
        ("m", "a", 1, "wrong", 0.0),
        ("m", "b", -1, "judge_error", 0.0),
        ("m", "b", 0, "wrong", 0.0),
        ("m", "b", 1, "judge_error", 0.0),
        ("other", "a", -1, "wrong", 0.0),
    ]
    names = ("model", "problem_id", "sample", "status", "score")
    found = scores_by_model(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), ["m"])
    assert found.keys() == {("m", "greedy"), ("m", "pass@1")}
    assert found["m", "greedy"]["a"] == 1.0
    assert math.isnan(found["m", "greedy"]["b"])
    assert found["m", "pass@1"] == {"a": 0.5, "b": 0.0}
