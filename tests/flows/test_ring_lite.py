"""Every number of the paper (arXiv 2506.14731), and where the recipe `ring-lite` has it; the sections are the paper's."""

from typing import Any

import pytest

from data.benchmarks.catalogue import PAPER
from ring_model.configuration import BailingMoeConfig
from stages.config import ModelSizes
from stages.recipe import flatten, load_recipe

RESOLVED = load_recipe("ring-lite")
VALUES = flatten(RESOLVED.recipe)

NUMBERS: dict[str, Any] = {
    # 2.2, rows of RL by domain; 4.1.1, shares of SFT
    "curation.mixture.rl": {"math": 73_000, "code": 14_000, "science": 3_833},
    "curation.mixture.sft": {"math": 0.645, "code": 0.255, "science": 0.092},
    # 2.3: choice questions are dropped, code needs a program that passes, solve rate 1 is dropped
    "curation.choice_questions": "drop",
    "curation.code_without_reference": "drop",
    "rl.max_solve_rate": 1.0,
    # the model
    "base.model.num_hidden_layers": 28,
    "base.model.hidden_size": 2048,
    "base.model.num_attention_heads": 16,
    "base.model.num_key_value_heads": 4,
    "base.model.num_experts": 64,
    "base.model.num_experts_per_tok": 6,
    "base.model.num_shared_experts": 2,
    "base.model.moe_intermediate_size": 1408,
    # 4.1.1
    "sft.training.epochs": 3,
    "sft.training.learning_rate": 3e-4,
    "sft.training.weight_decay": 0.1,
    "sft.training.warmup_share": 0.01,
    "sft.training.final_learning_rate_share": 0.0,  # a cosine, to nothing
    "sft.training.batch_tokens": 256 * 32_768,
    "sft.training.max_total_tokens": 32_768,
    "base.model.rope_theta": 600_000.0,
    "base.model.max_position_embeddings": 32_768,
    # 4.3.1
    "selection.rule": "entropy-window",
    "selection.entropy_window": (0.3, 0.5),
    # 3.2
    "rl.prompts_per_step": 512,
    "rl.samples_per_prompt": 16,
    "rl.objective.kind": "c3po",
    "rl.objective.token_budget": 409_600,
    "rl.objective.budget_ranks": 256,  # H800s
    "rl.objective.budget_mode": "truncate",
    "rl.objective.clip_low": 0.2,
    "rl.objective.clip_high": 0.2,
    "rl.objective.kl_coefficient": 1e-3,
    "rl.objective.kl_estimator": "k3",
    "rl.objective.entropy_coefficient": 5e-4,
    "rl.objective.balance_coefficient": 1e-5,
    "rl.objective.z_coefficient": 1e-7,
    "rl.optimizer.learning_rate": 3e-6,
    "rl.optimizer.final_learning_rate_share": 1.0,  # constant after warm-up
    "rl.sampling.temperature": 1.0,
    "rl.arms.0.phases.0.max_total_tokens": 24_576,  # mathematics
    "rl.arms.0.phases.1.max_total_tokens": 32_768,  # code and science
    # 4.1.2
    "evaluation.sampling.temperature": 1.0,
    "evaluation.sampling.top_p": 0.95,
    "evaluation.sampling.max_new_tokens": 32_768,
    "runtime.rl_ranks": 256,
}


@pytest.mark.parametrize("key", NUMBERS)
def test_the_recipe_has_the_papers_number(key: str) -> None:
    assert VALUES[key] == NUMBERS[key]


def test_a_step_trains_on_104_9_million_tokens() -> None:
    assert RESOLVED.recipe.rl is not None
    assert RESOLVED.recipe.rl.objective.tokens_per_step == 104_857_600 == 256 * 409_600 == 512 * 16 * 12_800


def test_the_first_phase_is_mathematics_alone_and_the_second_code_and_science() -> None:
    phased = RESOLVED.recipe.rl.arms[0]
    assert [set(phase.mixture) for phase in phased.phases] == [{"math"}, {"code", "science"}]


def test_every_benchmark_of_the_paper_is_evaluated_and_kept_from_training() -> None:
    papers = {benchmark.name for benchmark in PAPER if not benchmark.name.startswith("gaokao25")}  # of the announcement
    assert set(RESOLVED.recipe.evaluation.benchmarks) == papers == set(RESOLVED.recipe.curation.benchmarks)


def test_the_models_sizes_are_ling_lites() -> None:
    lite = BailingMoeConfig()
    assert all(
        getattr(lite, name) == value
        for name, value in ModelSizes().model_dump().items()
        if name in lite.parameters_by_part() or name.startswith("num_")
    )
    assert (lite.vocab_size, lite.norm_topk_prob, lite.norm_head, lite.eos_token_id) == (126_464, True, True, 126_081)


def test_every_default_that_says_it_is_the_papers_is_named_here() -> None:
    """A value of the paper that a class knows and this list does not would be a number that nobody compares."""
    from stages.recipe import walk_values

    papers = [value.key for value in walk_values(RESOLVED.recipe) if value.declared.startswith("paper")]
    shared = ("training.", "sampling.", "phases.", "objective.")  # classes that several stages use; each is named once
    missing = {key for key in papers if key not in NUMBERS and not any(part in key for part in shared)}
    assert not missing
