"""`ring show`: every value of a recipe, written as one copies it into `--set` or a TOML file. No key and no value is ever cut."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from flows.console import assembled, plain_console
from flows.tables import wrapped
from stages.recipe import ResolvedRecipe, Value, load_recipe, recipe_names, walk_values

_out = plain_console()
_COMMENT = "    # "


def show(
    recipe: str | None = None,
    section: str | None = None,
    *,
    changed: Annotated[bool, Parameter(negative="")] = False,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
) -> int:
    """Print the values of a recipe and where each comes from: the paper, a class default, a line of the recipe, or --set.

    Parameters
    ----------
    recipe
        Name or path; without it the recipes are listed.
    section
        Only the values below this key, as `rl` or `rl.objective`.
    changed
        Only the values that the recipe or --set gives and that differ from the class default, or from the recipe that it is `from`.
    set_
        KEY=VALUE, as for `ring run`.

    """
    if recipe is None:
        for name in recipe_names():
            _out.print(f"{name:<16} {load_recipe(name).recipe.description}", highlight=False)
        return 0
    resolved = load_recipe(recipe, overrides=set_ or [])
    values = [value for value in _within(resolved, section) if not changed or resolved.changes(value)]
    said: set[str] = set()
    for value in values:
        _print_value(
            value, origin=resolved.origin(value.key, value.declared), meaning="" if value.doc in said else value.doc
        )
        said.add(value.doc)
    _out.print(_summary(resolved, len(values), section=section, changed=changed), highlight=False, soft_wrap=True)
    return 0


def _within(resolved: ResolvedRecipe, section: str | None) -> list[Value]:
    """Raises ValueError for a section that the recipe does not have; the nearest is offered."""
    values = [*walk_values(resolved.recipe)]
    if section is None:
        return values
    found = [value for value in values if f"{value.key}.".startswith(f"{section.rstrip('.')}.")]
    if not found:
        parts = [value.key.split(".") for value in values]
        known = sorted({".".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)})
        near = difflib.get_close_matches(section, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        top = [name for name in known if "." not in name]
        raise ValueError(f"{resolved.path.name} has no section {section!r}; {hint}at the top are {', '.join(top)}")
    return found


def _print_value(value: Value, *, origin: str, meaning: str) -> None:
    """On one line where it fits, else the comment below. A long value stays on one line, so that it can be copied."""
    given, about = toml_text(value.value), f"{origin}: {meaning}" if meaning else origin
    line = assembled((value.key, "bold"), f" = {given}")
    beside = assembled("  ", (f"# {about}", "dim"))
    if line.cell_len + beside.cell_len <= _out.width:
        _out.print(line + beside, soft_wrap=True)
        return
    _out.print(line, soft_wrap=True)
    for part in wrapped(about, width=_out.width - len(_COMMENT)):
        _out.print(assembled((_COMMENT + part, "dim")), soft_wrap=True)


def _summary(resolved: ResolvedRecipe, count: int, *, section: str | None, changed: bool) -> str:
    where = f" below {section}" if section else ""
    what = "values that the recipe or --set changes" if changed else "values"
    more = "" if changed else "; --changed leaves the defaults out"
    return f"{resolved.path.name}: {count} {what}{where}{more}"


def toml_text(value: Any) -> str:  # noqa: ANN401 - any value of a recipe
    """As in a recipe; what is not set has no TOML form and stands as `none`."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml_text(item)}" for key, item in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(toml_text, value)) + "]"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
