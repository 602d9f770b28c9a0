"""A recipe that is `from` another one: what it states, what it leaves, and where each value comes from."""

from pathlib import Path

import pytest

from stages.config import Objective
from stages.recipe import RECIPES, RecipeError, load_recipe, recipe_names, walk_values


@pytest.fixture
def recipe(tmp_path):
    def make(text, name="my.toml", *, overrides=()):
        (tmp_path / name).write_text(text)
        return load_recipe(str(tmp_path / name), overrides=overrides)

    return make


def origins(resolved):
    return {item.key: resolved.origin(item.key, item.declared) for item in walk_values(resolved.recipe)}


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_that_states_nothing_is_its_parent_under_its_own_name(recipe, name):
    parent, mine = load_recipe(name), recipe(f'from = "{name}"\n')
    assert mine.recipe.name == "my"
    assert mine.recipe.model_copy(update={"name": name, "description": parent.recipe.description}) == parent.recipe
    known = {key: origin for key, origin in origins(parent).items() if key not in ("name", "description")}
    assert known.items() <= origins(mine).items()


def test_a_record_is_merged_and_shares_and_lists_are_one_value(recipe):
    mine = recipe(
        'from = "laptop"\n[curation]\nbenchmarks = ["aime24"]\n[sft.training]\nepochs = 3\n[rl.sampling]\nmax_new_tokens = 50\n'
        '[[curation.sources]]\nname = "pool"\nlevels = { 2 = 1.0 }\n'
    )
    parent = load_recipe("laptop").recipe
    assert mine.recipe.sft.training == parent.sft.training.model_copy(update={"epochs": 3})
    assert mine.recipe.curation.benchmarks == ("aime24",)
    pool = next(source for source in mine.recipe.curation.sources if source.name == "pool")
    assert pool.levels == {2: 1.0} and pool.num_kept == 5500
    found = origins(mine)
    assert found["sft.training.epochs"] == "my.toml:5"
    assert found["sft.training.batch_tokens"].startswith("laptop.toml:")
    assert found["sft.training.weight_decay"] == "paper 4.1.1"
    assert {key for key in found if mine.is_own(key)} == {
        "curation.benchmarks",
        "curation.sources.5.levels",
        "curation.sources.5.name",
        "rl.sampling.max_new_tokens",
        "sft.training.epochs",
    }
    assert (found["curation.sources.5.levels"], found["curation.sources.5.name"]) == ("my.toml:10", "my.toml:9")
    assert found["curation.sources.5.num_problems"].startswith("laptop.toml:")


def test_an_entry_with_a_new_name_is_added_and_lists_in_it_too(recipe):
    mine = recipe(
        'from = "laptop"\n[[rl.arms]]\nname = "mixed"\n[[rl.arms.phases]]\nname = "all"\nmax_total_tokens = 99\n'
        '[[rl.arms]]\nkind = "rl"\nname = "other"\n[[rl.arms.phases]]\nname = "all"\nsteps = 200\nmixture = { math = 1.0 }\n'
    )
    arms = {arm.name: arm for arm in mine.recipe.rl.arms}
    assert list(arms) == ["phased", "mixed", "more-sft", "other"]
    assert (arms["mixed"].phases[0].max_total_tokens, arms["mixed"].phases[0].steps) == (99, 200)
    found = origins(mine)
    assert found["rl.arms.1.phases.0.max_total_tokens"] == "my.toml:6"
    assert found["rl.arms.1.phases.0.steps"].startswith("laptop.toml:")
    assert found["rl.arms.3.phases.0.steps"] == "my.toml:12"


def test_an_objective_of_another_kind_keeps_what_the_parent_states_beside_it(recipe):
    mine = recipe('from = "laptop"\n[rl.objective]\nkind = "grpo"\nclip_low = 0.1\n')
    stated = {"token_budget": 4500, "budget_scope": "global", "kl_coefficient": 0.0}
    assert mine.recipe.rl.objective == Objective(kind="grpo", clip_low=0.1, **stated)
    found = origins(mine)
    assert found["rl.objective.weights"] == "arXiv 2402.03300 (paper eq. 1), preset grpo"
    assert found["rl.objective.token_budget"].startswith("laptop.toml:")


def test_a_record_of_another_kind_with_keys_of_its_own_replaces(recipe):
    parent = recipe('from = "laptop"\n[rl.objective.mismatch]\nkind = "icepop"\nhigh = 3\n')
    mine = recipe(f'from = "{parent.path.name}"\n[rl.objective.mismatch]\nkind = "tis"\n', name="mine.toml")
    assert mine.recipe.rl.objective.mismatch.model_dump() == {"kind": "tis", "cap": 2.0}


def test_without_takes_out_entries_and_values(recipe):
    mine = recipe(
        'from = "laptop"\nwithout = ["rl.arms.mixed", "curation.sources.heldout", "selection.samples_per_problem", "sft.training"]\n'
    )
    assert [arm.name for arm in mine.recipe.rl.arms] == ["phased", "more-sft"]
    assert mine.recipe.curation.sources[0].name == "harder"
    assert mine.recipe.sft.training.epochs == 3
    found, known = origins(mine), origins(load_recipe("laptop"))
    assert found["rl.arms.1.training.epochs"] == known["rl.arms.2.training.epochs"]
    assert found["curation.sources.0.num_problems"] == known["curation.sources.1.num_problems"]
    assert found["selection.samples_per_problem"] == "class default"


