"""Tokens and FLOPs of stages, by hand and by the formula of the house."""

import pytest

from ring_model.configuration import BailingMoeConfig
from stages.config import Recipe, RlConfig
from stages.recipe import load_recipe
from stages.sizing.assumptions import Assumptions
from stages.sizing.rows import Rows
from stages.sizing.work import loads_of, rl_load
from stages.training.compute import REFERENCE, SAMPLING, TRAINING, Work, forward_flops, row_work, sampling_work

LITE = BailingMoeConfig()
ROWS = Rows(base=0, sft=10, rl=20, probe=4, heldout=5, prompt_tokens=100, sft_tokens=1100, response_tokens=12_800)


def rl(**values: object) -> RlConfig:
    phase = {"name": "a", "steps": 1, "mixture": {"math": 1.0}}
    return RlConfig.model_validate({"arms": [{"kind": "rl", "name": "arm", "phases": [phase]}], **values})


def test_a_step_of_the_paper_trains_on_104_9_million_tokens() -> None:
    # 512 prompts x 16 responses x 12 800 tokens = 256 ranks x 409 600
    assert 512 * 16 * 12_800 == rl().objective.tokens_per_step == 104_857_600
    load = rl_load(rl().for_arm("arm"), LITE, ROWS)
    assert load.sampled == 104_857_600
    assert load.trained == 104_857_600 + 512 * 16 * 100  # with their prompts


def test_flops_of_a_step_are_the_houses_formula_row_by_row() -> None:
    load = rl_load(
        rl(prompts_per_step=2, samples_per_prompt=3, objective={"budget_scope": "global"}).for_arm("arm"), LITE, ROWS
    )
    row = row_work(100, 12_800)
    assert load.flops[REFERENCE] == 6 * forward_flops(row, LITE)
    assert load.flops[SAMPLING] == 2 * forward_flops(sampling_work(100, [12_800] * 3), LITE)
    assert load.flops[TRAINING] == 3 * 6 * forward_flops(row, LITE)  # 76 800 tokens: less than the budget


def test_a_budget_bounds_what_is_trained_on() -> None:
    budget = {"budget_scope": "global", "token_budget": 25_600, "kl_coefficient": 0.0}
    load = rl_load(rl(prompts_per_step=2, samples_per_prompt=3, objective=budget).for_arm("arm"), LITE, ROWS)
    assert load.trained == 25_600 + 2 * 100
    assert REFERENCE not in load.flops


def test_training_takes_about_six_flops_for_each_active_parameter_and_token() -> None:
    # attention over 13 000 tokens comes on top, the embedding and the prompts' logits do not count
    load = rl_load(rl().for_arm("arm"), LITE, ROWS)
    assert load.flops[TRAINING] / (6 * LITE.num_active_parameters * load.trained) == pytest.approx(1.0, abs=0.5)


def test_stages_of_a_chain_are_those_with_arithmetic() -> None:
    recipe = load_recipe("laptop").recipe
    loads = loads_of(recipe, LITE, ROWS, Assumptions())
    assert [load.stage for load in loads] == [
        "base",
        "sft",
        "selection",
        "rl phased",
        "rl mixed",
        "rl more-sft",
        "evaluation",
    ]
    by_stage = {load.stage: load for load in loads}
    training = recipe.sft.training
    tokens = training.max_total_tokens  # 1 100 do not fit
    assert by_stage["sft"].trained == 10 * tokens * training.epochs
    assert by_stage["sft"].flops == {
        TRAINING: 3 * 10 * training.epochs * forward_flops(row_work(100, tokens - 100), LITE)
    }


def test_an_evaluation_asks_every_model_greedily_and_sampled() -> None:
    recipe = Recipe.model_validate(
        {"name": "a", "until": "selection", "evaluation": {"samples_per_problem": 3, "sampling": {"max_new_tokens": 7}}}
    )
    load = loads_of(recipe, LITE, ROWS, Assumptions())[-1]
    assert load.stage == "selection"  # the chain ends before it evaluates
    whole = loads_of(load_recipe("laptop").recipe, LITE, ROWS, Assumptions())[-1]
    assert (
        whole.sampled == 4 * 5 * (1 + 4) * 110
    )  # sft and three arms, five problems, greedy and four samples of 110 tokens


def test_work_is_not_counted_twice() -> None:
    assert Work(1, 2, 3) + Work() == Work(1, 2, 3)
