"""What the configuration of RL and of evaluation refuses, and how an arm's steps fall into phases."""

from typing import Any

import pytest
from pydantic import ValidationError

from stages.config import (
    PRESETS,
    BaseConfig,
    CurationConfig,
    EvaluationConfig,
    IcePop,
    ModelEvaluationConfig,
    Objective,
    Phase,
    Recipe,
    RlArm,
    RlConfig,
    SftArm,
    Tis,
    Training,
)


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


# ---------------------------------------------------------------- objectives

PARTS = ("weights", "advantage", "ratio", "clip_low", "clip_high", "zero_groups", "overlong_share", "kl_coefficient")


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        # 2506.14731, 3.2: 1/Phi, (R - mean) / std, token ratio, epsilon .2, beta 1e-3
        ("c3po", ("budget", "standardised", "token", 0.2, 0.2, "last", 0.0, 1e-3)),
        # 2402.03300: a mean over responses of means over their tokens
        ("grpo", ("response_mean", "standardised", "token", 0.2, 0.2, "last", 0.0, 1e-3)),
        # 2503.14476: a mean over tokens, epsilon .2 and .28, no groups of equal rewards, 4 096 of 20 480 tokens, no KL
        ("dapo", ("token_mean", "standardised", "token", 0.2, 0.28, "leave_out", 4096 / 20_480, 0.0)),
        # 2503.20783: R - mean, sums over a constant length
        ("dr_grpo", ("constant", "centred", "token", 0.2, 0.2, "last", 0.0, 1e-3)),
        # 2507.18071: a response's ratio, epsilon 3e-4 and 4e-4
        ("gspo", ("response_mean", "standardised", "sequence", 3e-4, 4e-4, "last", 0.0, 1e-3)),
        # 2510.22115, 4.2.2: a sentence's ratio, weighed by its length, epsilon .03
        ("lpo", ("token_mean", "standardised", "sentence", 0.03, 0.03, "last", 0.0, 1e-3)),
    ],
)
def test_a_preset_is_what_its_report_says_and_all_else_is_the_papers(kind: str, parts: tuple) -> None:
    found = Objective.model_validate({"kind": kind})
    assert tuple(getattr(found, name) for name in PARTS) == parts
    others = set(Objective.model_fields) - {*PARTS, "kind"}
    assert found.model_dump(include=others) == Objective().model_dump(include=others)
    assert set(PRESETS[kind].values) == {name for name in PARTS if getattr(found, name) != getattr(Objective(), name)}


def test_what_is_stated_stands_above_a_preset() -> None:
    found = Objective.model_validate({"kind": "dapo", "clip_high": 0.5, "advantage": "centred"})
    assert (found.clip_low, found.clip_high, found.advantage, found.weights) == (0.2, 0.5, "centred", "token_mean")
    assert found.stated == {"kind": "dapo", "clip_high": 0.5, "advantage": "centred"}
    assert Objective.model_validate({**found.stated, "kind": "gspo"}).clip_low == 3e-4


def test_a_value_of_a_preset_has_the_report_as_its_origin() -> None:
    assert Objective(kind="dapo").origin_of("clip_high") == "arXiv 2503.14476, preset dapo"
    assert Objective(kind="dapo").origin_of("clip_low") == "paper 3.2"


@pytest.mark.parametrize("kind", PRESETS)
@pytest.mark.parametrize("mismatch", ["none", "tis", "icepop", "kpop", "sequence"])
def test_an_objective_that_is_written_down_and_read_again_is_the_same(kind: str, mismatch: str) -> None:
    whole = config(objective={"kind": kind, "token_budget": 7, "mismatch": mismatch})
    again = RlConfig.model_validate(whole.model_dump(mode="json"))
    assert again == whole
    assert again.model_dump(mode="json") == whole.model_dump(mode="json")
    assert again.objective.mismatch.kind == mismatch


def test_a_configuration_with_objectives_of_arms_that_is_written_down_and_read_again_is_the_same() -> None:
    whole = two_arms(
        {"objective": {"partial_rollouts": {"pool_rows": 32, "round_tokens": 8}, "left_over": "carry"}},
        {"objective": {"kind": "grpo"}, "optimizer": {"freeze_router": True}},
        objective={"token_budget": 100, "mismatch": "icepop"},
    )
    assert RlConfig.model_validate(whole.model_dump(mode="json")) == whole


def test_a_correction_of_the_mismatch_may_be_one_word() -> None:
    assert Objective.model_validate({"mismatch": "tis"}).mismatch == Tis()
    assert Objective.model_validate({"mismatch": {"kind": "tis", "cap": 3}}).mismatch == Tis(cap=3.0)


