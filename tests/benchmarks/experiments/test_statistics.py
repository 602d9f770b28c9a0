"""What may be said of numbers, by hand."""

import math

import numpy as np
import pytest

from benchmarks.experiments.statistics import difference_estimate, mean_estimate, spread, standard_error, t_interval


def test_a_spread_is_the_mean_and_the_sample_deviation_over_it() -> None:
    found = spread([2.0, 4.0, 6.0])  # deviations -2, 0, 2: variance 8 / 2
    assert (found.mean, found.variation) == (4.0, 0.5)
    assert spread([-2.0, -4.0, -6.0]).variation == 0.5
    assert spread([3.0, 3.0]).variation == 0.0


@pytest.mark.parametrize("values", [[], [5.0], [-1.0, 1.0]])
def test_a_variation_that_has_no_meaning_is_no_number(values: list[float]) -> None:
    assert math.isnan(spread(values).variation)


def test_the_mean_of_nothing_is_no_number() -> None:
    assert math.isnan(spread([]).mean)


def test_a_standard_error_by_hand() -> None:
    assert standard_error([0.0, 1.0, 1.0, 0.0]) == pytest.approx(math.sqrt(1 / 3) / 2)
    assert math.isnan(standard_error([1.0]))


def test_equal_values_over_seeds_have_no_interval() -> None:
    assert t_interval([0.5, 0.5]) is None


def test_what_would_have_been_visible_is_28_standard_errors_in_ten() -> None:
    found = difference_estimate([0.5, -0.5, 0.0, 0.0] * 25)  # 50 differences of a half, and one more on each side
    assert found is not None
    error = math.sqrt(52 / 4) / 102
    assert found.smallest == pytest.approx((1.959964 + 0.841621) * error, rel=1e-6)


def test_a_difference_of_the_smallest_visible_size_is_found_four_times_in_five() -> None:
    """By drawing: normal differences of a deviation of .1 with a true mean of that size; the interval adds a little to their spread."""
    rng = np.random.default_rng(0)
    differences = rng.normal(scale=0.1, size=400)
    found = difference_estimate([*(differences - differences.mean())])
    assert found is not None and found.smallest is not None
    means = rng.normal(scale=0.1, size=(4000, 400)).mean(1) + found.smallest
    assert (means / (0.1 / 20) > 1.959964).mean() == pytest.approx(0.82, abs=0.03)


def test_an_interval_over_three_seeds_is_students() -> None:
    found = t_interval([1.0, 2.0, 3.0])  # t of .975 with 2 degrees of freedom: 4.3027
    assert found is not None
    assert found.value == 2.0
    assert found.high - 2.0 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert 2.0 - found.low == pytest.approx(found.high - 2.0)


def test_one_seed_has_no_interval() -> None:
    assert t_interval([1.0]) is None


def test_a_mean_leaves_out_what_the_judge_failed_on() -> None:
    found = mean_estimate([1.0, math.nan, 0.0, 1.0, 0.0])
    assert found is not None
    assert (found.value, found.num_problems) == (0.5, 4)
    assert found.low < 0.5 < found.high
    assert mean_estimate([math.nan]) is None
