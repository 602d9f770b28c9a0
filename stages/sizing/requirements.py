"""What a recipe needs on given GPUs: memory of each by part, work and hours of each stage, cost, disk, and what does not fit.

In: a recipe, a `Cluster`, `Assumptions`. Out: `Requirements`, of which `ring plan` prints tables. Pure arithmetic: no torch, and nothing is
run. Not to be confused with `stages.plan`, the chain as data.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ring_model.configuration import BailingMoeConfig
from stages.config import BaseConfig, Recipe
from stages.sizing.advice import Settings, Way, settings_of, way_to_fit
from stages.sizing.assumptions import Assumptions, Stated
from stages.sizing.disk import disk_of
from stages.sizing.rows import Rows, rows_of_recipe
from stages.sizing.shares import (
    Rollouts,
    Share,
    dense_cache_bytes,
    longest_row,
    paged_cache_bytes,
    precision_of,
    rl_share,
    training_share,
)
from stages.sizing.times import Cluster, Hours, hours_of
from stages.sizing.work import Load, loads_of

ZERO_STAGES = (0, 1, 2, 3)
SFT, RL = "SFT", "RL"
_WORDS = 2000  # entries of a vocabulary of words, where none is stated
_MOST_GPUS = 1 << 14


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether the shares of a kind of training fit, at the stage that was asked for."""

    shares: tuple[Share, ...]  # by ZeRO stage
    limit: float  # bytes that may be used
    zero_stage: int
    way: Way | None  # where it does not fit; None also where nothing was found
    gpus_needed: int | None  # where nothing was found: as many of these would do

    @property
    def fits(self) -> bool:
        """At the stage that was asked for."""
        return self.shares[self.zero_stage].peak <= self.limit


@dataclass(frozen=True, slots=True)
class Requirements:
    """All that is known of a recipe's needs."""

    model: BailingMoeConfig
    model_from: str
    precision: str
    rows: Rows
    stated: list[Stated]
    fits: Mapping[str, Fit]
    caches: Mapping[str, int]  # bytes of keys and values of a sampler
    loads: list[Load]
    hours: list[Hours]  # of each load, under the settings that fit
    disk: Mapping[str, int]


def requirements(
    recipe: Recipe, cluster: Cluster, assumed: Assumptions, *, zero_stage: int | None, data_dir: Path | None
) -> Requirements:
    """Compute them. Raises ValueError for a stage that there is not, and for a folder of data or a model that cannot be read."""
    stage = recipe.runtime.zero_stage if zero_stage is None else zero_stage
    if stage not in ZERO_STAGES:
        raise ValueError(f"--zero-stage = {stage} must be 0 to 3")
    model, model_from = planned_model(recipe.base, vocab_size=assumed.vocab_size)
    rows, stated = rows_of_recipe(recipe, assumed, data_dir=data_dir)
    fits = _fits(recipe, model, rows, cluster, assumed, stage)
    fitting, sharing = _changed(recipe, fits.values(), assumed.sampler_gpus)
    loads = loads_of(fitting, model, rows, assumed)
    again = fitting.runtime.checkpoint_layers
    means = replace(assumed, sampler_gpus=sharing)
    return Requirements(
        model=model,
        model_from=model_from,
        precision=precision_of(recipe.runtime).name,
        rows=rows,
        stated=[*stated, *_efficiencies(assumed)],
        fits=fits,
        caches=_caches(recipe, model, rows, assumed),
        loads=loads,
        hours=[hours_of(load, model, cluster, means, checkpoints_layers=again) for load in loads],
        disk=disk_of(recipe, model, loads),
    )


def _changed(recipe: Recipe, fits: Iterable[Fit], sampler_gpus: int) -> tuple[Recipe, int]:
    """The recipe under the settings that fit, as far as they decide about time, and the GPUs that share a sampler's copy."""
    changes = [fit.way.changes for fit in fits if fit.way is not None]
    layers = any(change.get("runtime.checkpoint_layers") for change in changes)
    runtime = recipe.runtime.model_copy(update={"checkpoint_layers": recipe.runtime.checkpoint_layers or layers})
    rl, sharing = recipe.rl, sampler_gpus
    for change in changes:
        sharing = int(change.get("--sampler-gpus", sharing))
        if rl is not None and "rl.sampling.max_rows" in change:
            sampling = rl.sampling.model_copy(update={"max_rows": change["rl.sampling.max_rows"]})
            rl = rl.model_copy(update={"sampling": sampling})
    return recipe.model_copy(update={"runtime": runtime, "rl": rl}), sharing


def planned_model(base: BaseConfig, *, vocab_size: int | None) -> tuple[BailingMoeConfig, str]:
    """The model that a recipe trains, and where its sizes are from.

    Raises ValueError for a config.json that cannot be read.
    """
    if base.checkpoint is not None and (Path(base.checkpoint) / "config.json").is_file():
        return BailingMoeConfig.from_folder(base.checkpoint), f"{base.checkpoint}/config.json"
    own = base.vocabulary.vocab_size if base.vocabulary.kind == "bpe" else _WORDS
    vocabulary = vocab_size or (BailingMoeConfig().vocab_size if base.checkpoint is not None else own)
    sizes = base.model.model_dump()
    model = BailingMoeConfig(**sizes, vocab_size=vocabulary, eos_token_id=0, pad_token_id=0)
    ours = "" if base.vocabulary.kind == "bpe" else ", ours: --vocab-size"
    whose = "" if vocab_size else ", Ling-lite's" if base.checkpoint is not None else ours
    where = f"[base.model]; a vocabulary of {vocabulary:,}{whose}"
    return model, f"{where}; {base.checkpoint} is not here" if base.checkpoint is not None else where


