"""From values by problem to figures with intervals, and to what a comparison of two models can tell (paper 4.1.2).

In: a number a problem, NaN where it has no usable verdict (the judge failed): it leaves numerator and denominator. Problems that are
drawn together (a contest, an exam paper) may be named as clusters. Out: one rule a kind, each in closed form; what they cover where the
truth is known is printed by `python -m benchmarks coverage`.

- A mean of values in [0, 1]: Wilson's score interval (1927) for the number of right-or-wrong problems that would vary as much, with the
  variance of one further problem mixed in. For right-or-wrong values it is Wilson's interval itself.
- A paired difference, values in [-1, 1]: Bonett and Price's interval (2012), which adds a problem to each side. For means over samples
  the added problems differ as much as the most different one.

The percentile bootstrap is neither: it covers 45 % of the truths where 30 problems are solved with a chance of 2 %.

Legend: _P problems, _C clusters (problems that stand alone are clusters of one), _M numbers of problems on which two models differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.stats
from scipy.special import ndtr, ndtri, stdtrit

POWER = 0.8  # chance to show a difference of the size that is named
_NEARLY_NOTHING = 1e-9  # a difference that no set shows


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems with its interval."""

    value: float
    low: float
    high: float
    num_problems: int  # that were judged


@dataclass(frozen=True, slots=True)
class Difference(Estimate):
    """A mean of paired differences with its interval, and what the problems could have shown."""

    num_unequal: int  # problems on which the two differ
    p: float  # chance of a mean as far from 0 or further where the two do equally well
    smallest: float | None  # true difference that would be shown with the chance POWER; None where none would be


def estimate_mean(
    values_P: np.ndarray, *, confidence: float, clusters_P: Sequence[str] | None = None
) -> Estimate | None:
    """Mean over problems with its score interval; None if no problem was judged.

    Wilson (1927), with z the normal quantile: (m + z^2 / 2s -+ z sqrt(m (1 - m) / s + z^2 / 4s^2)) / (1 + z^2 / s). Here m is the mean
    and s the effective number of problems, as for surveys (Korn and Graubard 1998; Franco et al. 2019). z is Student's quantile, a degree
    less than there are clusters, where the variance is estimated rather than given by m.

    Raises:
        ValueError: a value is not in [0, 1].

    """
    sample = _sample(values_P, clusters_P)
    if sample is None:
        return None
    if sample.values_P.min() < 0 or sample.values_P.max() > 1:
        outside = next(value for value in sample.values_P if not 0 <= value <= 1)
        raise ValueError(f"a score of {outside:g} is not in [0, 1]: give each problem's share of its points")
    low, high = _wilson(sample.mean, size=_effective_size(sample), z=_quantile(sample, confidence))
    return Estimate(sample.mean, low, high, num_problems=len(sample.values_P))


def estimate_difference(
    differences_P: np.ndarray, *, confidence: float, clusters_P: Sequence[str] | None = None
) -> Difference | None:
    """Mean of paired differences in [-1, 1] with its interval; None if no problem was judged for both.

    Where both were right or wrong on problems that stand alone, `p` is McNemar's and `smallest` goes by its power. Else both go by the
    interval's standard error e: p = 2 Phi(-|c| / e) with its centre c, smallest = (z + z_power) e (Cohen 1988, 2.4).
    """
    sample = _sample(differences_P, clusters_P)
    if sample is None:
        return None
    centre, error = _shrunk(sample)
    z = float(ndtri(0.5 + confidence / 2))
    better, worse = (int((sign * sample.values_P > 0).sum()) for sign in (1, -1))
    if sample.stands_alone and np.isin(sample.values_P, (-1, 0, 1)).all():
        p = mcnemar(better, worse)
        smallest = smallest_by_mcnemar(len(sample.values_P), num_unequal=better + worse, confidence=confidence)
    else:
        p, smallest = float(2 * ndtr(-abs(centre) / error)), float(z + ndtri(POWER)) * error
    return Difference(
        sample.mean,
        low=max(-1.0, centre - z * error),
        high=min(1.0, centre + z * error),
        num_problems=len(sample.values_P),
        num_unequal=better + worse,
        p=p,
        smallest=smallest,
    )


def mcnemar(num_better: int, num_worse: int) -> float:
    """Two-sided exact p (McNemar 1947; Fagerland et al. 2013, eq. 4).

    Of the b + c problems on which two differ, one is the better on b: as if by coin flips, 2 P(Bin(b + c, 1/2) >= max(b, c)), at most 1.
    """
    return float(scipy.stats.binomtest(num_better, num_better + num_worse).pvalue) if num_better + num_worse else 1.0


