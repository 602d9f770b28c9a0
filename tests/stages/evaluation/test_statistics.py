"""Intervals and tests by hand, against scipy's, and by slow second formulas."""

import math
from math import comb

import numpy as np
import pytest
import scipy.stats

from stages.evaluation.statistics import (
    POWER,
    Difference,
    Estimate,
    estimate_difference,
    estimate_mean,
    mcnemar,
    smallest_by_mcnemar,
)

Z, Z_OF_POWER = 1.959963984540054, 0.8416212335729143
VALUES = (0.25, 0.75, 1.0, 0.5, 0.0, 0.25)


def mean(*values: float, confidence: float = 0.95, clusters: str | None = None) -> Estimate:
    found = estimate_mean(np.array(values), confidence=confidence, clusters_P=clusters and list(clusters))
    assert found is not None
    return found


def difference(*values: float, confidence: float = 0.95, clusters: str | None = None) -> Difference:
    found = estimate_difference(np.array(values), confidence=confidence, clusters_P=clusters and list(clusters))
    assert found is not None
    return found


def wilson(mean: float, size: float, z: float) -> tuple[float, float]:
    """Both roots of (m - p)^2 = z^2 p (1 - p) / s, the set of truths that the mean does not reject."""
    square, linear = 1 + z**2 / size, 2 * mean + z**2 / size
    root = math.sqrt(linear**2 - 4 * square * mean**2)
    return (linear - root) / (2 * square), (linear + root) / (2 * square)


# ---------------------------------------------------------------- means


@pytest.mark.parametrize("confidence", [0.95, 0.8])
@pytest.mark.parametrize(("right", "num"), [(0, 30), (1, 30), (15, 30), (29, 30), (30, 30), (2, 100), (1, 1)])
def test_right_or_wrong_has_wilsons_interval(right: int, num: int, confidence: float) -> None:
    found = mean(*[1.0] * right, *[0.0] * (num - right), confidence=confidence)
    known = scipy.stats.binomtest(right, num).proportion_ci(confidence, method="wilson")
    assert (found.value, found.num_problems) == (right / num, num)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_mean_of_shares_has_the_interval_of_as_many_right_or_wrong_problems_as_vary_alike() -> None:
    """Values 1/4, 3/4: m = 1/2, S = 1/8, a problem more of mean 1/2: r = (1/8 + 1/4) / (3 / 4) = 1/2, so 2 count as 4."""
    found = mean(0.25, 0.75)
    student = 12.706204736  # of .975 with one degree of freedom
    assert (found.low, found.high) == pytest.approx(wilson(0.5, 4.0, student))


def test_the_problem_more_has_the_mean_of_the_others_and_of_a_half() -> None:
    """Values 0, 0, 1/2: m = 1/6, S = 1/6; the one more has (1/2 + 1/2) / 4 = 1/4: r = (1/6 + 3/16) / (4 x 5/36) = 51/80."""
    found = mean(0.0, 0.0, 0.5)
    assert (found.low, found.high) == pytest.approx(wilson(1 / 6, 3 * 80 / 51, 4.302652729911))


def test_few_values_that_hardly_differ_count_as_no_fewer_than_if_each_were_right_or_wrong() -> None:
    """Values 0 and 1/64: the one more alone would make r = 5.6; it is 1."""
    found = mean(0.0, 1 / 64)
    assert (found.low, found.high) == pytest.approx(wilson(1 / 128, 2.0, 12.706204736))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_equal_values_have_an_interval_with_a_width(value: float) -> None:
    found = mean(*[value] * 20)
    assert found.value == value
    assert found.high - found.low > 0.05
    assert found.low <= value <= found.high


def test_what_is_wrong_has_the_mirrored_interval() -> None:
    found, mirrored = mean(*VALUES), mean(*(1 - value for value in VALUES))
    assert (1 - found.high, 1 - found.low) == pytest.approx((mirrored.low, mirrored.high))


def test_a_problem_without_a_verdict_leaves_numerator_and_denominator() -> None:
    assert mean(1.0, math.nan, 0.0, 0.25, math.nan) == mean(1.0, 0.0, 0.25)
    assert mean(0.25, math.nan, 0.0, 1.0, clusters="abca") == mean(0.25, 0.0, 1.0, clusters="aca")
    assert estimate_mean(np.array([math.nan]), confidence=0.95) is None
    assert estimate_mean(np.array([]), confidence=0.95) is None


