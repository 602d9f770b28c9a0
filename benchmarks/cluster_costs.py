"""What the cluster on paper assumes: how long responses are, and what a decode step, a trained token and an update cost.

Every number has its unit and source in `stated`, from which the page's table of assumptions is made. Seconds, bytes and tokens.
"""

import math
from dataclasses import dataclass, field
from functools import cache, lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.optimize import brentq

BLOCK = 256  # prompts whose random numbers are drawn at once


def stated(default: Any, unit: str, source: str, meaning: str) -> Any:
    """A field with what the page says about it."""
    return field(default=default, metadata={"unit": unit, "source": source, "meaning": meaning})


@dataclass(frozen=True, slots=True)
class Lengths:
    """Log-normal lengths, cut at a limit as a sampler cuts them; those of one prompt are alike."""

    mean: float = stated(12_800, "tokens", "Fig. 7; Phi x 256 / 8 192", "mean length of a response, after the cut")
    limit: int = stated(24_576, "tokens", "3.2 (mathematics)", "where the sampler cuts; prompts are left out of it")
    spread: float = stated(0.6, "", "ours", "standard deviation of the length's logarithm before the cut")
    between: float = stated(0.5, "", "ours", "share of that variance that lies between prompts, not within one")
    growth: float = stated(0.0, "a step", "ours", "by which the mean grows")

    def of_group(self, group: int, *, step: int, num_samples: int, seed: int) -> list[int]:
        """Lengths of the responses to a prompt that is asked in a step (from 0): whole tokens from 1 to the limit."""
        block, place = divmod(group, BLOCK)
        mean = self.mean * (1 + self.growth) ** step
        return _block_of_lengths(self, mean, num_samples, seed, block)[place]


@lru_cache(maxsize=256)
def _block_of_lengths(lengths: Lengths, mean: float, num_samples: int, seed: int, block: int) -> list[list[int]]:
    """Lengths by prompt of a block, from a normal number for each prompt and one for each response."""
    draws = np.random.default_rng([seed, block]).standard_normal((BLOCK, 1 + num_samples))
    scores = math.sqrt(lengths.between) * draws[:, :1] + math.sqrt(1 - lengths.between) * draws[:, 1:]
    centre = log_centre(mean, limit=lengths.limit, spread=lengths.spread)
    return np.clip(np.rint(np.exp(centre + lengths.spread * scores)), 1, lengths.limit).astype(int).tolist()


def mean_after_cut(centre: float, *, limit: float, spread: float) -> float:
    """E min(X, limit) of a log-normal X, whose logarithm has mean `centre` and standard deviation `spread`."""
    below = (math.log(limit) - centre) / spread
    normal = NormalDist()
    return math.exp(centre + spread**2 / 2) * normal.cdf(below - spread) + limit * (1 - normal.cdf(below))


@cache
def log_centre(mean: float, *, limit: int, spread: float) -> float:
    """The mean of the logarithm with which lengths cut at the limit have this mean, which is below the limit."""
    low, high = math.log(mean) - spread**2, math.log(limit) + 20 * spread
    return float(brentq(lambda centre: mean_after_cut(centre, limit=limit, spread=spread) - mean, low, high))


