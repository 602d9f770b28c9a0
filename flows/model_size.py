"""`--model-size tiny`: the same recipe made small enough for a CPU, so that every path of it can be tried before GPUs are paid for.

This is the one place that says what is made smaller: `tiny_changes`, changes of values as `--set` makes them, which the run prints first.
Phases, arms, objectives, coefficients, schedules and rules stay the recipe's. The name ends in `-tiny`, every fingerprint is another one,
and the model is random or hardly trained: no figure of such a run says anything about the recipe's own results.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flows.commands.show import toml_text
from stages.config import Recipe, RlArm, RlConfig, SftArm, Training
from stages.recipe import walk_values

ModelSize = Literal["tiny"]

TINY_MODEL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "num_shared_experts": 1,
    "moe_intermediate_size": 32,
    "max_position_embeddings": 1024,
}
"""A tenth of a million parameters beside the embeddings."""

ROWS, FILE_ROWS, VOCABULARY = 32, 12, 1024
LONGEST, NEW_TOKENS, BATCH_TOKENS = 768, 24, 8192
BASE_FOLDER = "tiny-base"  # below the home folder


@dataclass(frozen=True, slots=True)
class Change:
    """A value that is made smaller."""

    key: str  # dotted
    value: Any
    was: Any  # None where the recipe has no single value for it

    @property
    def override(self) -> str:
        """As `--set` takes it."""
        return f"{self.key}={toml_text(self.value)}"

    @property
    def was_in_words(self) -> str:
        """What the recipe has in its place, where that is one value."""
        return "" if self.was is None else f" (the recipe: {toml_text(self.was)})"


def tiny_changes(recipe: Recipe, *, data_dir: Path | None, base: Path | None) -> list[Change]:
    """What makes a recipe tiny, in the order of its stages. `base`: the random model that stands for its released ones.

    With a data folder the first rows of each file are taken, and generated problems without one.
    """
    now = {value.key: value.value for value in walk_values(recipe)}
    starts = any(isinstance(arm, RlArm) and arm.start for arm in (recipe.rl.arms if recipe.rl else ()))  # of an epoch
    pairs = [
        ("name", f"{recipe.name}-tiny"),
        ("description", f"{recipe.name} made tiny: every path of it, no result"),
        *_curation(recipe, data_dir),
        *_base(recipe, base),
        *(
            pair
            for pair in _training("sft.training", recipe.sft.training)
            if not (starts and pair[0].endswith("epochs"))
        ),
        *_selection(recipe, base),
        *(_rl(recipe.rl) if recipe.rl else ()),
        *_evaluation(recipe, data_dir),
        *_runtime(recipe),
    ]
    return [Change(key, value, now.get(key)) for key, value in pairs if toml_text(now.get(key)) != toml_text(value)]


def _curation(recipe: Recipe, data_dir: Path | None) -> Iterator[tuple[str, Any]]:
    splits = ["heldout", "probe", "sft", "validation", "rl"] + ["base"] * (recipe.base.checkpoint is None)
    if data_dir is not None:
        source = {"kind": "files", "name": "local", "folder": "data-dir", "max_rows": FILE_ROWS}
        yield (
            "curation.sources",
            [_generated("rl"), source],
        )  # so that a model that solves nothing leaves RL problems of each domain
    else:
        yield "curation.sources", [_generated(split) for split in splits]
        yield "curation.benchmarks", []
        yield "curation.decontamination.coverage", 0.9  # generated problems share phrases
    if recipe.curation.mixture is not None and recipe.curation.mixture.rl:
        yield "curation.mixture.rl", dict.fromkeys(recipe.curation.mixture.rl, ROWS)


def _generated(split: str) -> dict[str, Any]:
    source = {"kind": "procedural", "name": split, "split": split, "num_problems": ROWS, "levels": {2: 0.5, 3: 0.5}}
    return source if split in ("heldout", "probe") else {**source, "teacher": {"styles": {"long": 1.0}}}


def _base(recipe: Recipe, base: Path | None) -> Iterator[tuple[str, Any]]:
    if base is not None:
        yield "base.checkpoint", str(base)
    for name, value in TINY_MODEL.items():
        yield f"base.model.{name}", value
    if recipe.base.vocabulary.kind == "bpe":
        yield "base.vocabulary.vocab_size", VOCABULARY
    if recipe.base.checkpoint is None:
        yield from _training("base.training", recipe.base.training)


def _training(key: str, training: Training) -> Iterator[tuple[str, Any]]:
    epochs = min(3, training.epochs)
    yield f"{key}.epochs", epochs
    yield f"{key}.batch_tokens", min(BATCH_TOKENS, training.batch_tokens)
    yield f"{key}.max_total_tokens", min(LONGEST, training.max_total_tokens)
    if training.mean_of_last:
        yield f"{key}.mean_of_last", min(training.mean_of_last, epochs * training.checkpoints_per_epoch)


def _selection(recipe: Recipe, base: Path | None) -> Iterator[tuple[str, Any]]:
    yield "selection.samples_per_problem", 1
    yield "selection.grading_samples", 1
    yield "selection.sampling.max_new_tokens", min(NEW_TOKENS, recipe.selection.sampling.max_new_tokens)
    if recipe.selection.stronger is not None and base is not None:
        yield "selection.stronger", str(base)


def _rl(rl: RlConfig) -> Iterator[tuple[str, Any]]:
    """Arms keep their phases; each has as many steps as the arm of most phases has phases, so that their budgets stay equal."""
    yield "rl.prompts_per_step", 4
    yield "rl.samples_per_prompt", 2
    yield "rl.sampling.max_new_tokens", min(NEW_TOKENS, rl.sampling.max_new_tokens)
    if rl.probe_every:
        yield "rl.probe_every", 1
        yield "rl.probe_problems", 4
    yield from _objective("rl.objective", rl.objective.model_dump())
    most = max((len(arm.phases) for arm in rl.arms if isinstance(arm, RlArm)), default=0)
    for number, arm in enumerate(rl.arms):
        if isinstance(arm, SftArm):
            yield from _training(f"rl.arms.{number}.training", arm.training)
            continue
        if arm.objective is not None:
            yield from _objective(f"rl.arms.{number}.objective", arm.objective.model_dump())
        for position, phase in enumerate(arm.phases):
            where = f"rl.arms.{number}.phases.{position}"
            is_last = position == len(arm.phases) - 1
            yield f"{where}.steps", 1 + (most - len(arm.phases)) * is_last
            yield f"{where}.max_total_tokens", min(LONGEST, phase.max_total_tokens)
            if phase.token_budget is not None:
                yield f"{where}.token_budget", NEW_TOKENS


def _objective(key: str, objective: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield f"{key}.token_budget", NEW_TOKENS
    yield f"{key}.budget_ranks", min(2, objective["budget_ranks"])
    yield f"{key}.updates_per_batch", 1
    if objective["partial_rollouts"] is not None:
        yield f"{key}.partial_rollouts.pool_rows", 4


def _evaluation(recipe: Recipe, data_dir: Path | None) -> Iterator[tuple[str, Any]]:
    config = recipe.evaluation
    yield "evaluation.samples_per_problem", 1
    yield "evaluation.sampling.max_new_tokens", min(NEW_TOKENS, config.sampling.max_new_tokens)
    if data_dir is None:
        yield "evaluation.benchmarks", []
        yield "evaluation.benchmark_samples", {}
    elif config.benchmarks:
        yield "evaluation.benchmark_samples", dict.fromkeys(config.benchmarks, 1)
        yield "evaluation.another_version", True  # a benchmark's first rows are not all of them


def _runtime(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    for ranks in ("base_ranks", "sft_ranks", "rl_ranks"):
        yield f"runtime.{ranks}", 1
    yield "runtime.workers", 2
    yield "runtime.device", "cpu"
    yield "runtime.micro_batch_tokens", min(4096, recipe.runtime.micro_batch_tokens)


def random_base(home: Path) -> Path:
    """A random model in the released layout, made below the home folder where it is not there yet; the same bytes every time.

    Its vocabulary is byte-level BPE, so that it can read any problem.
    """
    folder = home / BASE_FOLDER
    if (folder / "config.json").is_file():
        return folder
    from data.domains import DOMAINS
    from ring_model.checkpoint import save_model
    from ring_model.configuration import BailingMoeConfig
    from ring_model.modelling import BailingMoe, initialise
    from ring_model.tokenizer import build_bpe_tokenizer

    tokenizer = build_bpe_tokenizer((domain.prompt_suffix for domain in DOMAINS.values()), vocab_size=VOCABULARY)
    ids = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    model = initialise(BailingMoe(BailingMoeConfig(**TINY_MODEL, **ids, initializer_range=0.06)), seed=0)
    writing = folder.with_name(f"{folder.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    save_model(model, writing, end_ids=tokenizer.end_ids)
    tokenizer.save(writing)
    shutil.rmtree(folder, ignore_errors=True)
    writing.rename(folder)
    return folder