def test_an_empty_list_takes_out_all(recipe):
    assert recipe('from = "laptop"\n[curation]\nsources = []\n').recipe.curation.sources == ()


def test_children_of_children_and_changes_on_the_command_line(recipe):
    recipe('from = "smoke"\nname = "one"\ndescription = "mine"\nseed = 4\n[sft.training]\nepochs = 7\n', "one.toml")
    mine = recipe('from = "one.toml"\n[sft.training]\nlearning_rate = 0.1\n', overrides=["rl.arms.mixed.name='m'"])
    assert (mine.recipe.name, mine.recipe.description, mine.recipe.rl.seed) == ("my", "", 4)
    found = origins(mine)
    assert found["sft.training.epochs"] == "one.toml:6"
    assert found["sft.training.learning_rate"] == "my.toml:3"
    assert found["sft.training.warmup_share"].startswith("smoke.toml:")
    assert (found["rl.seed"], found["rl.arms.1.name"]) == ("one.toml:4", "--set")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('from = "latop"', r"my\.toml: from: no recipe 'latop'; did you mean 'laptop'"),
        ('from = "gone.toml"', r"no recipe 'gone\.toml' \(looked for /.*gone\.toml\)"),
        ('from = "my.toml"', "no recipe may be from itself: my.toml from my.toml"),
        ("from = 3", "`from` is a recipe's name or path"),
        ('until = "curation"\nwithout = ["rl"]', "name one: from"),
        ('from = "laptop"\nwithout = ["rl.arms.mixd"]', r"'rl\.arms\.mixd' is not stated there; did you mean 'mixed'"),
        ('from = "laptop"\nname = "laptop"', "leave `name` out, then it is 'my'"),
        (
            'from = "laptop"\n[sft.training]\nepoch = 3',
            r"^my\.toml:3: unknown key 'sft\.training\.epoch'; did you mean 'epochs'",
        ),
        ('from = "laptop"\n[sft.training]\nepochs = 0', r"^my\.toml:3: sft\.training\.epochs = 0"),
    ],
)
def test_a_mistake_is_told_with_its_file_and_line(recipe, text, message):
    with pytest.raises(RecipeError, match=message):
        recipe(text)


def test_the_kind_of_the_objective_may_be_left_out_and_that_of_a_source_is_asked_for(recipe):
    assert recipe('from = "ring-lite"\n[rl.objective]\ntoken_budget = 7\n').recipe.rl.objective.token_budget == 7
    with pytest.raises(RecipeError, match=r"'curation\.sources\.7' needs a `kind`: procedural, files, hub"):
        recipe('from = "laptop"\n[[curation.sources]]\nname = "mine"\n')


def test_a_misspelled_key_is_one_mistake(recipe):
    text = 'from = "laptop"\n[[curation.sources]]\nkind = "procedural"\nname = "x"\nsplit = "rl"\nnum_problem = 3\nlevels = { 2 = 1.0 }\n'
    with pytest.raises(RecipeError) as error:
        recipe(text)
    assert str(error.value) == "my.toml:6: unknown key 'curation.sources.7.num_problem'; did you mean 'num_problems'?"


def test_what_was_changed_on_the_command_line_is_blamed_there():
    with pytest.raises(RecipeError, match=r"^--set: unknown key 'rl\.samples_per_promt'"):
        load_recipe("laptop", overrides=["rl.samples_per_promt=3"])


def test_a_copy_is_its_original_until_it_is_changed(recipe):
    text = (RECIPES / "laptop.toml").read_text()
    assert recipe(text, "copy.toml").recipe.name == "laptop"
    with pytest.raises(RecipeError, match="leave `name` out, then it is 'copy'"):
        recipe(text + "\n# mine\n", "copy.toml")
    with pytest.raises(RecipeError, match="rename the file, or state another"):
        recipe('from = "laptop"\nseed = 1\n', "laptop.toml")


def test_a_name_is_the_files_in_the_letters_that_names_have(recipe):
    mine = recipe('from = "laptop"\n', "My recipe_2.toml")
    assert (mine.recipe.name, mine.origin("name", "recipe")) == ("my-recipe-2", "file name")


def test_paths_in_a_recipe_are_relative_to_its_file(recipe, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    recipe('from = "smoke"\n[base]\ncheckpoint = "models/base"\n[selection]\nstronger = "/abs"\n', "sub/one.toml")
    text = (
        'from = "sub/one.toml"\n[curation.duplicates]\nembeddings = "all-MiniLM-L6-v2"\n[[curation.sources]]\nkind = "files"\n'
        'name = "mine"\nfolder = "../rows.csv"\n[[curation.sources]]\nkind = "files"\nname = "given"\nfolder = "data-dir"\n'
    )
    recipe(text)
    monkeypatch.chdir(tmp_path.parent)
    found = load_recipe(str(Path(tmp_path.name) / "my.toml"), overrides=["selection.stronger='here'"]).recipe
    assert found.base.checkpoint == str(tmp_path / "sub" / "models" / "base")
    assert found.selection.stronger == "here"
    assert found.curation.duplicates.embeddings == "all-MiniLM-L6-v2"
    assert [source.folder for source in found.curation.sources[-2:]] == [str(tmp_path.parent / "rows.csv"), "data-dir"]
    assert load_recipe("ring-lite").recipe.base.checkpoint == "Ling-lite-1.5-base"
