"""Recipes: every one loads; mistakes are told with the nearest name; origins are the line that set a value."""

import pytest

from stages.config import PRESETS, Objective, Phase, RlArm, RlConfig, Runtime
from stages.plan import plan_chain
from stages.recipe import RecipeError, flatten, key_lines, load_recipe, recipe_names, walk_values


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_can_be_planned(name, tmp_path):
    resolved = load_recipe(name)
    if resolved.recipe.base.checkpoint:  # a released folder that this machine need not have
        (tmp_path / "config.json").write_text("{}")
        resolved = load_recipe(name, overrides=[f"base.checkpoint='{tmp_path}'"])
    assert resolved.recipe.name == name
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text(
        "question,answer\nWhat is 6 times 7?,42\n"
    )  # where a recipe reads files
    assert next(spec.stage for spec in plan_chain(resolved.recipe, data_dir=tmp_path / "data")) == "curation"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sft.training.epoch=3", "did you mean 'epochs'"),
        ("rl.arms.mixed.phases.0.stps=3", "did you mean 'steps'"),
        ("curation.sources.0.levls={2=1.0}", "did you mean 'levels'"),
        ("sft.training.epochs=0", "sft.training.epochs = 0"),
        ("rl.arms.nobody.name='x'", "none of the 3 elements"),
        ("rl.arms.0.phases.0.mixture={math=0.5}", "sum to 1"),
        ("selection.entropy_window=[0.5, 0.3]", "entropy_window"),
        ("rl.arms.mixed.start='../model'", "rl.arms.1.start = '../model'"),
        ("novalue", "write KEY=VALUE"),
    ],
)
def test_a_mistake_is_told_by_name_and_limit(override, message):
    with pytest.raises(RecipeError, match=message.replace("[", r"\[")):
        load_recipe("laptop", overrides=[override])


