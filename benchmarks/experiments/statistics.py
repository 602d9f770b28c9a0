"""From numbers to what may be said of them: spreads, paired differences, and the smallest difference that could have been seen.

Intervals over problems, and what problems could have shown, are `stages.evaluation.statistics`'; an interval over seeds is Student's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import scipy.stats

from stages.evaluation.statistics import Difference, Estimate, estimate_difference, estimate_mean

CONFIDENCE = 0.95


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
    """The mean over problems with its 95 % interval; NaNs are left out; None if nothing is left."""
    return estimate_mean(np.array(values), confidence=CONFIDENCE)


def difference_estimate(differences: Sequence[float]) -> Difference | None:
    """The mean of paired differences with its 95 % interval, and what the problems could have shown."""
    return estimate_difference(np.array(differences), confidence=CONFIDENCE)


def standard_error(values: Sequence[float]) -> float:
    """Of the mean: sample standard deviation / sqrt(n); NaN where all values are equal, of whose spread nothing is known."""
    return stdev(values) / math.sqrt(len(values)) if len(set(values)) > 1 else math.nan


def t_interval(values: Sequence[float]) -> Interval | None:
    """Mean over seeds with its 95 % interval by Student's t, n - 1 degrees of freedom; None where all values are equal."""
    if len(set(values)) < 2:
        return None
    mean, half = fmean(values), standard_error(values) * float(scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1))
    return Interval(mean, mean - half, mean + half)