def _efficiencies(assumed: Assumptions) -> list[Stated]:
    return [
        Stated("training efficiency", assumed.training_efficiency, "--training-efficiency, of the peak FLOP/s, ours"),
        Stated("decoding efficiency", assumed.decoding_efficiency, "--decoding-efficiency, of the bandwidth, ours"),
        Stated("least ms of a layer", assumed.layer_milliseconds, "--layer-milliseconds of a decoding step, ours"),
        Stated("margin", assumed.margin, "--margin, share of the memory that stays free, ours"),
        Stated("GPUs a sampler's copy", assumed.sampler_gpus, "--sampler-gpus; our own samplers: 1"),
    ]


def _fits(
    recipe: Recipe, model: BailingMoeConfig, rows: Rows, cluster: Cluster, assumed: Assumptions, stage: int
) -> dict[str, Fit]:
    limit = cluster.gpu.memory * (1 - assumed.margin)
    found = {SFT: _fit(recipe, model, rows, cluster.num_gpus, assumed, stage, limit, samples=False)}
    if recipe.rl is not None:
        found[RL] = _fit(recipe, model, rows, cluster.num_gpus, assumed, stage, limit, samples=True)
    return found


def _fit(
    recipe: Recipe,
    model: BailingMoeConfig,
    rows: Rows,
    num_gpus: int,
    assumed: Assumptions,
    stage: int,
    limit: float,
    *,
    samples: bool,
) -> Fit:
    longest, sharing = _longest(recipe, samples=samples), min(assumed.sampler_gpus, num_gpus)
    now = settings_of(recipe, zero_stage=stage, sampler_gpus=sharing, longest=longest)

    def share_of(settings: Settings, gpus: int = num_gpus) -> Share:
        return share(recipe, model, rows, settings, num_gpus=gpus, samples=samples)

    shares = tuple(share_of(replace(now, zero_stage=one)) for one in ZERO_STAGES)

    def way(gpus: int) -> Way | None:
        return way_to_fit(lambda settings: share_of(settings, gpus), now, limit=limit, num_gpus=gpus, samples=samples)

    if shares[stage].peak <= limit:
        return Fit(shares, limit, stage, None, None)
    found = way(num_gpus)
    needed = None if found else next((gpus for gpus in _more(num_gpus) if way(gpus)), None)
    return Fit(shares, limit, stage, found, needed)


def _more(num_gpus: int) -> list[int]:
    return [count for power in range(1, 15) if (count := num_gpus << power) <= _MOST_GPUS]


def _longest(recipe: Recipe, *, samples: bool) -> int:
    if not samples or recipe.rl is None:
        return longest_row(recipe)
    return Rollouts.of(recipe.rl, prompt_tokens=1, response_tokens=1, sharing=1).longest_tokens


def share(
    recipe: Recipe, model: BailingMoeConfig, rows: Rows, settings: Settings, *, num_gpus: int, samples: bool
) -> Share:
    """Of a GPU that trains, and with `samples` samples too, under these settings."""
    changed = {"checkpoint_layers": settings.checkpoint_layers, "micro_batch_tokens": settings.micro_batch_tokens}
    longest = settings.max_total_tokens
    runtime = recipe.runtime.model_copy(update=changed)
    ranks = {"zero_stage": settings.zero_stage, "num_ranks": num_gpus}
    precision = precision_of(runtime)
    if not samples or recipe.rl is None:
        return training_share(model, runtime, precision, longest=longest, **ranks)
    rollouts = Rollouts.of(
        recipe.rl,
        prompt_tokens=rows.prompt_tokens,
        response_tokens=rows.response_tokens,
        sharing=settings.sampler_gpus,
    )
    asked = Rollouts(
        settings.max_rows,
        min(rollouts.mean_tokens, longest),
        longest,
        rollouts.sharing,
        settings.kl_coefficient > 0,
    )
    return rl_share(model, runtime, precision, asked, **ranks)


def _caches(recipe: Recipe, model: BailingMoeConfig, rows: Rows, assumed: Assumptions) -> dict[str, int]:
    if recipe.rl is None:
        return {}
    rollouts = Rollouts.of(
        recipe.rl,
        prompt_tokens=rows.prompt_tokens,
        response_tokens=rows.response_tokens,
        sharing=assumed.sampler_gpus,
    )
    precision = precision_of(recipe.runtime)
    return {
        f"{rollouts.rows} rows of {rollouts.mean_tokens:,} tokens, those that are there": paged_cache_bytes(
            model, precision, rollouts
        ),
        f"{rollouts.rows} rows of {rollouts.longest_tokens:,} tokens, a dense cache": dense_cache_bytes(
            model, precision, rollouts
        ),
    }
