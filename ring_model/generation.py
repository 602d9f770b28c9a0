"""Sampling many responses at once: prefill, one-token steps over preallocated slots, refilled as rows finish.

In: prompts as token ids, one seed per prompt. Out: one `Completion` per prompt, in order.
The random number of a token is a hash of (its row's seed, its index in the response), so a sample does not depend on
which rows share its batch, beyond the last bit of float32 arithmetic. Equal prompts are prefilled once.

Axes: R slots, T positions of the cache, L layers, H query heads, W head width, D hidden, V vocabulary.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ring_model.decoding import Decoder
from ring_model.head import entropy_of
from ring_model.modelling import BailingMoe
from ring_model.policy import micro_batches
from ring_model.row_cache import RowCache

PREFILL_TOKENS = 4096
"""Size of one prefill rectangle, rows x longest prompt."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled response of n tokens."""

    token_ids: list[int]
    """Response ids, the end token included when one was produced."""
    logprobs: np.ndarray
    """float32 [n]: log-probability of each token at the sampling temperature, over the full vocabulary."""
    entropies: np.ndarray
    """float32 [n]: entropy in nats, at temperature 1, of the distribution before each token."""
    finished: bool
    """True when the response ends with an end token, False when it was cut at max_new_tokens."""


def uniforms(seeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """float64 in [0, 1) for pairs of seed (uint64) and position (uint64): splitmix64 as a counter-based generator."""
    start = _splitmix64(seeds + _GOLDEN)
    return (_splitmix64(start + (positions + np.uint64(1)) * _GOLDEN) >> np.uint64(11)) * 2.0**-53


def _splitmix64(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class _Chosen:
    token_R: Tensor
    logprob_R: Tensor
    entropy_R: Tensor


def choose_tokens(logits_RV: Tensor, *, uniform_R: Tensor, temperature: float, top_p: float) -> _Chosen:
    """Pick one token a row by inverse CDF at `uniform_R` (float64 in [0, 1)); temperature 0 takes the largest logit.

    Log-probabilities are those of the full softmax at the temperature (temperature 1 when greedy); entropies are at
    temperature 1. `top_p` < 1 restricts the draw to the smallest set of most probable tokens that reaches it.
    """
    plain_RV = logits_RV.log_softmax(dim=1)
    scaled_RV = plain_RV if temperature in (0.0, 1.0) else (logits_RV / temperature).log_softmax(dim=1)
    if temperature == 0.0:
        token_R = plain_RV.argmax(dim=1)
    else:
        probability_RV = scaled_RV.exp()
        if top_p < 1.0:
            probability_RV = _nucleus(probability_RV, top_p)
        cdf_RV = probability_RV.cumsum(dim=1, dtype=torch.float64)
        token_R = torch.searchsorted(cdf_RV, uniform_R[:, None] * cdf_RV[:, -1:], right=True).squeeze(1)
        token_R.clamp_(max=logits_RV.shape[1] - 1)  # nan has no place in a cdf; its log-probability will tell
    return _Chosen(token_R, scaled_RV.gather(1, token_R[:, None]).squeeze(1), entropy_of(plain_RV))


def _nucleus(probability_RV: Tensor, top_p: float) -> Tensor:
    sorted_RV, order_RV = probability_RV.sort(dim=1, descending=True, stable=True)
    before_RV = sorted_RV.cumsum(dim=1, dtype=torch.float64) - sorted_RV
    return torch.zeros_like(probability_RV).scatter_(1, order_RV, sorted_RV * (before_RV < top_p))


class _Prefilled:
    """Keys, values and last hidden state of the prompts that are wanted next, computed in rectangles."""

    def __init__(self, model: BailingMoe, prompts: Sequence[tuple[int, ...]]) -> None:
        self._model = model
        self._uses = Counter(prompts)
        unique = list(self._uses)
        batches = micro_batches([len(prompt) for prompt in unique], token_budget=PREFILL_TOKENS)
        self._batches = deque([unique[index] for index in batch] for batch in batches)
        self.order = [prompt for batch in self._batches for prompt in batch]
        self._ready: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def take(self, prompt: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Keys and values [L, 2, KV heads, n, W] and last hidden state [D] of a prompt; freed after its last use."""
        while prompt not in self._ready:
            self._prefill(self._batches.popleft())
        state = self._ready[prompt]
        self._uses[prompt] -= 1
        if not self._uses[prompt]:
            del self._ready[prompt]
        return state

    def _prefill(self, batch: list[tuple[int, ...]]) -> None:
        lengths = [len(prompt) for prompt in batch]
        tokens_BT = torch.zeros(len(batch), max(lengths), dtype=torch.int64)
        for row_T, prompt in zip(tokens_BT, batch, strict=True):
            row_T[: len(prompt)] = torch.as_tensor(prompt)
        device = self._model.device
        output = self._model(
            tokens_BT.to(device), lengths_B=torch.tensor(lengths, device=device), keep_keys_values=True
        )
        assert output.keys_values is not None
        dtype = self._model.product_dtype
        stacked = torch.stack([torch.stack((keys.to(dtype), values.to(dtype))) for keys, values in output.keys_values])
        hidden = output.hidden_ND.split(lengths)
        for prompt, kv, hidden_TD in zip(batch, stacked.unbind(2), hidden, strict=True):
            self._ready[prompt] = (kv[:, :, : len(prompt)].transpose(2, 3), hidden_TD[-1])


class _Slots:
    """R rows in the making: their cache, what they have emitted, and which sample each belongs to (-1: none)."""

    def __init__(
        self, model: BailingMoe, prompts: Sequence[Sequence[int]], limits: Sequence[int], *, num_rows: int
    ) -> None:
        """`limits`: most new tokens of each prompt."""
        config, max_new_tokens = model.config, max(limits)
        most_positions = max(len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True))
        self.cache = RowCache(model, num_rows=num_rows, most_positions=most_positions)
        self.hidden_RD = torch.zeros(num_rows, config.hidden_size, device=model.device)
        self.sample_R = np.full(num_rows, -1, dtype=np.int64)
        self.seed_R = np.zeros(num_rows, dtype=np.uint64)
        self.start_R = np.zeros(num_rows, dtype=np.int64)
        self.begun_R = np.zeros(num_rows, dtype=np.int64)
        self.emitted_R = np.zeros(num_rows, dtype=np.int64)
        self.limit_R = np.full(num_rows, max_new_tokens, dtype=np.int64)
        self.token_RT = np.zeros((num_rows, max_new_tokens), dtype=np.int64)
        self.logprob_RT = np.zeros((num_rows, max_new_tokens), dtype=np.float32)
        self.entropy_RT = np.zeros((num_rows, max_new_tokens), dtype=np.float32)

    @property
    def num_active(self) -> int:
        """Rows that belong to a sample."""
        return int((self.sample_R >= 0).sum())

    def free_rows(self) -> list[int]:
        """Rows that belong to no sample."""
        return np.flatnonzero(self.sample_R < 0).tolist()

    def place(self, row: int, *, sample: int, seed: int, begun: int, limit: int, state: tuple[Tensor, Tensor]) -> None:
        """Start a sample of at most `limit` more tokens in a free row, from its prompt's keys, values and last hidden state."""
        keys_values, hidden_D = state
        length = keys_values.shape[3]
        self.cache.place(row, keys_values)
        self.hidden_RD[row] = hidden_D
        self.sample_R[row], self.seed_R[row], self.start_R[row], self.emitted_R[row] = sample, seed, length, 0
        self.begun_R[row], self.limit_R[row] = begun, limit

    def uniforms(self) -> Tensor:
        """The random number of every row's next token."""
        return torch.from_numpy(uniforms(self.seed_R, (self.begun_R + self.emitted_R).astype(np.uint64)))

    def record(self, chosen: _Chosen) -> None:
        """Append the chosen tokens to every row; rows without a sample hold nothing that is read.

        Raises FloatingPointError where a log-probability is not finite.
        """
        rows, is_active_R = np.arange(len(self.sample_R)), self.sample_R >= 0
        logprob_R = chosen.logprob_R.cpu().numpy()
        if not np.isfinite(logprob_R[is_active_R]).all():
            raise FloatingPointError("the model's log-probabilities are not finite numbers")
        self.token_RT[rows, self.emitted_R] = chosen.token_R.cpu().numpy()
        self.logprob_RT[rows, self.emitted_R] = logprob_R
        self.entropy_RT[rows, self.emitted_R] = chosen.entropy_R.cpu().numpy()
        self.emitted_R += is_active_R

    def take_done(self, end_ids: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        """Free the rows that are complete and yield (sample, completion)."""
        last_R = self.token_RT[np.arange(len(self.sample_R)), np.maximum(self.emitted_R - 1, 0)]
        ended_R = np.isin(last_R, end_ids)
        done_R = (self.sample_R >= 0) & (ended_R | (self.emitted_R == self.limit_R))
        for row in np.flatnonzero(done_R):
            length = self.emitted_R[row]
            yield (
                int(self.sample_R[row]),
                Completion(
                    token_ids=self.token_RT[row, :length].tolist(),
                    logprobs=self.logprob_RT[row, :length].copy(),
                    entropies=self.entropy_RT[row, :length].copy(),
                    finished=bool(ended_R[row]),
                ),
            )
            self.sample_R[row], self.start_R[row], self.emitted_R[row] = -1, 1, 0

    def shrink(self) -> None:
        """Let go of rows without a sample, where they are a quarter, and of positions that no row has reached, where they are half."""
        is_active_R = self.sample_R >= 0
        width = int((self.start_R + self.emitted_R)[is_active_R].max(initial=0)) + 1
        if 4 * is_active_R.sum() > 3 * len(is_active_R):
            self.cache.shrink(None, width=width)
            return
        keep = np.flatnonzero(is_active_R)
        keep_tensor = torch.from_numpy(keep).to(self.hidden_RD.device)
        self.cache.shrink(keep_tensor, width=width)
        self.hidden_RD = self.hidden_RD.index_select(0, keep_tensor)
        for name in (
            "sample_R",
            "seed_R",
            "start_R",
            "begun_R",
            "emitted_R",
            "limit_R",
            "token_RT",
            "logprob_RT",
            "entropy_RT",
        ):
            setattr(self, name, getattr(self, name)[keep])


class _Waiting:
    """Samples that no row has yet, in the order in which their prompts are computed."""

    def __init__(
        self,
        model: BailingMoe,
        prompts: Sequence[Sequence[int]],
        *,
        seeds: Sequence[int],
        begun: Sequence[int],
        limits: Sequence[int],
    ) -> None:
        self._keys = [tuple(prompt) for prompt in prompts]
        self._seeds, self._begun, self._limits = seeds, begun, limits
        self._prefilled = _Prefilled(model, self._keys)
        rank = {prompt: index for index, prompt in enumerate(self._prefilled.order)}
        self._samples = deque(sorted(range(len(prompts)), key=lambda sample: (rank[self._keys[sample]], sample)))

    def fill(self, slots: _Slots) -> None:
        """Give every free row a sample, as far as there are any."""
        for row in slots.free_rows()[: len(self._samples)]:
            sample = self._samples.popleft()
            slots.place(
                row,
                sample=sample,
                seed=self._seeds[sample],
                begun=self._begun[sample],
                limit=self._limits[sample],
                state=self._prefilled.take(self._keys[sample]),
            )


@torch.inference_mode()
def generate(
    model: BailingMoe,
    prompts: Sequence[Sequence[int]],
    *,
    seeds: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    eos_id: int | Sequence[int],
    max_rows: int = 128,
    max_total_tokens: int | None = None,
    num_begun: Sequence[int] | None = None,
    most_more: int | None = None,
    tally: Counter[str] | None = None,
) -> list[Completion]:
    """Sample one response per prompt (repeat a prompt for several), each with its own seed in [0, 2**64).

    A response ends with `eos_id`, or any of several, at `max_new_tokens`, or where prompt and response together reach `max_total_tokens`
    (default: the model's positions). `temperature` 0 is greedy. At most `max_rows` rows are
    decoded at once; a finished row is replaced by the next prompt in the queue. The result does not depend on
    `max_rows` beyond float32 rounding. Where the last `num_begun` ids of a prompt are the beginning of its response, the response goes
    on behind them, with the random numbers that it would have had, and the completion holds what is new; `most_more` ends it after so
    many tokens, to go on later. `tally` counts `tokens`, and `slots`, rows times decoding steps: 1 - tokens / slots
    of the work was on rows without a sample.

    Raises:
        ValueError: an argument is out of range, a prompt leaves no room for a response, or `max_total_tokens` is more than
            the model has positions.
        FloatingPointError: the model's log-probabilities are not finite.

    """
    room = _room(model, max_total_tokens)
    begun = [0] * len(prompts) if num_begun is None else num_begun
    _check(prompts, seeds, max_new_tokens, temperature, top_p, max_rows, room)
    if not prompts:
        return []
    most = most_more or max_new_tokens
    limits = [min(max_new_tokens - done, room - len(one), most) for one, done in zip(prompts, begun, strict=True)]
    waiting = _Waiting(model, prompts, seeds=seeds, begun=begun, limits=limits)
    slots = _Slots(model, prompts, limits, num_rows=min(max_rows, len(prompts)))
    completions: dict[int, Completion] = {}
    end_ids = [eos_id] if isinstance(eos_id, int) else list(eos_id)
    tally = Counter() if tally is None else tally
    decoder = Decoder(model)
    while len(completions) < len(prompts):
        waiting.fill(slots)
        slots.shrink()
        logits_RV = decoder.logits(slots.hidden_RD)
        uniform_R = slots.uniforms().to(model.device)
        chosen = choose_tokens(logits_RV, uniform_R=uniform_R, temperature=temperature, top_p=top_p)
        slots.record(chosen)
        tally["slots"] += len(slots.sample_R)
        position_R = slots.start_R + slots.emitted_R - 1
        completions |= slots.take_done(end_ids)
        if slots.num_active:
            position_R[slots.sample_R < 0] = 0
            slots.cache.widen(int(position_R.max()) + 1)
            slots.hidden_RD = decoder.step(chosen.token_R, position_R=position_R, cache=slots.cache.layers)
    tally["tokens"] += sum(len(made.token_ids) for made in completions.values())
    return [completions[sample] for sample in range(len(prompts))]


def _room(model: BailingMoe, max_total_tokens: int | None) -> int:
    """Tokens that prompt and response may have together."""
    positions = model.config.max_position_embeddings
    if max_total_tokens is not None and max_total_tokens > positions:
        raise ValueError(
            f"max_total_tokens = {max_total_tokens} is more than the model's {positions} positions "
            "(max_position_embeddings of its config.json)"
        )
    return positions if max_total_tokens is None else max_total_tokens


def _check(
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    max_rows: int,
    room: int,
) -> None:
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds; give one seed per prompt")
    if any(not 0 <= seed < 2**64 for seed in seeds):
        raise ValueError("every seed must be in [0, 2**64)")
    if not all(len(prompt) for prompt in prompts):
        raise ValueError("a prompt has no tokens; it needs at least one")
    if max_new_tokens < 1 or max_rows < 1:
        raise ValueError(f"max_new_tokens = {max_new_tokens} and max_rows = {max_rows} must be at least 1")
    if not (temperature >= 0.0 and 0.0 < top_p <= 1.0):
        raise ValueError(f"temperature = {temperature} must be >= 0 and top_p = {top_p} in (0, 1]")
    longest = max(map(len, prompts), default=0)
    if longest >= room:
        raise ValueError(f"the longest prompt has {longest} tokens, prompt and response together may have {room}")
