"""What may be said of numbers, by hand."""

import math

import numpy as np
import pytest

from benchmarks.experiments.statistics import mean_estimate, smallest_visible, spread, standard_error, t_interval


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


def test_equal_differences_do_not_say_what_would_have_been_visible() -> None:
    assert math.isnan(smallest_visible([0.0, 0.0, 0.0]))
    assert t_interval([0.5, 0.5]) is None


def test_the_smallest_visible_difference_is_28_standard_errors_in_ten() -> None:
    differences = [1.0, -1.0, 0.0, 0.0] * 25  # variance 50 / 99
    error = math.sqrt(50 / 99) / 10
    assert smallest_visible(differences) == pytest.approx((1.959964 + 0.841621) * error, rel=1e-6)


def test_a_difference_of_the_smallest_visible_size_is_found_four_times_in_five() -> None:
    """By drawing: normal differences of unit deviation with a true mean of that size, tested at 5 %."""
    shifted = np.random.default_rng(0).normal(size=(4000, 400)) + smallest_visible([1.0, -1.0] * 200)
    z = shifted.mean(1) / (shifted.std(1, ddof=1) / 20)
    assert (np.abs(z) > 1.959964).mean() == pytest.approx(0.8, abs=0.02)


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