@pytest.mark.parametrize("value", [-0.25, 1.25])
def test_a_score_outside_its_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=rf"a score of {value} is not in \[0, 1\]"):
        mean(0.5, value, 0.0)


def test_a_single_share_says_nearly_nothing() -> None:
    found = mean(0.5)
    assert found.low < 0.02 and found.high > 0.98


# ---------------------------------------------------------------- means of clusters


def test_clusters_of_one_problem_are_problems_alone() -> None:
    assert mean(*VALUES, clusters="abcdef") == mean(*VALUES)
    assert mean(1.0, 0.0, 1.0, clusters="abc") == mean(1.0, 0.0, 1.0)


def test_a_mean_of_clusters_by_hand() -> None:
    """aab: m = 1/2, totals about it 1/2 and -1/2: S = 1/2; two problems more, alike, of mean (3/2 + 1) / 5 = 1/2: 4 x 1/4 = 1.

    r = (1/2 + 1) / (5 / 4) = 6/5, so 3 count as 5/2. Student's quantile with one degree of freedom.
    """
    found = mean(1.0, 0.5, 0.0, clusters="aab")
    assert (found.low, found.high) == pytest.approx(wilson(0.5, 2.5, 12.706204736))


def test_clusters_that_are_right_throughout_count_as_one_problem_each() -> None:
    found = mean(*[1.0] * 12, clusters="aaaabbbbcccc")
    student = 4.302652729911  # with two degrees of freedom
    assert found.high == 1
    assert found.low == pytest.approx(3 / (3 + student**2))


def test_problems_of_a_cluster_that_are_alike_say_less_than_as_many_alone() -> None:
    values = [1.0] * 10 + [0.0] * 10
    alone, alike = mean(*values), mean(*values, clusters="aaaaabbbbbcccccddddd")
    assert alike.high - alike.low > 1.5 * (alone.high - alone.low)


# ---------------------------------------------------------------- differences


def test_a_difference_of_right_or_wrong_has_bonett_and_prices_interval() -> None:
    """Six better, two worse, of 20: centre 4 / 22, error sqrt(6 + 2 + 2 - 16 / 22) / 22."""
    found = difference(*[1.0] * 6, *[-1.0] * 2, *[0.0] * 12)
    error = math.sqrt(10 - 16 / 22) / 22
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((4 / 22 - Z * error, 4 / 22 + Z * error))
    assert (found.num_problems, found.num_unequal) == (20, 8)
    assert found.p == mcnemar(6, 2)
    assert found.smallest == smallest_by_mcnemar(20, num_unequal=8, confidence=0.95)


def test_another_confidence_has_another_quantile() -> None:
    found = difference(1.0, -1.0, 0.0, 0.0, confidence=0.5)
    assert found.high == pytest.approx(0.6744897502 * math.sqrt(4) / 6)
    assert found.smallest is not None  # at 50 % a single coin flip is significant: chance u of one at least


def test_equal_answers_leave_room_for_a_difference() -> None:
    found = difference(*[0.0] * 30)
    assert (found.value, found.num_unequal, found.p) == (0.0, 0, 1.0)
    assert (found.low, found.high) == pytest.approx((-Z * math.sqrt(2) / 32, Z * math.sqrt(2) / 32))


def test_an_interval_of_differences_ends_where_they_do() -> None:
    assert difference(1.0, 1.0).high == 1
    assert difference(-1.0, -1.0).low == -1


def test_a_difference_of_means_goes_by_the_error_of_its_interval() -> None:
    """Values 1/2, 0, 1/4, 0: centre 3/24; about it 9, -3, 3, -3 and, for a half more and less, 9, -15 of 24ths: 414 in squares."""
    found = difference(0.5, 0.0, 0.25, 0.0)
    error = math.sqrt(414) / 24 / 6
    assert found.value == 0.1875
    assert (found.low, found.high) == pytest.approx((0.125 - Z * error, 0.125 + Z * error))
    assert found.p == pytest.approx(2 * scipy.stats.norm.sf(0.125 / error))
    assert found.smallest == pytest.approx((Z + Z_OF_POWER) * error)
    assert found.num_unequal == 2


def test_differences_of_half_the_size_have_half_the_interval() -> None:
    found, halved = difference(0.5, -0.25, 0.0, 0.75), difference(0.25, -0.125, 0.0, 0.375)
    assert (halved.low, halved.high) == pytest.approx((found.low / 2, found.high / 2))
    assert halved.p == pytest.approx(found.p)


