"""From scores of samples to figures with intervals (paper 4.1.2; percentile bootstrap over problems).

Legend: _P problems. NaN stands where a problem has no usable verdict (the judge failed): it leaves numerator and denominator.
"""

from dataclasses import dataclass

import numpy as np
import scipy.stats

_RESAMPLES_AT_ONCE = 500  # bounds memory: 500 x problems x 8 bytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems with its interval."""

    value: float
    low: float
    high: float
    num_problems: int


def estimate_mean(values_P: np.ndarray, *, seed: int, num_resamples: int, confidence: float) -> Estimate | None:
    """Mean over problems with a percentile bootstrap interval; NaNs are left out; None if nothing is left.

    With one problem the interval is the value itself.
    """
    kept_P = values_P[~np.isnan(values_P)]
    if not len(kept_P):
        return None
    mean = float(kept_P.mean())
    if kept_P.min() == kept_P.max():
        return Estimate(mean, low=mean, high=mean, num_problems=len(kept_P))
    interval = scipy.stats.bootstrap(
        (kept_P,),
        np.mean,
        axis=-1,
        n_resamples=num_resamples,
        batch=_RESAMPLES_AT_ONCE,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(mean, low=float(interval.low), high=float(interval.high), num_problems=len(kept_P))
