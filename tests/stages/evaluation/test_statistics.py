"""The bootstrap against a slow loop."""

import math

import numpy as np
import pytest

from stages.evaluation.statistics import estimate_mean


def test_interval_agrees_with_a_slow_bootstrap() -> None:
    values = np.array([0.0, 0.25, 0.5, 1.0, 1.0, 0.75, 0.0, 0.25] * 6)
    estimate = estimate_mean(values, seed=3, num_resamples=4000, confidence=0.95)
    rng = np.random.default_rng(17)
    means = sorted(sum(rng.choice(values) for _ in values) / len(values) for _ in range(2000))
    assert estimate is not None
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(means[50], abs=0.02)
    assert estimate.high == pytest.approx(means[1950], abs=0.02)


def test_same_seed_same_interval() -> None:
    values = np.arange(20) / 20
    assert estimate_mean(values, seed=1, num_resamples=199, confidence=0.9) == estimate_mean(
        values, seed=1, num_resamples=199, confidence=0.9
    )


def test_a_problem_without_a_verdict_leaves_numerator_and_denominator() -> None:
    estimate = estimate_mean(np.array([1.0, math.nan, 0.0, math.nan]), seed=0, num_resamples=99, confidence=0.95)
    assert estimate is not None
    assert (estimate.value, estimate.num_problems) == (0.5, 2)
    assert estimate_mean(np.array([math.nan]), seed=0, num_resamples=99, confidence=0.95) is None


def test_equal_values_have_an_interval_of_one_point() -> None:
    estimate = estimate_mean(np.ones(5), seed=0, num_resamples=99, confidence=0.95)
    assert estimate is not None
    assert (estimate.low, estimate.high) == (1.0, 1.0)
