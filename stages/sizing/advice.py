"""What to change where a share does not fit: the planner tries settings of the recipe and names the first that fit.

Settings that change how a stage is executed are tried before those that change its results; a setting counts the more, the more it costs
in time or means. In: a function that computes the share for some settings. Out: `Way`, or how many GPUs would do.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from stages.config import Recipe
from stages.sizing.shares import Share

_HALVINGS = 7
_WEIGHTS = {
    "zero_stage": 1.0,
    "checkpoint_layers": 1.5,
    "micro_batch_tokens": 0.5,
    "max_rows": 0.7,
    "sampler_gpus": 3.0,
    "max_total_tokens": 40.0,
    "kl_coefficient": 60.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the planner may change, as it stands and as it would be."""

    zero_stage: int
    checkpoint_layers: bool
    micro_batch_tokens: int
    max_rows: int
    sampler_gpus: int
    kl_coefficient: float
    max_total_tokens: int  # of the longest row, or of the longest phase of RL

    def changes(self, other: "Settings") -> dict[str, int | float]:
        """What differs from another one, by the name that the command line has for it."""
        found: dict[str, tuple[int | float, int | float]] = {
            "runtime.zero_stage": (self.zero_stage, other.zero_stage),
            "runtime.checkpoint_layers": (self.checkpoint_layers, other.checkpoint_layers),
            "runtime.micro_batch_tokens": (self.micro_batch_tokens, other.micro_batch_tokens),
            "rl.sampling.max_rows": (self.max_rows, other.max_rows),
            "--sampler-gpus": (self.sampler_gpus, other.sampler_gpus),
            "max_total_tokens": (self.max_total_tokens, other.max_total_tokens),
            "rl.objective.kl_coefficient": (self.kl_coefficient, other.kl_coefficient),
        }
        return {name: mine for name, (mine, theirs) in found.items() if mine != theirs}


def settings_of(recipe: Recipe, *, zero_stage: int, sampler_gpus: int, longest: int) -> Settings:
    """Those of a recipe."""
    runtime, rl = recipe.runtime, recipe.rl
    return Settings(
        zero_stage=zero_stage,
        checkpoint_layers=runtime.checkpoint_layers,
        micro_batch_tokens=runtime.micro_batch_tokens,
        max_rows=rl.sampling.max_rows if rl else 1,
        sampler_gpus=sampler_gpus,
        kl_coefficient=max((one.kl_coefficient for one in rl.objectives.values()), default=0.0) if rl else 0.0,
        max_total_tokens=longest,
    )


@dataclass(frozen=True, slots=True)
class Way:
    """Settings under which it fits, and what that takes."""

    changes: Mapping[str, int | float]
    peak: int  # bytes


def way_to_fit(
    share_of: Callable[[Settings], Share], now: Settings, *, limit: float, num_gpus: int, samples: bool
) -> Way | None:
    """The cheapest change of settings after which the share is at most `limit` bytes; None where nothing that is tried does it.

    A micro-batch never has fewer tokens than the longest row. `samples`: whether the GPU samples, too.
    """
    options = sorted(_options(now, num_gpus=num_gpus, samples=samples), key=lambda one: _price(one, now))
    for settings in options:
        share = share_of(settings)
        if share.peak <= limit:
            return Way(settings.changes(now), share.peak)
    return None


def _options(now: Settings, *, num_gpus: int, samples: bool) -> Iterator[Settings]:
    stages = range(now.zero_stage, 4) if num_gpus > 1 else (now.zero_stage,)
    layers = (True,) if now.checkpoint_layers else (False, True)
    lengths = _halved(now.max_total_tokens, least=1024)[:5]
    rows = _halved(now.max_rows, least=1) if samples else [now.max_rows]
    sharing = _doubled(now.sampler_gpus, most=min(num_gpus, 64)) if samples else [now.sampler_gpus]
    kl = (now.kl_coefficient, 0.0) if samples and now.kl_coefficient else (now.kl_coefficient,)
    for stage, checkpoints, many, gpus, beta, length in product(stages, layers, rows, sharing, kl, lengths):
        for tokens in _halved(now.micro_batch_tokens, least=length):
            yield Settings(
                zero_stage=stage,
                checkpoint_layers=checkpoints,
                micro_batch_tokens=tokens,
                max_rows=many,
                sampler_gpus=gpus,
                kl_coefficient=beta,
                max_total_tokens=length,
            )


def _price(one: Settings, now: Settings) -> float:
    """How much a change costs, in no unit: only the order counts."""
    return (
        _WEIGHTS["zero_stage"] * (one.zero_stage - now.zero_stage)
        + _WEIGHTS["checkpoint_layers"] * (one.checkpoint_layers - now.checkpoint_layers)
        + _WEIGHTS["micro_batch_tokens"] * _halvings(now.micro_batch_tokens, one.micro_batch_tokens)
        + _WEIGHTS["max_rows"] * _halvings(now.max_rows, one.max_rows)
        + _WEIGHTS["sampler_gpus"] * _halvings(one.sampler_gpus, now.sampler_gpus)
        + _WEIGHTS["max_total_tokens"] * _halvings(now.max_total_tokens, one.max_total_tokens)
        + _WEIGHTS["kl_coefficient"] * (one.kl_coefficient != now.kl_coefficient)
    )


def _halvings(more: int, less: int) -> int:
    return (more // less).bit_length() - 1


def _halved(value: int, *, least: int) -> list[int]:
    found = [value]
    while len(found) <= _HALVINGS and found[-1] // 2 >= max(1, least):
        found.append(found[-1] // 2)
    return found


def _doubled(value: int, *, most: int) -> list[int]:
    found = [value]
    while found[-1] * 2 <= most:
        found.append(found[-1] * 2)
    return found