def test_what_an_objective_states_is_an_objective_again() -> None:
    for stated in (Objective(mismatch=Tis(cap=3.0)), Objective(kind="lpo", mismatch=IcePop())):
        assert Objective.model_validate(stated.stated) == stated


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"kl_estimator": "k1"}, "kl_estimator = 'k1' has no gradient on average in the loss: set kl_place = 'reward'"),
        ({"kind": "grpo", "left_over": "carry"}, "need weights = 'budget'; grpo has 'response_mean'"),
        ({"kind": "dapo", "partial_rollouts": {"pool_rows": 64}}, "need weights = 'budget'; dapo has 'token_mean'"),
        ({"mismatch": "tiss"}, "'tiss' .* any of the expected tags: 'none', 'tis', 'icepop', 'kpop', 'sequence'"),
        ({"mismatch": {"kind": "icepop", "low": 6}}, "low = 6 must be below high = 5"),
        ({"mismatch": {"kind": "sequence", "high": 0.9}}, "low = 0.999 must be below high = 0.9"),
        ({"partial_rollouts": {"round_tokens": 8}}, "pool_rows"),
        ({"kind": "dpo"}, "'c3po', 'grpo', 'dapo', 'dr_grpo', 'gspo' or 'lpo'"),
        ({"max_age": 0}, "max_age"),
    ],
)
def test_parts_that_do_not_fit_are_refused(stated: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Objective.model_validate(stated)


def test_k1_may_stand_in_the_reward_and_where_it_weighs_nothing() -> None:
    assert Objective(kl_estimator="k1", kl_place="reward").kl_estimator == "k1"
    assert Objective(kl_estimator="k1", kl_coefficient=0.0).kl_place == "loss"


def test_a_pool_that_holds_no_prompt_is_refused() -> None:
    partial = {"partial_rollouts": {"pool_rows": 15}}
    with pytest.raises(ValidationError, match=r"pool_rows = 15 must hold the rl\.samples_per_prompt = 16 responses"):
        config(objective=partial)
    assert config(objective=partial, samples_per_prompt=15).samples_per_prompt == 15
    with pytest.raises(ValidationError, match="pool_rows = 15"):
        two_arms({"objective": partial}, {})


# ---------------------------------------------------------------- the objective of an arm


def two_arms(one: dict[str, Any], other: dict[str, Any], **values: Any) -> RlConfig:
    """Arms `one` and `other`, of three steps where nothing else is said, with what each states."""
    phases = [{"name": "a", "steps": 3, "mixture": {"math": 1.0}}]
    arms = [{"kind": "rl", "name": name, "phases": phases, **own} for name, own in (("one", one), ("other", other))]
    return RlConfig.model_validate({"arms": arms, **values})


def test_an_arms_objective_stands_above_the_shared_one_and_keeps_what_that_states_beside_its_preset() -> None:
    shared = {"kind": "dapo", "token_budget": 100, "budget_scope": "global", "entropy_coefficient": 0.01}
    found = two_arms({}, {"objective": {"kind": "grpo"}}, objective=shared).objectives
    assert found["one"] == Objective(**shared)
    # nothing of DAPO's preset stays: not its clip, its penalty, its groups
    assert found["other"] == Objective(kind="grpo", token_budget=100, budget_scope="global", entropy_coefficient=0.01)


def test_an_arm_that_states_a_part_keeps_the_shared_kind() -> None:
    found = two_arms({}, {"objective": {"clip_high": 0.4}}, objective={"kind": "dapo"}).objectives["other"]
    assert found == Objective(kind="dapo", clip_high=0.4)


def test_an_arms_optimizer_stands_above_the_shared_one() -> None:
    whole = two_arms({}, {"optimizer": {"warmup_steps": 9}}, optimizer={"learning_rate": 1e-5, "weight_decay": 0.1})
    assert whole.for_arm("one").optimizer.warmup_steps == 3
    mine = whole.for_arm("other").optimizer
    assert (mine.learning_rate, mine.weight_decay, mine.warmup_steps) == (1e-5, 0.1, 9)


def test_equal_meaning_is_an_equal_configuration_wherever_it_is_stated() -> None:
    grpo, c3po = {"kind": "grpo", "clip_low": 0.1}, {"token_budget": 100, "budget_scope": "global"}
    ways = [
        two_arms({}, {}, objective={**c3po, **grpo}),
        two_arms({}, {"objective": grpo}, objective=c3po),
        two_arms({}, {"objective": {**c3po, **grpo}}, objective=c3po),
        two_arms({}, {"objective": Objective(**c3po, **grpo)}, objective=Objective(**c3po)),
        two_arms({}, {"objective": {"kind": "grpo", "weights": "response_mean", "clip_low": 0.1}}, objective=c3po),
        RlConfig.model_validate(two_arms({}, {"objective": grpo}, objective=c3po).model_dump(mode="json")),
    ]
    found = [way.for_arm("other") for way in ways]
    assert found == [found[0]] * len(found)
    assert {way.model_dump_json() for way in found} == {found[0].model_dump_json()}
    assert found[0].objective == Objective(**c3po, **grpo)
    (arm,) = found[0].arms
    assert isinstance(arm, RlArm)
    assert arm.objective is arm.optimizer is None


def test_an_arm_is_not_made_anew_by_what_another_states() -> None:
    alone, beside = two_arms({}, {}), two_arms({}, {"objective": {"kind": "gspo"}, "optimizer": {"warmup_steps": 1}})
    assert alone.for_arm("one") == beside.for_arm("one")
    assert alone.for_arm("other") != beside.for_arm("other")


def test_arms_of_different_objectives_are_compared_by_steps_times_updates_times_budget() -> None:
    # 3 steps x 100 and 3 x 2 x 50 tokens; GRPO counts by its own budget, too, though it takes all
    shared = {"token_budget": 100, "budget_scope": "global"}
    twice = {"updates_per_batch": 2, "token_budget": 50}
    whole = two_arms({"objective": {"kind": "grpo"}}, {"objective": twice}, objective=shared)
    assert [whole.total_token_budget(arm) for arm in whole.arms if isinstance(arm, RlArm)] == [300, 300]
    with pytest.raises(ValidationError, match=r"equal total token budgets .*\{'one': 300, 'other': 600\}"):
        two_arms({"objective": {"kind": "grpo"}}, {"objective": {"updates_per_batch": 2}}, objective=shared)
    ranks = {"budget_scope": "rank", "budget_ranks": 4}
    with pytest.raises(ValidationError, match=r"\{'one': 1200, 'other': 300\}"):
        two_arms({"objective": {**ranks, "token_budget": 100}}, {}, objective=shared)


# ---------------------------------------------------------------- arms


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


def test_a_domain_that_is_none_is_refused_and_one_of_ones_own_is_taken(tmp_path, monkeypatch):
    (tmp_path / "riddle.py").write_text("")
    phase = {"name": "all", "steps": 1, "mixture": {"riddle": 1.0}}
    monkeypatch.delenv("RING_DOMAINS", raising=False)
    with pytest.raises(
        ValidationError,
        match="no domain 'riddle'; there are math, code, science, gym; one of your own is a file that RING_DOMAINS",
    ):
        Phase(**phase)
    monkeypatch.setenv("RING_DOMAINS", str(tmp_path / "riddle.py"))
    assert Phase(**phase).mixture == {"riddle": 1.0}


# ---------------------------------------------------------------- evaluation


def test_a_benchmark_is_evaluated_only_where_curation_keeps_it_out_of_the_training_data() -> None:
    kept = CurationConfig(benchmarks=("math500", "gsm8k"))
    assert Recipe(name="a", until="curation", curation=kept, evaluation=EvaluationConfig(benchmarks=("gsm8k",)))
    for names, message in (
        (
            ("gsm8k", "aime24"),
            "evaluation.benchmarks names aime24, and curation does not keep it out of the training data",
        ),
        (("aime25", "aime24"), "names aime25, aime24, and curation does not keep them out"),
    ):
        with pytest.raises(ValidationError, match=message):
            Recipe(name="a", until="curation", curation=kept, evaluation=EvaluationConfig(benchmarks=names))


def test_samples_of_a_benchmark_are_its_protocols_unless_others_are_stated() -> None:
    chain = EvaluationConfig(benchmarks=("aime24", "math500", "aime24"), benchmark_samples={"math500": 2})
    assert chain.benchmarks == ("aime24", "math500")
    assert [chain.samples_of(name) for name in chain.benchmarks] == [64, 2]
    alone = {"model": "m", "name": "m", **chain.model_dump()}
    assert [ModelEvaluationConfig(**alone).samples_of(name) for name in chain.benchmarks] == [64, 2]
    assert [ModelEvaluationConfig(**alone, samples=3).samples_of(name) for name in chain.benchmarks] == [3, 3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"benchmarks": ("aime42",)}, "unknown benchmark 'aime42'; did you mean"),
        ({"benchmark_samples": {"aime24": 2}}, "benchmark_samples names aime24, which benchmarks does not"),
        ({"benchmarks": ("aime24",), "benchmark_samples": {"aime24": 0}}, "greater than or equal to 1"),
    ],
)
def test_benchmarks_that_are_none_and_samples_that_nothing_reads_are_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        EvaluationConfig(**values)