@pytest.mark.parametrize(
    "override",
    [
        "runtime.vllm_address=http://me:geheim@gpu-1:8100",
        "runtime.vllm_address=http://geheim@gpu-1:8100",
        "runtime.dask_address=tcp://me:geheim@cpu-1:8786",
        "runtime.dask_address=me:geheim@cpu-1",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(override):
    with pytest.raises(RecipeError, match="name credentials by the environment") as caught:
        load_recipe("smoke", overrides=[override])
    assert override.partition("=")[0] in str(caught.value) and "geheim" not in str(caught.value)


def test_a_mistake_of_set_is_not_blamed_on_the_file(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        'name = "own"\nuntil = "curation"\n[curation]\nsources = []\n[sft.training]\nepochs = 0\n', encoding="utf-8"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(own), overrides=["evaluation.confidence=2"])
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["own.toml", "--set"]


def test_an_unknown_recipe_offers_the_nearest_name():
    with pytest.raises(RecipeError, match="did you mean 'laptop'"):
        load_recipe("latop")


def test_arms_with_unequal_budgets_are_refused_with_both_numbers():
    config = load_recipe("laptop").recipe.rl
    whole, one = config.total_token_budget(config.arms[0]), config.objective.token_budget
    with pytest.raises(RecipeError, match=rf"equal total token budgets.*'phased': {whole}, 'mixed': {one}}}"):
        load_recipe("laptop", overrides=["rl.arms.mixed.phases.0.steps=1"])


def test_equal_budgets_count_steps_of_all_phases():
    arms = tuple(
        RlArm(
            kind="rl",
            name=name,
            phases=tuple(Phase(name=str(i), steps=s, mixture={"math": 1.0}) for i, s in enumerate(steps)),
        )
        for name, steps in {"a": (2, 3), "b": (5,)}.items()
    )
    config = RlConfig(arms=arms, objective=Objective(token_budget=10, budget_scope="global"))
    assert [config.total_token_budget(arm) for arm in arms] == [50, 50]


@pytest.mark.parametrize("name", ["laptop", "smoke"])
@pytest.mark.parametrize("kind", PRESETS)
def test_one_word_on_the_command_line_changes_the_objective_of_all_arms(name, kind):
    config = load_recipe(name, overrides=[f"rl.objective.kind={kind}"]).recipe.rl
    stated = load_recipe(name).recipe.rl.objective.stated
    assert config.objectives == dict.fromkeys(("phased", "mixed"), Objective(**{**stated, "kind": kind}))
    assert config.objective.weights == PRESETS[kind].values.get("weights", "budget")


def test_an_arms_own_objective_stands_above_one_of_the_command_line():
    own = "rl.arms.mixed.objective={kind='grpo', clip_low=0.1}"
    config = load_recipe("smoke", overrides=["rl.objective.kind=dapo", own]).recipe.rl
    assert config.objectives["phased"] == Objective(kind="dapo", token_budget=400, budget_scope="global")
    assert config.objectives["mixed"] == Objective(kind="grpo", token_budget=400, budget_scope="global", clip_low=0.1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rl.objective=grpo", "rl.objective = 'grpo'"),
        ("rl.arms.mixed.objective=grpo", "rl.arms.1.*objective = 'grpo'"),
        ("rl.objective={kind=['grpo']}", "rl.objective.kind"),
        ("rl.optimizer=3", "rl.optimizer = 3"),
        ("rl.arms=3", "rl.arms = 3"),
    ],
)
def test_what_should_be_a_table_is_told_as_such(override, message):
    with pytest.raises(RecipeError, match=f"^--set: {message}"):
        load_recipe("smoke", overrides=[override])


def test_the_correction_of_the_mismatch_is_a_word_or_a_table():
    for override in ("rl.objective.mismatch=tis", "rl.objective.mismatch.kind=tis"):
        assert load_recipe("smoke", overrides=[override]).recipe.rl.objective.mismatch.kind == "tis"
    with pytest.raises(RecipeError, match=r"--set: rl.objective.mismatch: .*'tiss'.* 'none', 'tis', 'icepop', 'kpop'"):
        load_recipe("smoke", overrides=["rl.objective.mismatch=tiss"])


def test_key_lines_number_tables_of_arrays():
    text = "a = 1\n[b]\nc = 2\n[[d.e]]\nf = 3\n[[d.e]]\nf = 4\n[[d.e.g]]\nh = 5\n"
    assert key_lines(text) == {"a": 1, "b.c": 3, "d.e.0.f": 5, "d.e.1.f": 7, "d.e.1.g.0.h": 9}


def test_a_value_names_its_origin():
    resolved = load_recipe("laptop", overrides=["rl.samples_per_prompt=4"])
    origins = {item.key: resolved.origin(item.key, item.declared) for item in walk_values(resolved.recipe)}
    assert origins["rl.samples_per_prompt"] == "--set"
    assert origins["rl.objective.token_budget"].startswith("laptop.toml:")
    assert origins["rl.objective.clip_low"] == "paper 3.2"
    assert origins["rl.objective.advantage_epsilon"] == "class default"


def test_flatten_gives_every_default_under_its_dotted_name():
    flat = flatten(Runtime(), prefix="runtime.")
    assert flat["runtime.workers"] == 2
    assert len(flat) == len(Runtime.model_fields)


def origins(recipe, *overrides):
    resolved = load_recipe(str(recipe), overrides=overrides)
    return {item.key: resolved.origin(item.key, item.declared) for item in walk_values(resolved.recipe)}


def test_a_seed_that_follows_the_recipes_has_its_origin():
    assert origins("laptop")["sft.seed"] == origins("laptop")["seed"] == "laptop.toml:5"
    changed = origins("laptop", "seed=3", "rl.seed=4")
    assert {changed[f"{stage}.seed"] for stage in ("curation", "base", "sft", "selection", "rl")} == {"--set"}
    assert "seed" not in load_recipe("laptop").recipe.report.model_dump()


def test_an_element_named_on_the_command_line_is_marked_by_its_number():
    assert (
        origins("laptop", "rl.arms.mixed.phases.all.max_total_tokens=200")["rl.arms.1.phases.0.max_total_tokens"]
        == "--set"
    )


def test_keys_of_an_inline_table_have_its_line_and_what_it_leaves_out_is_a_default(tmp_path):
    recipe = tmp_path / "inline.toml"
    recipe.write_text(
        "name = 'inline'\nuntil = 'curation'\n[[curation.sources]]\nkind = 'procedural'\nname = 'a'\nsplit = 'sft'\n"
        "num_problems = 1\nlevels = { 1 = 1.0 }\nteacher = { styles = { long = 1.0 } }\n[base]\nmodel.hidden_size = 32\n"
    )
    found = origins(recipe)
    assert found["curation.sources.0.teacher.styles"] == "inline.toml:9"
    assert found["curation.sources.0.teacher.max_tries"] == "class default"
    assert found["base.model.hidden_size"] == "inline.toml:11"
    replaced = origins(recipe, "base.model={num_hidden_layers=2}")
    assert replaced["base.model.num_hidden_layers"] == "--set"
    assert replaced["base.model.hidden_size"] == "paper model table"