def smallest_by_mcnemar(num_problems: int, *, num_unequal: int, confidence: float) -> float | None:
    """The true difference in shares that `mcnemar` would show at 1 - `confidence` with the chance POWER; None if there is none.

    The chance that two differ on a problem is taken as `num_unequal` / `num_problems`, or as the difference itself where that is larger,
    since a difference d needs a chance u >= d. Exact power (Duffy 1984): sum over m of Bin(m; n, u) P(Bin(m, (1 + d / u) / 2) >= k_m), with
    k_m the least number of m coin flips that is significant.
    """
    pairs_M = np.arange(num_problems + 1)
    needed_M = scipy.stats.binom.isf((1 - confidence) / 2, pairs_M, 0.5) + 1

    def power(difference: float) -> float:
        unequal = max(num_unequal / num_problems, difference)
        better = (1 + difference / unequal) / 2
        shown_M = scipy.stats.binom.sf(needed_M - 1, pairs_M, better)
        return float(scipy.stats.binom.pmf(pairs_M, num_problems, unequal) @ shown_M)

    if power(1.0) < POWER:
        return None
    return float(scipy.optimize.brentq(lambda difference: power(difference) - POWER, _NEARLY_NOTHING, 1.0))


# ---------------------------------------------------------------- the sample


@dataclass(frozen=True, slots=True)
class _Sample:
    """What was judged."""

    values_P: np.ndarray
    cluster_P: np.ndarray  # number of the cluster
    sizes_C: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.values_P.mean())

    @property
    def stands_alone(self) -> bool:
        return len(self.sizes_C) == len(self.values_P)

    def totals(self, values_P: np.ndarray) -> np.ndarray:
        """Of each cluster the sum over its problems, _C."""
        return np.bincount(self.cluster_P, weights=values_P)


def _sample(values_P: np.ndarray, clusters_P: Sequence[str] | None) -> _Sample | None:
    kept_P = ~np.isnan(values_P)
    if not kept_P.any():
        return None
    names_P = np.arange(len(values_P)) if clusters_P is None else np.array(clusters_P)
    _, cluster_P, sizes_C = np.unique(names_P[kept_P], return_inverse=True, return_counts=True)
    return _Sample(values_P[kept_P], cluster_P, sizes_C)


# ---------------------------------------------------------------- means


def _wilson(mean: float, *, size: float, z: float) -> tuple[float, float]:
    centre = mean + z * z / (2 * size)
    half = z * np.sqrt(mean * (1 - mean) / size + (z / (2 * size)) ** 2)
    scale = 1 + z * z / size
    low, high = float((centre - half) / scale), float((centre + half) / scale)
    return min(max(0.0, low), mean), max(min(1.0, high), mean)  # both hold but for rounding


def _effective_size(sample: _Sample) -> float:
    """Right-or-wrong problems, each alone, whose mean would vary as much: n / r with r = S / (n m (1 - m)), S the sum of squares.

    S is of the clusters' totals about the mean. To S and n the largest cluster is added once more, as problems that are all right or all
    wrong, with the mean (sum + half of them) / (n + them): few problems that agree do not show that all would. r is at most what it is
    where all problems of a cluster agree, and 1 where each stands alone.
    """
    num, largest = len(sample.values_P), int(sample.sizes_C.max())
    bound = sample.mean * (1 - sample.mean)
    if not bound:
        return num / largest
    squares = float((sample.totals(sample.values_P - sample.mean) ** 2).sum())
    mean = (float(sample.values_P.sum()) + largest / 2) / (num + largest)
    ratio = (squares + largest**2 * mean * (1 - mean)) / ((num + largest) * bound)
    return num / min(ratio, largest)


def _quantile(sample: _Sample, confidence: float) -> float:
    """Student's where the variance is estimated; the normal one where the mean gives it."""
    if sample.stands_alone and np.isin(sample.values_P, (0, 1)).all():
        return float(ndtri(0.5 + confidence / 2))
    return float(stdtrit(max(1, len(sample.sizes_C) - 1), 0.5 + confidence / 2))


# ---------------------------------------------------------------- differences


def _shrunk(sample: _Sample) -> tuple[float, float]:
    """Centre and standard error with a cluster more on each side, of mean size and with the largest total.

    With each problem alone and b better, c worse of n: centre (b - c) / (n + 2), error sqrt(b + c + 2 - (b - c)^2 / (n + 2)) / (n + 2)
    (Bonett and Price 2012, eq. 4). Where all totals are 0 the largest is taken to be that of problems on which the two differ wholly.
    """
    totals_C = sample.totals(sample.values_P)
    size = len(sample.values_P) / len(totals_C)
    largest = float(np.abs(totals_C).max()) or size
    num = len(sample.values_P) + 2 * size
    centre = float(totals_C.sum()) / num
    residuals_C = np.append(totals_C - centre * sample.sizes_C, [largest - centre * size, largest + centre * size])
    return centre, float(np.sqrt((residuals_C**2).sum())) / num