@dataclass(frozen=True, slots=True)
class Cluster:
    """A synchronous step on GPUs each of which samples and trains in turn."""

    num_ranks: int = stated(256, "GPUs", "2 (256 H800)", "data-parallel ranks; each holds the whole model to decode")
    prompts_per_step: int = stated(512, "", "3.2", "L")
    samples_per_prompt: int = stated(16, "", "3.2", "K")
    token_budget: int = stated(409_600, "tokens", "3.2", "Phi, of each rank")
    total_parameters: float = stated(
        16.8e9, "", "config.json", "of the model; a decode step reads the experts that its rows touch, and the rest"
    )
    active_parameters: float = stated(2.75e9, "", "config.json", "that a token is computed with")
    expert_parameters: float = stated(28 * 64 * 3 * 2048 * 1408, "", "config.json", "in routed experts")
    expert_share: float = stated(6 / 64, "", "config.json", "of the routed experts that a token is computed with")
    reads_all_experts: bool = stated(False, "", "ours", "a decode step reads every expert, touched or not")
    parameter_bytes: float = stated(2, "bytes", "bfloat16", "of a weight, in decoding and on the network")
    context_bytes: float = stated(2 * 28 * 4 * 128 * 2, "bytes", "config.json", "keys and values of a token")
    memory: float = stated(80e9, "bytes", "vendor's data sheet (H100 SXM; H800 alike)", "of a GPU")
    memory_share: float = stated(0.9, "", "ours", "of the memory that weights, keys and values may take")
    bandwidth: float = stated(3.35e12, "bytes/s", "vendor's data sheet (H100 SXM; H800 alike)", "of the memory")
    bandwidth_share: float = stated(0.7, "", "ours", "of the bandwidth that decoding attains")
    decode_seconds: float = stated(3e-3, "s", "ours", "of a decode step beside reading: launches, drawing, scheduling")
    flops: float = stated(989e12, "FLOP/s", "vendor's data sheet (H100 SXM, dense bfloat16; H800 alike)", "peak")
    prefill_share: float = stated(0.4, "", "ours", "of the peak in prefill and in a decode step's products")
    training_share: float = stated(0.3, "", "ours", "of the peak in training")
    training_flops: float = stated(8, "a parameter and token", "arithmetic", "6 forward and backward, 2 the reference")
    prompt_tokens: int = stated(256, "tokens", "ours", "of a prompt, prefilled once for its responses, not trained")
    network: float = stated(50e9, "bytes/s", "ours (400 Gbit/s a GPU)", "between GPUs")
    switch_seconds: float = stated(5.0, "s", "ours", "a step, from sampling to training and back; last verdicts")

    @property
    def responses_per_rank(self) -> int:
        """Responses of a step that a rank samples."""
        return self.prompts_per_step * self.samples_per_prompt // self.num_ranks

    @property
    def total_budget(self) -> int:
        """Phi of all ranks."""
        return self.token_budget * self.num_ranks

    @property
    def context_capacity(self) -> int:
        """Tokens whose keys and values fit beside the weights on a GPU (the trainer's state is spread over ranks, or moved out)."""
        room = self.memory * self.memory_share - self.total_parameters * self.parameter_bytes
        return int(room / self.context_bytes)

    @property
    def context_seconds(self) -> float:
        """Of a decode step for each token that its rows hold: keys and values are read."""
        return self.context_bytes / (self.bandwidth * self.bandwidth_share)

    @property
    def training_seconds(self) -> float:
        """Of a trained token on a rank."""
        return self.training_flops * self.active_parameters / (self.flops * self.training_share)

    @property
    def prefill_seconds(self) -> float:
        """Of a token that is read, not sampled: of prompts, and of unfinished responses after an update."""
        return 2 * self.active_parameters / (self.flops * self.prefill_share)

    @property
    def overhead_seconds(self) -> float:
        """Of an update: gradients reduced and weights gathered, weights pushed to the engines, and the switch."""
        return 3 * self.total_parameters * self.parameter_bytes / self.network + self.switch_seconds

    def touched_share(self, rows: int) -> float:
        """Share of the routed experts of a layer that a batch reads, when each row draws its own evenly."""
        return 1.0 if self.reads_all_experts else 1 - (1 - self.expert_share) ** rows

    def row_seconds(self, rows: int) -> float:
        """Of a decode step of a batch without what its rows hold: the fixed part, the weights read, the products."""
        shared = self.total_parameters - self.expert_parameters
        read = (shared + self.expert_parameters * self.touched_share(rows)) * self.parameter_bytes
        return self.decode_seconds + read / (self.bandwidth * self.bandwidth_share) + rows * self.prefill_seconds
