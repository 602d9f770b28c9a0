"""Figures of steps, by hand."""

import pytest

from benchmarks.experiments.steps import curve, points, spreads

ROWS = [
    {"step": 1, "reward/mean": 0.25, "budget/tokens_used": 40.0, "seconds": 1.0},
    {"step": 2, "budget/tokens_used": 40.0, "train/gradient_norm": 2.0, "seconds": 3.0},
    {"step": 3, "reward/mean": 0.75, "budget/tokens_used": 40.0, "train/gradient_norm": None},
]


def test_a_step_without_a_value_is_no_point() -> None:
    assert points(ROWS, "reward/mean") == {1: 0.25, 3: 0.75}
    assert points(ROWS, "train/gradient_norm") == {2: 2.0}


def test_spreads_are_over_the_steps_that_have_a_value() -> None:
    found = spreads(ROWS)
    assert (found["reward"].mean, found["tokens trained on"].variation) == (0.5, 0.0)
    assert found["seconds"].variation == pytest.approx(2**0.5 / 2)


def test_a_curve_is_the_mean_over_blocks_and_seeds() -> None:
    seeds = [{1: 1.0, 2: 3.0, 3: 5.0, 4: 7.0}, {1: 3.0, 2: 5.0, 4: 9.0}]
    assert curve(seeds, num_points=2) == [(2, 3.0), (4, 7.0)]
    assert curve(seeds) == [(1, 2.0), (2, 4.0), (3, 5.0), (4, 8.0)]
    assert curve([{}, {}]) == []
