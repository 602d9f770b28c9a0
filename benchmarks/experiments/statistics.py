"""From numbers to what may be said of them: spreads, paired differences, and the smallest difference that could have been seen.

Intervals over problems are `stages.evaluation.statistics`' percentile bootstrap; an interval over seeds is Student's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

import numpy as np
import scipy.stats

from stages.evaluation.statistics import Estimate, estimate_mean

CONFIDENCE, POWER = 0.95, 0.8
_RESAMPLES = 9_999


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Spread:
    """How a figure of steps runs."""

    mean: float
    variation: float  # coefficient of variation: sample standard deviation / |mean|; NaN where it has no meaning


def spread(values: Sequence[float]) -> Spread:
    """Mean and coefficient of variation; NaN for a mean of nothing, or a variation of one value or around 0."""
    mean = fmean(values) if values else math.nan
    return Spread(mean, stdev(values) / abs(mean) if len(values) > 1 and mean else math.nan)


def mean_estimate(values: Sequence[float]) -> Estimate | None:
    """The mean over problems with its 95 % bootstrap interval; NaNs are left out; None if nothing is left."""
    return estimate_mean(np.array(values), seed=0, num_resamples=_RESAMPLES, confidence=CONFIDENCE)


def standard_error(values: Sequence[float]) -> float:
    """Of the mean: sample standard deviation / sqrt(n); NaN where all values are equal, of whose spread nothing is known."""
    return stdev(values) / math.sqrt(len(values)) if len(set(values)) > 1 else math.nan


def smallest_visible(differences: Sequence[float]) -> float:
    """The true difference that a two-sided test at 5 % would find in 80 % of such samples: (1.96 + 0.84) x standard error."""
    normal = NormalDist()
    factor = normal.inv_cdf(0.5 + CONFIDENCE / 2) + normal.inv_cdf(POWER)
    return factor * standard_error(differences)


def t_interval(values: Sequence[float]) -> Interval | None:
    """Mean over seeds with its 95 % interval by Student's t, n - 1 degrees of freedom; None where all values are equal."""
    if len(set(values)) < 2:
        return None
    mean, half = fmean(values), standard_error(values) * float(scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1))
    return Interval(mean, mean - half, mean + half)