def test_the_difference_the_other_way_round_is_the_same() -> None:
    one, other = difference(0.5, -0.25, 1.0), difference(-0.5, 0.25, -1.0)
    assert (one.low, one.high, one.p, one.smallest) == pytest.approx((-other.high, -other.low, other.p, other.smallest))


def test_differences_of_clusters_by_hand() -> None:
    """aabb: totals 2 and 0, so a cluster of 2 problems more with 2, one with -2: centre 2/8; squares of 6/4, 2/4, 6/4 and 10/4."""
    found = difference(1.0, 1.0, 1.0, -1.0, clusters="aabb")
    error = math.sqrt((36 + 4 + 36 + 100) / 16) / 8
    assert (found.value, found.num_unequal) == (0.5, 4)
    assert found.low == pytest.approx(0.25 - Z * error)
    assert found.p == pytest.approx(2 * scipy.stats.norm.sf(0.25 / error))  # not McNemar's, which is of problems alone
    assert found.smallest == pytest.approx((Z + Z_OF_POWER) * error)


def test_clusters_without_a_difference_may_differ_by_all_their_problems() -> None:
    found = difference(*[0.0] * 12, clusters="aaaabbbbcccc")
    assert found.high == pytest.approx(Z * math.sqrt(2 * 4**2) / 20)


def test_a_problem_that_was_not_judged_for_both_is_left_out() -> None:
    assert difference(1.0, math.nan, 0.0) == difference(1.0, 0.0)
    assert estimate_difference(np.array([math.nan, math.nan]), confidence=0.95) is None


# ---------------------------------------------------------------- McNemar


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [
        (0, 0, 1.0),
        (6, 0, 2 / 64),
        (0, 6, 2 / 64),
        (1, 3, 2 * (1 + 4) / 16),
        (5, 5, 1.0),
        (9, 2, 2 * (1 + 11 + 55) / 2048),
    ],
)
def test_mcnemars_p_by_hand(better: int, worse: int, p: float) -> None:
    assert mcnemar(better, worse) == pytest.approx(p)


def test_fewer_than_six_problems_show_nothing() -> None:
    assert smallest_by_mcnemar(5, num_unequal=5, confidence=0.95) is None
    assert smallest_by_mcnemar(6, num_unequal=0, confidence=0.95) == pytest.approx(POWER ** (1 / 6))  # all six differ


def test_where_two_hardly_differ_six_problems_must_all_go_one_way() -> None:
    """The chance that 6 of 40 or more differ is the distribution of Beta(6, 35)."""
    assert smallest_by_mcnemar(40, num_unequal=0, confidence=0.95) == pytest.approx(scipy.stats.beta(6, 35).ppf(0.8))


def power_by_counting(num: int, unequal: float, difference: float, *, alpha: float) -> float:
    """Sum over all counts of problems on which the one and the other alone is right."""
    better, worse = (unequal + difference) / 2, (unequal - difference) / 2
    total = 0.0
    for b in range(num + 1):
        for c in range(min(b, num - b + 1)):
            if b + c <= num and mcnemar(b, c) <= alpha:
                ways = comb(num, b) * comb(num - b, c)
                total += ways * better**b * worse**c * (1 - unequal) ** (num - b - c)
    return total


@pytest.mark.parametrize(("num", "num_unequal", "confidence"), [(30, 12, 0.95), (24, 24, 0.95), (30, 9, 0.8)])
def test_a_difference_of_the_smallest_size_is_shown_four_times_in_five(
    num: int, num_unequal: int, confidence: float
) -> None:
    found = smallest_by_mcnemar(num, num_unequal=num_unequal, confidence=confidence)
    assert found is not None and found < num_unequal / num
    assert power_by_counting(num, num_unequal / num, found, alpha=1 - confidence) == pytest.approx(0.8)


def test_more_problems_show_smaller_differences() -> None:
    found = [smallest_by_mcnemar(num, num_unequal=num // 5, confidence=0.95) for num in (30, 100, 500, 1000)]
    assert found == sorted(found, reverse=True)
    normal = (Z + Z_OF_POWER) * math.sqrt(0.2 / 1000)  # for large sets
    assert found[-1] == pytest.approx(normal, rel=0.06)
