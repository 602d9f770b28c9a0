"""The trainer's weights on their way to the sampler: once a version, and now and then compared on a fixed prompt."""

import math
from collections.abc import Sequence

from ring_model.engine import NonFiniteError
from ring_model.modelling import BailingMoe
from stages.sampling.answering import next_token_logprobs
from stages.sampling.requests import Policy
from stages.sampling.sampler import PublishingSampler

TOLERANCE = 0.01
"""Nats of difference on a token. The same weights give the same bits in float32 on one machine; other weights differ by far more."""


class Publisher:
    """Publishes a model's weights when they are wanted, and compares the first and then as often as the sampler asks."""

    def __init__(self, model: BailingMoe, sampler: PublishingSampler, *, prompt: Sequence[int], max_lag: int) -> None:
        """`prompt`: at least two token ids, on which both sides must agree. `max_lag`: versions behind the last that are still asked."""
        self._model, self._sampler, self._prompt, self._max_lag = model, sampler, prompt, max_lag
        self._version = -1
        self._policy: Policy

    def policy(self, version: int) -> Policy:
        """The weights as they are now, which are those of `version`; published at most once.

        Raises:
            NonFiniteError: they give log-probabilities that are not finite.
            RuntimeError: the sampler computes others than the trainer, as from weights of another version.

        """
        if version != self._version:
            self._policy = self._sampler.publish(self._model, version=version, oldest=version - self._max_lag)
            if self._version < 0 or version % self._sampler.check_every == 0:
                self._compare(version)
            self._version = version
        return self._policy

    def finite_logprobs(self) -> list[float]:
        """The trainer's log-probabilities of the fixed prompt. Raises NonFiniteError where they are not finite."""
        found = next_token_logprobs(self._model, self._prompt)
        if not all(map(math.isfinite, found)):
            raise NonFiniteError("the model's log-probabilities are not finite numbers")
        return found

    def _compare(self, version: int) -> None:
        ours, theirs = self.finite_logprobs(), self._sampler.check(self._policy, self._prompt)
        differences = [abs(one - other) for one, other in zip(ours, theirs, strict=True)]
        furthest = max(differences, key=lambda nats: (math.isnan(nats), nats))
        if not furthest <= TOLERANCE:
            raise RuntimeError(
                f"the sampler does not have the weights of version {version}: on a fixed prompt its log-probabilities differ by"
                f" {furthest:.3g} from the trainer's, at most {TOLERANCE} is rounding"
            )
