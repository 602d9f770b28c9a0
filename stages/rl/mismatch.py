"""The sampler's probabilities against the trainer's for the same tokens: how far apart they are, and what is done about it.

k = p0 / q, where q is the probability with which the sampler drew a token, p0 that of the trainer's policy at the beginning of the step.
Two engines, two number formats, and weights that are older than the trainer's (carried and partial rollouts, overlap) all show here. A
weight M(k) multiplies the token's policy gradient; the denominator of the loss stays (C3PO: Phi). Everything is computed from log k, so
that an extreme k that is rejected leaves an exact 0.

Axes: _M response tokens of a micro-batch, response after response.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.config import IcePop, Kpop, Mismatch, NoCorrection, SequenceMask, Tis
from stages.rl.ratios import mean_over_units

OUTSIDE = (0.5, 5.0)
"""Where k is called far off: outside of the interval that IcePop keeps (arXiv 2510.18855)."""

_CLAMP = 1e-8  # of a probability, arXiv 2606.15079


def token_weights(sampler_M: Tensor, trainer_M: Tensor, response_M: Tensor, *, correction: Mismatch) -> Tensor | None:
    """M(k) of each token from log q, log p0 and the number of its response; detached [M]. None: every token weighs 1."""
    log_k_M = (trainer_M - sampler_M).detach()
    match correction:
        case NoCorrection():
            return None
        case Tis(cap=cap):
            return log_k_M.clamp(max=float(np.log(cap))).exp()
        case IcePop(low=low, high=high):
            return _where(_lies_in(log_k_M, low, high), log_k_M.exp())
        case Kpop(limit=limit):
            return (_two_way_divergence(trainer_M.detach(), sampler_M) <= limit).to(log_k_M.dtype)
        case SequenceMask(low=low, high=high):
            return _lies_in(mean_over_units(log_k_M, response_M), low, high).to(log_k_M.dtype)


def _lies_in(log_M: Tensor, low: float, high: float) -> Tensor:
    return (log_M >= (float(np.log(low)) if low else -torch.inf)) & (log_M <= float(np.log(high)))


def _where(keeps_M: Tensor, values_M: Tensor) -> Tensor:
    return torch.where(keeps_M, values_M, torch.zeros_like(values_M))


def _two_way_divergence(one_M: Tensor, other_M: Tensor) -> Tensor:
    """max(D(a, b), D(b, a)), D(a, b) = a log(a / b) + (1 - a) log((1 - a) / (1 - b)), nats, from log a and log b."""
    a_M, b_M = (logprobs_M.double().exp().clamp(_CLAMP, 1 - _CLAMP) for logprobs_M in (one_M, other_M))
    return torch.maximum(_bernoulli(a_M, b_M), _bernoulli(b_M, a_M))


def _bernoulli(a_M: Tensor, b_M: Tensor) -> Tensor:
    return a_M * (a_M / b_M).log() + (1 - a_M) * ((1 - a_M) / (1 - b_M)).log()


# ---------------------------------------------------------------- how far apart

_MAGNITUDES = np.logspace(-8, 2, 201)  # nats; neighbours differ by 12 %
_EDGES = np.concatenate([-_MAGNITUDES[::-1], _MAGNITUDES])
_QUANTILES = (0.01, 0.5, 0.99)
_SUMS = ("tokens", "difference", "outside", "k", "k_squared", "rejected")


@dataclass(slots=True)
class Differences:
    """Of log k over the tokens of a step: sums that add up over micro-batches and ranks, and the largest."""

    sums: dict[str, float]
    largest: float  # |log k|
    counts: np.ndarray  # by interval of `_EDGES`, from below the first to above the last

    @classmethod
    def none(cls) -> "Differences":
        """Of no token."""
        return cls(dict.fromkeys(_SUMS, 0.0), 0.0, np.zeros(len(_EDGES) + 1, dtype=np.int64))

    def add(self, log_k_M: Tensor, weights_M: Tensor | None) -> None:
        """Count some tokens; `weights_M` are their M(k), None where all are 1."""
        log_k = log_k_M.detach().double().cpu().numpy()
        k = np.exp(np.clip(log_k, -80.0, 80.0))
        weights = np.ones_like(k) if weights_M is None else weights_M.cpu().numpy()
        low, high = OUTSIDE
        found = {
            "tokens": len(log_k),
            "difference": np.abs(log_k).sum(),
            "outside": ((k < low) | (k > high)).sum(),
            "k": k.sum(),
            "k_squared": (k**2).sum(),
            "rejected": (weights == 0).sum(),
        }
        for name, value in found.items():
            self.sums[name] += float(value)
        self.largest = max(self.largest, float(np.abs(log_k).max(initial=0.0)))
        self.counts += np.bincount(np.searchsorted(_EDGES, log_k), minlength=len(self.counts))

    def merge(self, other: "Differences") -> None:
        """Count those of another rank, too."""
        for name, value in other.sums.items():
            self.sums[name] += value
        self.largest = max(self.largest, other.largest)
        self.counts += other.counts

    def figures(self) -> dict[str, float]:
        """Metrics `mismatch/...`: of |log k| mean and maximum, of k quantiles, the share outside of `OUTSIDE`, the effective sample size
        (sum k)^2 / (n sum k^2) as a share of n, and the share of tokens whose M(k) is 0. Empty without tokens.

        A quantile is right to the width of its interval: 12 % of log k.
        """
        sums, tokens = self.sums, self.sums["tokens"]
        if not tokens:
            return {}
        return {
            "mismatch/mean_abs_difference": sums["difference"] / tokens,
            "mismatch/max_abs_difference": self.largest,
            "mismatch/outside_share": sums["outside"] / tokens,
            "mismatch/effective_share": sums["k"] ** 2 / (tokens * sums["k_squared"]),
            "mismatch/rejected_share": sums["rejected"] / tokens,
            **{f"mismatch/k_quantile_{round(100 * share):02d}": self._quantile(share) for share in _QUANTILES},
        }

    def _quantile(self, share: float) -> float:
        """K at the middle of the interval in which the share is reached."""
        reached = int(np.searchsorted(np.cumsum(self.counts), share * self.counts.sum()))
        below, above = _EDGES[max(reached - 1, 0)], _EDGES[min(reached, len(_EDGES) - 1)]
        return float(np.exp((below + above) / 2))
