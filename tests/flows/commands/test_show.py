"""`ring show`: keys and values as they are copied into --set; nothing is cut."""

import re
import tomllib

import pytest

from flows.commands import show
from stages.recipe import RecipeError, load_recipe, walk_values


def lines_of(capsys, *arguments, width: int = 80, **options) -> list[str]:
    show._out.width = width
    assert show.show(*arguments, **options) == 0
    return capsys.readouterr().out.splitlines()


def given(lines: list[str]) -> dict[str, str]:
    """Key -> value of the lines that give one, without the comment."""
    pairs = [re.sub(r"  # .*", "", line).split(" = ", 1) for line in lines[:-1] if not line.startswith("    # ")]
    return dict(pairs)


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("recipe", ["laptop", "ring-lite", "curate-public"])
def test_every_key_and_value_is_there_whole_and_can_be_set_again(capsys, recipe, width):
    values = {value.key: value.value for value in walk_values(load_recipe(recipe).recipe)}
    shown = given(lines_of(capsys, recipe, width=width))
    assert list(shown) == list(values)
    for key, text in shown.items():
        read = None if text == "none" else tomllib.loads(f"value = {text}")["value"]
        assert str(plain(read)) == str(plain(values[key])), key


def plain(value):
    """Tuples as lists and keys as texts, as TOML has them."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def test_a_section_shows_what_lies_below_it_and_no_namesake(capsys):
    shown = given(lines_of(capsys, "laptop", "rl.objective"))
    assert "rl.objective.token_budget" in shown
    assert all(key.startswith("rl.objective.") for key in shown)
    assert given(lines_of(capsys, "laptop", "seed")).keys() == {"seed"}


def test_an_unknown_section_offers_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean 'rl\.objective'\?"):
        show.show("laptop", "rl.objectve")


def test_changed_shows_what_the_recipe_and_set_give_and_no_default(capsys):
    lines = lines_of(
        capsys, "smoke", changed=True, set_=["rl.objective.token_budget=300", "evaluation.confidence=0.95"]
    )
    shown = given(lines)
    assert shown["rl.objective.token_budget"] == "300" and shown["name"] == '"smoke"'
    assert "rl.objective.advantage_epsilon" not in shown  # nobody gives it
    assert "evaluation.confidence" not in shown  # given, and the default
    place = next(number for number, line in enumerate(lines) if line.startswith("rl.objective.token_budget = 300"))
    assert "# --set: " in " ".join(lines[place : place + 2])  # what is too long for a line goes below


def test_a_path_of_ones_own_is_shown_too(tmp_path, capsys):
    path = tmp_path / "my.toml"
    path.write_text('name = "my"\nuntil = "curation"\n[curation]\nseed = 7\nsources = []\n', encoding="utf-8")
    try:
        lines = lines_of(capsys, str(path), changed=True)
    except RecipeError as error:
        pytest.fail(str(error))
    assert given(lines)["curation.seed"] == "7"
    assert "my.toml:4" in "\n".join(lines)


def test_a_meaning_is_said_once(capsys):
    lines = lines_of(capsys, "laptop", "curation.sources")
    assert sum("name in ids and in the funnel" in line for line in lines) == 1
