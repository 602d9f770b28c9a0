"""What the configuration of RL refuses, and how an arm's steps fall into phases."""

from typing import Any

import pytest
from pydantic import ValidationError

from stages.config import BaseConfig, Objective, Phase, RlArm, RlConfig, SftArm, Training


def arm(**steps: int) -> RlArm:
    """An arm of phases by name and steps."""
    phases = tuple({"name": name, "steps": count, "mixture": {"math": 1.0}} for name, count in steps.items())
    return RlArm.model_validate({"kind": "rl", "name": "arm", "phases": phases})


def config(**values: Any) -> RlConfig:
    return RlConfig(arms=(arm(a=1),), **values)


ARM = arm(a=2, b=1, c=3)


def test_a_step_belongs_to_the_phase_in_which_it_falls() -> None:
    assert ARM.num_steps == 6
    assert [ARM.phase_of(step).name for step in range(1, 7)] == ["a", "a", "b", "c", "c", "c"]


def test_a_step_past_the_arm_is_refused() -> None:
    with pytest.raises(ValueError, match="step 7 is beyond the 6 steps of arm arm"):
        ARM.phase_of(7)


def test_a_phase_ends_with_its_last_step_and_the_arm_with_the_last_phase() -> None:
    assert [step for step in range(1, 7) if ARM.ends_phase(step)] == [2, 3, 6]


def test_a_phase_begins_with_the_step_after_the_last_ones_end() -> None:
    assert [step for step in range(1, 7) if ARM.begins_phase(step)] == [1, 3, 4]


def test_an_arm_that_is_cut_short_goes_on_with_the_next_phase() -> None:
    short = ARM.cut_short({"a": 1, "c": 2})
    assert [short.phase_of(step).name for step in range(1, 5)] == ["a", "b", "c", "c"]
    assert short.num_steps == 4
    assert ARM.cut_short({}) == ARM


def test_a_phase_has_a_budget_and_a_learning_rate_of_its_own_where_it_states_them() -> None:
    own = {"name": "b", "steps": 3, "mixture": {"math": 1.0}, "token_budget": 70, "learning_rate": 0.5}
    phases = (arm(a=2).phases[0], Phase.model_validate(own))
    whole = RlConfig(
        arms=(arm(a=1).model_copy(update={"phases": phases}),),
        objective=Objective(token_budget=10, clip_low=0.3, budget_scope="global"),
    )
    assert whole.for_phase(phases[0]) == whole
    of_phase = whole.for_phase(phases[1])
    assert of_phase.objective == Objective(token_budget=70, clip_low=0.3, budget_scope="global")
    assert of_phase.optimizer == whole.optimizer.model_copy(update={"learning_rate": 0.5})
    assert of_phase.model_copy(update={"objective": whole.objective, "optimizer": whole.optimizer}) == whole
    assert whole.total_token_budget(whole.arms[0]) == 2 * 10 + 3 * 70


def test_equal_budgets_count_what_a_phase_states() -> None:
    def budgets(first: int, second: int) -> RlConfig:
        phase = {"name": "p", "mixture": {"math": 1.0}}
        arms = [
            {"kind": "rl", "name": "a", "phases": [{**phase, "steps": 3, "token_budget": first}]},
            {"kind": "rl", "name": "b", "phases": [{**phase, "steps": 6, "token_budget": second}]},
        ]
        return RlConfig.model_validate({"arms": arms, "objective": {"budget_scope": "global"}})

    assert [budgets(20, 10).total_token_budget(arm) for arm in budgets(20, 10).arms] == [60, 60]
    with pytest.raises(ValidationError, match=r"equal total token budgets .* {'a': 60, 'b': 66}"):
        budgets(20, 11)


def test_a_plateau_needs_a_probe() -> None:
    phase = {"name": "p", "steps": 3, "mixture": {"math": 1.0}, "until": {"patience": 2}}
    values = {"arms": [{"kind": "rl", "name": "arm", "phases": [phase]}]}
    with pytest.raises(ValidationError, match="arm arm, phase p: `until` needs the probe"):
        RlConfig.model_validate(values)
    assert RlConfig.model_validate({**values, "probe_every": 2}).arms[0].phases[0].until.min_gain == 0.01


def test_the_model_of_a_phase_has_a_folder_by_number_and_name() -> None:
    assert [ARM.phase_folder(step) for step in (2, 3, 6)] == ["phase-01-a", "phase-02-b", "phase-03-c"]


def test_phases_of_one_name_are_refused() -> None:
    phases = [{"name": name, "steps": 1, "mixture": {"math": 1.0}} for name in ("a", "b", "a")]
    with pytest.raises(ValidationError, match="phases of an arm need different names; these are a, b, a"):
        RlArm.model_validate({"kind": "rl", "name": "arm", "phases": phases})


def test_a_phases_name_is_one_of_a_folder() -> None:
    with pytest.raises(ValidationError, match="name"):
        arm(**{"a/b": 1})


def test_a_nucleus_is_refused_in_rl() -> None:
    assert config(sampling={"top_p": 1.0}).sampling.top_p == 1.0
    with pytest.raises(ValidationError, match=r"rl.sampling.top_p = 0.95 must be 1"):
        config(sampling={"top_p": 0.95})


def test_budgets_are_one_a_virtual_rank_or_one_for_the_step() -> None:
    assert Objective(budget_scope="rank", budget_ranks=8).num_budgets == 8
    assert Objective(budget_scope="global", budget_ranks=8).num_budgets == 1
    assert Objective().num_budgets == 256


def test_the_kind_of_an_objective_may_be_left_out_and_is_c3po_then() -> None:
    found = config(objective={"token_budget": 7}).objective
    assert (found.kind, found.token_budget) == ("c3po", 7)
    assert config(objective={"kind": "grpo"}).objective.kind == "grpo"


def test_arms_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="arms need different names"):
        RlConfig(arms=(arm(a=1), arm(b=1)))


def test_an_arms_configuration_holds_that_arm_alone() -> None:
    two = arm(a=1).model_copy(update={"name": "other"})
    whole = RlConfig(arms=(arm(a=1), two), seed=3)
    assert whole.for_arm("other").arms == (two,)
    assert whole.for_arm("other").seed == 3


def test_virtual_ranks_without_a_prompt_are_refused() -> None:
    objective = Objective(budget_scope="rank", budget_ranks=5)
    with pytest.raises(ValueError, match=r"budget_ranks = 5 virtual ranks share rl.prompts_per_step = 4 prompts"):
        config(objective=objective, prompts_per_step=4)
    assert config(objective=objective, prompts_per_step=5).prompts_per_step == 5


@pytest.mark.parametrize("count", [1, 7])
def test_a_mean_is_of_two_checkpoints_or_more_and_of_no_more_than_there_are(count: int) -> None:
    assert Training(epochs=3, checkpoints_per_epoch=2, mean_of_last=6).mean_of_last == 6
    with pytest.raises(
        ValidationError, match=rf"mean_of_last = {count} must be 0 \(none\), or from 2 to the 6 checkpoints"
    ):
        Training(epochs=3, checkpoints_per_epoch=2, mean_of_last=count)


@pytest.mark.parametrize("more", [{"checkpoints_per_epoch": 2}, {"mean_of_last": 2}])
def test_training_of_which_only_the_last_model_is_kept_takes_no_more_checkpoints(more: dict[str, int]) -> None:
    for make in (
        lambda training: BaseConfig(training=training),
        lambda training: SftArm(kind="sft", name="a", training=training),
    ):
        assert make(Training()).training == Training()
        with pytest.raises(ValidationError, match=r"belong to sft\.training"):
            make(Training(**more))
