"""One response, token after token, for whoever reads along: a terminal, a client of a server.

In: a prompt as token ids and a seed. Out: `Token`s as they are chosen. They are those of `ring_model.generation.generate` for that prompt
and seed, which samples many responses at once and hands out whole ones; beyond the last bit of float32 arithmetic nothing differs.

Axes: T positions of the cache, V vocabulary, D hidden; of one row (1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ring_model.decoding import Decoder
from ring_model.generation import choose_tokens, uniforms
from ring_model.modelling import BailingMoe

_SPARE_POSITIONS = 64  # of the cache beyond what is filled, so that it is seldom copied


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a response."""

    id: int
    logprob: float  # nats, at the sampling temperature (1 where the largest logit is taken), over the full vocabulary
    top: tuple[tuple[int, float], ...]  # id and log-probability of the most probable ones, where asked for
    is_end: bool  # it ends the response


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a response is sampled."""

    end_ids: Sequence[int]
    max_new_tokens: int
    temperature: float = 0.0  # 0 takes the largest logit
    top_p: float = 1.0
    seed: int = 0  # in [0, 2**64)
    num_top: int = 0  # most probable tokens that are told with each


class Speaker:
    """A model whose weights are prepared once; they must not change while it is used."""

    @torch.inference_mode()
    def __init__(self, model: BailingMoe) -> None:
        self.model = model
        self.decoder = Decoder(model)

    def say(self, prompt: Sequence[int], manner: Manner) -> "Saying":
        """Begin a response. It ends with an end token, at `max_new_tokens`, or where the model has no further position.

        Raises:
            ValueError: the prompt is empty or fills the model's positions, or a number of `manner` is out of range.

        """
        _check(prompt, manner, room=self.model.config.max_position_embeddings)
        return Saying(self, prompt, manner)


class Saying:
    """A response in the making: an iterator, each step of which is one token. It may be dropped at any time."""

    def __init__(self, speaker: Speaker, prompt: Sequence[int], manner: Manner) -> None:
        self._speaker, self._prompt, self._manner = speaker, list(prompt), manner
        room = speaker.model.config.max_position_embeddings - len(prompt)
        self._limit = min(manner.max_new_tokens, room)
        self._num_said = 0
        self._is_over = False
        self._last_1 = torch.tensor([])
        self._cache = torch.tensor([])

    def __iter__(self) -> Self:
        return self

    @torch.inference_mode()
    def __next__(self) -> Token:
        """Raises FloatingPointError where the model's log-probabilities are not finite."""
        if self._is_over or self._num_said == self._limit:
            raise StopIteration
        hidden_1D = self._step() if self._num_said else self._prefill()
        token = self._choose(self._speaker.decoder.logits(hidden_1D))
        self._num_said += 1
        self._is_over = token.is_end
        return token

    def _prefill(self) -> Tensor:
        model = self._speaker.model
        tokens_1T = torch.tensor([self._prompt], device=model.device)
        output = model(tokens_1T, keep_keys_values=True)
        dtype = model.product_dtype
        stacked = torch.stack([torch.stack((keys.to(dtype), values.to(dtype))) for keys, values in output.keys_values])
        self._cache = stacked.transpose(3, 4)  # [L, 2, 1, KV heads, T, W]
        return output.hidden_ND[-1:]

    def _step(self) -> Tensor:
        position = len(self._prompt) + self._num_said - 1
        if position >= self._cache.shape[4]:
            shape = list(self._cache.shape)
            shape[4] = position + _SPARE_POSITIONS
            wider = self._cache.new_zeros(shape)
            wider[..., : self._cache.shape[4], :] = self._cache
            self._cache = wider
        return self._speaker.decoder.step(self._last_1, position_R=np.array([position]), cache=self._cache.unbind(0))

    def _choose(self, logits_1V: Tensor) -> Token:
        manner = self._manner
        draws = uniforms(np.array([manner.seed], dtype=np.uint64), np.array([self._num_said], dtype=np.uint64))
        uniform_1 = torch.from_numpy(draws).to(logits_1V.device)
        chosen = choose_tokens(logits_1V, uniform_R=uniform_1, temperature=manner.temperature, top_p=manner.top_p)
        if not torch.isfinite(chosen.logprob_R).all():
            raise FloatingPointError("the model's log-probabilities are not finite numbers")
        self._last_1 = chosen.token_R
        index = int(chosen.token_R)
        return Token(index, float(chosen.logprob_R), self._top(logits_1V), is_end=index in manner.end_ids)

    def _top(self, logits_1V: Tensor) -> tuple[tuple[int, float], ...]:
        if not self._manner.num_top:
            return ()
        logprobs_V = (logits_1V[0] / (self._manner.temperature or 1.0)).log_softmax(dim=0)
        values, ids = logprobs_V.topk(min(self._manner.num_top, len(logprobs_V)))
        return tuple(zip(ids.tolist(), values.tolist(), strict=True))


def _check(prompt: Sequence[int], manner: Manner, *, room: int) -> None:
    if not prompt:
        raise ValueError("the prompt has no tokens; it needs at least one")
    if len(prompt) >= room:
        raise ValueError(f"the prompt has {len(prompt):,} tokens, prompt and response together may have {room:,}")
    if manner.max_new_tokens < 1:
        raise ValueError(f"max_new_tokens = {manner.max_new_tokens} must be at least 1")
    if not (0.0 <= manner.temperature < float("inf") and 0.0 < manner.top_p <= 1.0):
        raise ValueError(f"temperature = {manner.temperature} must be >= 0 and top_p = {manner.top_p} in (0, 1]")
    if not 0 <= manner.seed < 2**64:
        raise ValueError(f"seed = {manner.seed} must be in [0, 2**64)")
