"""Memory of one GPU by part, under ZeRO 0 to 3: what stays all the time, and the largest of what comes and goes.

In: the model, a recipe's runtime and RL, and how many GPUs there are. Out: `Share` for a rank of supervised training and for one of RL,
whose GPU also holds the sampler: our samplers take the GPUs in turn, one with each rank.
"""

from dataclasses import dataclass
from functools import cached_property

from ring_model.configuration import BailingMoeConfig
from ring_model.memory import (
    BFLOAT16,
    FLOAT32,
    PRECISIONS,
    Precision,
    activation_bytes,
    cache_bytes,
    gathered_bytes,
    logits_bytes,
    state_by_part,
    step_bytes,
)
from stages.config import Recipe, RlArm, RlConfig, Runtime

ACTIVATIONS, LOGITS, GATHERED, STEP, CACHE = "activations", "logits", "gathered blocks", "optimiser step", "KV cache"
REFERENCE, ROLLOUT = "reference model", "rollout weights"
_TRAINS, _STEPS, _SAMPLES = (ACTIVATIONS, LOGITS, GATHERED), (STEP,), (CACHE,)


@dataclass(frozen=True)
class Share:
    """Bytes of one GPU. `stays`: all the time; `passing`: at a time only those of one of the three moments."""

    stays: dict[str, int]
    passing: dict[str, int]

    @cached_property
    def moments(self) -> dict[str, int]:
        """Bytes that pass while it trains, while AdamW steps, while it samples."""
        of = {"trains": _TRAINS, "steps": _STEPS, "samples": _SAMPLES}
        return {name: sum(self.passing.get(part, 0) for part in parts) for name, parts in of.items()}

    @property
    def peak(self) -> int:
        """Bytes at the fullest moment."""
        return sum(self.stays.values()) + max(self.moments.values())

    @property
    def largest(self) -> str:
        """The part that takes most of it at that moment."""
        moment = max(self.moments, key=lambda name: self.moments[name])
        passing = {"trains": _TRAINS, "steps": _STEPS, "samples": _SAMPLES}[moment]
        parts = self.stays | {part: self.passing.get(part, 0) for part in passing}
        return max(parts, key=lambda part: parts[part])


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What of RL decides about a sampler's memory."""

    rows: int  # decoded together
    mean_tokens: int  # prompt and response
    longest_tokens: int  # that a row may have
    sharing: int  # GPUs that share one copy of the weights
    has_reference: bool

    @classmethod
    def of(cls, config: RlConfig, *, prompt_tokens: int, response_tokens: int, sharing: int) -> "Rollouts":
        """As a recipe's RL has them, in its longest phase."""
        phases = [phase for arm in config.arms if isinstance(arm, RlArm) for phase in arm.phases]
        longest = max((phase.max_total_tokens for phase in phases), default=0)
        return cls(
            rows=config.sampling.max_rows,
            mean_tokens=min(prompt_tokens + response_tokens, longest),
            longest_tokens=longest,
            sharing=sharing,
            has_reference=any(objective.kl_coefficient > 0 for objective in config.objectives.values()),
        )


def precision_of(runtime: Runtime) -> Precision:
    """Of training: bfloat16 on GPUs, float32 on CPUs."""
    return PRECISIONS["bfloat16" if runtime.device == "cuda" else "float32"]


def training_share(
    model: BailingMoeConfig, runtime: Runtime, precision: Precision, *, zero_stage: int, num_ranks: int, longest: int
) -> Share:
    """Of a rank of base or SFT. `longest`: of a row in tokens; one that is longer than a micro-batch is one by itself."""
    tokens = max(runtime.micro_batch_tokens, longest)
    ranks = {"zero_stage": zero_stage, "num_ranks": num_ranks}
    activations = activation_bytes(
        model,
        num_tokens=tokens,
        checkpoints_layers=runtime.checkpoint_layers,
        dtype_bytes=precision.activations,
    )
    return Share(
        stays=state_by_part(model, precision, **ranks),
        passing={
            ACTIVATIONS: activations,
            LOGITS: logits_bytes(model, num_logits=tokens, has_entropy=False),
            GATHERED: gathered_bytes(model, precision, **ranks),
            STEP: step_bytes(model, precision, **ranks),
        },
    )


def rl_share(
    model: BailingMoeConfig,
    runtime: Runtime,
    precision: Precision,
    rollouts: Rollouts,
    *,
    zero_stage: int,
    num_ranks: int,
) -> Share:
    """Of a GPU on which a rank of RL trains and a sampler draws, one after the other."""
    training = training_share(
        model, runtime, precision, zero_stage=zero_stage, num_ranks=num_ranks, longest=rollouts.longest_tokens
    )
    entropy = logits_bytes(model, num_logits=max(runtime.micro_batch_tokens, rollouts.longest_tokens), has_entropy=True)
    weights = sampler_weight_bytes(model, precision) // rollouts.sharing
    return Share(
        stays=training.stays | {ROLLOUT: weights, REFERENCE: weights * rollouts.has_reference},
        passing=training.passing | {LOGITS: entropy, CACHE: paged_cache_bytes(model, precision, rollouts)},
    )


def sampler_weight_bytes(model: BailingMoeConfig, precision: Precision) -> int:
    """A whole copy to sample from: bfloat16 on a GPU; on a CPU float32 twice, since our decoder copies the layers in its own order."""
    if precision.weights == BFLOAT16:
        return BFLOAT16 * model.num_parameters
    parts = model.parameters_by_part()
    layers = model.num_parameters - parts["embedding"] - parts["output matrix"]
    return FLOAT32 * (model.num_parameters + layers)


def paged_cache_bytes(model: BailingMoeConfig, precision: Precision, rollouts: Rollouts) -> int:
    """Keys and values of the tokens that are there, when every row has its mean length."""
    tokens = rollouts.rows * rollouts.mean_tokens
    return cache_bytes(model, num_tokens=tokens, dtype_bytes=precision.weights) // rollouts.sharing


def dense_cache_bytes(model: BailingMoeConfig, precision: Precision, rollouts: Rollouts) -> int:
    """What a cache of rows by longest row would take."""
    tokens = rollouts.rows * rollouts.longest_tokens
    return cache_bytes(model, num_tokens=tokens, dtype_bytes=precision.weights) // rollouts.sharing


def longest_row(recipe: Recipe) -> int:
    """Tokens of the longest row of SFT, or of the base model where that is trained."""
    trained = [recipe.sft.training, *([recipe.base.training] if recipe.base.checkpoint is None else [])]
    return max(training.max_total_tokens for training in trained)
