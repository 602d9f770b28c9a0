"""`ring new`: a recipe file of one's own that states only what differs from another one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from flows.console import plain_console
from stages.config import STAGES
from stages.recipe import RECIPES, ResolvedRecipe, load_recipe, walk_values

_EXAMPLES = ("rl.objective.token_budget", "sft.training.epochs", "curation.max_prompt_characters", "seed")
_NUM_VALUES = 2  # a source of one's own is the third example
_out = plain_console()


def new(file: Path, *, from_: Annotated[str, Parameter(name="--from", negative="")]) -> int:
    """Write a recipe file that states only what differs from another recipe; `ring run FILE` runs it.

    Parameters
    ----------
    file
        The new file, whose name ends in .toml and is the recipe's name. One that is there already is left as it is.
    from_
        Name of a recipe, or a path that ends in .toml.

    """
    if file.suffix != ".toml":
        raise ValueError(f"{file}: a recipe's file ends in .toml; name it {file.with_suffix('.toml')}")
    parent = load_recipe(from_)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(_text(file, parent))
    except FileExistsError:
        raise ValueError(f"{file} is there already and is left as it is; choose another name, or remove it") from None
    try:
        load_recipe(str(file))
    except ValueError:
        file.unlink()
        raise
    _out.print(
        f"{file}: as {parent.recipe.name}, until you change something; then `ring run {file}`",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _text(file: Path, parent: ResolvedRecipe) -> str:
    lines = [
        f"# {file.stem}: what differs from {parent.recipe.name}; everything else is as it is there (`ring show {file.name}`).",
        f"# Run it with `ring run {file.name}`. Paths in this file are relative to it. Its name, {file.stem}, is that of its records.",
        "# A list entry with a name that is there changes that entry, another one is added; what is to go is named in `without`.",
        f"from = {json.dumps(_reference(parent.path, file))}",
        "",
        "# Examples: take the # away and change the value.",
        *_examples(parent),
    ]
    return "\n".join(lines) + "\n"


def _reference(parent: Path, file: Path) -> str:
    """A recipe of the project by its name, another one by its path from the new file."""
    if parent.resolve().parent == RECIPES:
        return parent.stem
    return os.path.relpath(parent.absolute(), file.absolute().parent)


def _examples(parent: ResolvedRecipe) -> Iterator[str]:
    """Three things to change, with the values that hold now."""
    reached = STAGES[: STAGES.index(parent.recipe.until) + 1]
    values: dict[str, Any] = {item.key: item.value for item in walk_values(parent.recipe)}
    keys = [key for key in _EXAMPLES if key in values and key.split(".")[0] in (*reached, "seed")]
    for key in sorted(keys[:_NUM_VALUES], key=lambda key: "." in key):
        table, _, name = key.rpartition(".")
        yield from ["#", *([f"# [{table}]"] if table else []), f"# {name} = {json.dumps(values[key])}"]
    yield from [
        "#",
        "# [[curation.sources]]            # problems of your own: docs/own-data.md",
        '# kind = "files"',
        '# name = "mine"',
        '# folder = "problems.csv"         # a file, or a folder of them',
        '# columns = { prompt = "question", answer = "answer" }   # where their names do not tell',
    ]
