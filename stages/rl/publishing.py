"""The trainer's weights on their way to the sampler: once a version, and now and then compared on a fixed prompt."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ring_model.engine import NonFiniteError
from ring_model.policy import Scorer
from stages.sampling.requests import Policy
from stages.sampling.sampler import PublishingSampler

TOLERANCE = 0.01
"""Nats of difference on a token. The same weights give the same bits in float32 on one machine; other weights differ by far more."""


class Trained(Protocol):
    """What trains the weights: an `Engine`, whose ranks call each of these together, or a `Scorer` alone."""

    @property
    def scorer(self) -> Scorer:
        """The model."""

    def whole(self) -> AbstractContextManager[Any]:
        """Within it every parameter is there."""

    def next_token_logprobs(self, tokens: Sequence[int]) -> list[float]:
        """Log-probability of every token but the first."""


class Publisher:
    """Publishes a model's weights when they are wanted, and compares the first, and then as often as the sampler asks.

    Every rank has one and calls it alike; the sampler is rank 0's.
    """

    def __init__(
        self,
        trained: Trained,
        sampler: PublishingSampler | None,
        *,
        prompt: Sequence[int],
        max_lag: int,
        check_every: int,
    ) -> None:
        """`prompt`: at least two token ids, on which both sides must agree. `max_lag`: versions behind the last that are still asked.

        `check_every`: the sampler's.
        """
        self._trained, self._sampler, self._prompt = trained, sampler, prompt
        self._max_lag, self._check_every = max_lag, check_every
        self._version = -1
        self._policy: Policy | None = None

    def policy(self, version: int) -> Policy | None:
        """The weights as they are now, which are those of `version`; published at most once. None on a rank that has no sampler.

        Raises:
            NonFiniteError: they give log-probabilities that are not finite.
            RuntimeError: the sampler computes others than the trainer, as from weights of another version.

        """
        if version != self._version:
            with self._trained.whole():
                if self._sampler is not None:
                    oldest = version - self._max_lag
                    self._policy = self._sampler.publish(self._trained.scorer, version=version, oldest=oldest)
            if self._version < 0 or version % self._check_every == 0:
                self._compare(version)
            self._version = version
        return self._policy

    def finite_logprobs(self) -> list[float]:
        """The trainer's log-probabilities of the fixed prompt. Raises NonFiniteError where they are not finite."""
        found = self._trained.next_token_logprobs(self._prompt)
        if not all(map(math.isfinite, found)):
            raise NonFiniteError("the model's log-probabilities are not finite numbers")
        return found

    def _compare(self, version: int) -> None:
        ours = self.finite_logprobs()
        if self._sampler is None or self._policy is None:
            return
        theirs = self._sampler.check(self._policy, self._prompt)
        differences = [abs(one - other) for one, other in zip(ours, theirs, strict=True)]
        furthest = max(differences, key=lambda nats: (math.isnan(nats), nats))
        if not furthest <= TOLERANCE:
            raise RuntimeError(
                f"the sampler does not have the weights of version {version}: on a fixed prompt its log-probabilities differ by"
                f" {furthest:.3g} from the trainer's, at most {TOLERANCE} is rounding"
            )
