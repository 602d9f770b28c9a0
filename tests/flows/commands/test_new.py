"""`ring new` writes a recipe that is its parent until something is changed, and says so."""

import re

import pytest

from flows.commands.new import new
from stages.recipe import load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_a_new_recipe_is_its_parent_and_so_are_its_examples(tmp_path, name):
    file = tmp_path / "my.toml"
    assert new(file, from_=name) == 0
    parent = load_recipe(name).recipe
    changes = {"name": "my", "description": ""}
    assert load_recipe(str(file)).recipe == parent.model_copy(update=changes)
    head, _, examples = file.read_text().partition("# Examples")
    assert examples.count("\n#\n") == 3
    file.write_text(head + "#" + re.sub("^# ?", "", examples, flags=re.MULTILINE))
    assert load_recipe(str(file)).recipe.curation.sources[-1].folder == str(tmp_path / "problems.csv")


def test_a_new_recipe_may_be_from_another_file(tmp_path):
    (tmp_path / "sub").mkdir()
    new(tmp_path / "one.toml", from_="smoke")
    new(tmp_path / "sub" / "two.toml", from_=str(tmp_path / "one.toml"))
    assert 'from = "../one.toml"' in (tmp_path / "sub" / "two.toml").read_text()


@pytest.mark.parametrize(
    ("name", "parent", "message"),
    [
        ("there.toml", "laptop", "is there already and is left as it is"),
        ("my.txt", "laptop", r"name it .*my\.toml"),
        ("my.toml", "latop", "did you mean 'laptop'"),
        ("smoke.toml", "laptop", "rename the file"),
        ("no/folder/my.toml", "laptop", "No such file"),
    ],
)
def test_a_mistake_leaves_nothing_behind(tmp_path, name, parent, message):
    (tmp_path / "there.toml").write_text("mine")
    with pytest.raises((ValueError, OSError), match=message):
        new(tmp_path / name, from_=parent)
    assert [path.name for path in tmp_path.iterdir()] == ["there.toml"]
    assert (tmp_path / "there.toml").read_text() == "mine"
