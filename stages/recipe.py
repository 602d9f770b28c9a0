"""Load a recipe (TOML), apply overrides, and say where each value comes from.

A recipe is a file under `recipes/` named by its stem, or a path. Errors are `RecipeError`: one message that says what,
where, the limit and what to do.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from stages.config import STAGES, Recipe

RECIPES = Path(__file__).resolve().parent.parent / "recipes"


class RecipeError(ValueError):
    """A recipe that cannot be used, and why."""


@dataclass(frozen=True, slots=True)
class ResolvedRecipe:
    """A recipe with every value filled in, and what its origins are told from; all keys are dotted, list elements numbers."""

    recipe: Recipe
    path: Path
    lines: dict[str, int]  # key -> line of the file that sets it
    overrides: frozenset[str]  # keys from --set
    stated: frozenset[str]  # keys that the file or --set states, tables included
    seeded: frozenset[str]  # seeds that follow the recipe's

    def changes(self, value: "Value") -> bool:
        """Whether the file or --set gives a value other than the one that would hold without it."""
        return value.key in self.stated and value.value != value.default

    def origin(self, key: str, declared: str) -> str:
        """Where the value of a dotted key comes from: a command line, a recipe line, the paper, or our default."""
        source = "seed" if key in self.seeded else key
        if source in self.stated:
            if _related(source, self.overrides):
                return "--set"
            if line := _related(source, self.lines):
                return f"{self.path.name}:{self.lines[line]}"
        return {"ours": "class default", "recipe": "recipe"}.get(declared, declared)


def _related(key: str, known: Iterable[str]) -> str | None:
    """The known key that sets this one: itself, else one that it lies in, else one that lies in it."""
    found = [name for name in known if f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.")]
    return min(found, key=lambda name: (name != key, -len(name), name), default=None)


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the project."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name: str, *, overrides: Sequence[str] = ()) -> ResolvedRecipe:
    """Read, override, validate. `overrides` are KEY=VALUE with a dotted key and a TOML value.

    Raises RecipeError for an unknown recipe or key (the nearest name is offered) and for a value out of range.
    """
    path = _find(name)
    text = path.read_text(encoding="utf-8")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    overridden = frozenset(_override(raw, item) for item in overrides)
    stated = frozenset(_dotted_keys(raw))
    seeded = _spread_seed(raw)
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(_explain(error, path, overridden)) from error
    return ResolvedRecipe(
        recipe=recipe, path=path, lines=key_lines(text), overrides=overridden, stated=stated, seeded=seeded
    )


def _spread_seed(raw: dict[str, Any]) -> frozenset[str]:
    """Give the recipe's seed to every stage that takes one and states none; returns the keys that were set."""
    found = set()
    for stage in STAGES:
        takes_seed = any("seed" in model.model_fields for model in _models(Recipe.model_fields[stage].annotation))
        is_there = isinstance(raw.get(stage, {}), dict) and (stage != "rl" or "rl" in raw)
        if takes_seed and is_there and "seed" not in raw.setdefault(stage, {}):
            raw[stage]["seed"] = raw.get("seed", 0)
            found.add(f"{stage}.seed")
    return frozenset(found)


def _dotted_keys(node: Any, prefix: str = "") -> Iterator[str]:  # noqa: ANN401 - a TOML node
    """Every key below a TOML node, tables and list elements included."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield f"{prefix}{key}"
        yield from _dotted_keys(value, f"{prefix}{key}.")


def _find(name: str) -> Path:
    candidates = [Path(name)] if name.endswith(".toml") else [RECIPES / f"{name}.toml"]
    for path in candidates:
        if path.is_file():
            return path
    near = difflib.get_close_matches(name, recipe_names(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise RecipeError(
        f"no recipe {name!r}; {hint}known: {', '.join(recipe_names())}; or give a path that ends in .toml"
    )


def _override(raw: dict[str, Any], item: str) -> str:
    """Change one value; returns its dotted key, list elements by number."""
    key, separator, value = item.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set {item!r}: write KEY=VALUE, for example --set rl.samples_per_prompt=8")
    *parents, last = key.split(".")
    target: Any = raw
    path: list[str] = []
    for part in parents:
        path.append(_step(target, part, key))
        target = target[int(path[-1])] if isinstance(target, list) else target.setdefault(part, {})
    path.append(_step(target, last, key))
    if isinstance(target, list):
        target[int(path[-1])] = _toml_value(value)
    else:
        target[last] = _toml_value(value)
    return ".".join(path)


def _step(target: Any, part: str, key: str) -> str:  # noqa: ANN401 - a TOML node
    """The key of one step down from a TOML node: a table's as it is, a list element's as its number."""
    if isinstance(target, list):
        return str(_index(target, part, key))
    if not isinstance(target, dict):
        raise RecipeError(f"--set {key}: {part!r} lies below a plain value")
    return part


def _index(target: list[Any], part: str, key: str) -> int:
    """A list element by number, or by its `name`."""
    names = [item.get("name") if isinstance(item, dict) else None for item in target]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(target):
        return int(part)
    raise RecipeError(
        f"--set {key}: {part!r} is none of the {len(target)} elements; use 0 to {len(target) - 1} or a name of {[n for n in names if n]}"
    )


def _toml_value(text: str) -> Any:  # noqa: ANN401 - any TOML value
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(error: ValidationError, path: Path, overridden: frozenset[str]) -> str:
    return "\n".join(f"{_blamed(dict(item), path, overridden)}: {_explain_one(dict(item))}" for item in error.errors())


def _blamed(item: dict[str, Any], path: Path, overridden: frozenset[str]) -> str:
    """`--set` where a key of it is wrong, or lies in what is wrong; both where the recipe as a whole is."""
    key = ".".join(_location(item))
    if not key and overridden:
        return f"{path.name} with --set"
    return "--set" if _related(key, overridden) else path.name


def _location(item: dict[str, Any]) -> list[str]:
    """The keys that lead to a mistake, without the tags of unions."""
    location = [str(part) for part in item["loc"]]
    return [part for before, part in zip(["", *location], location, strict=False) if not _is_tag(before, part)]


def _explain_one(item: dict[str, Any]) -> str:
    location = [str(part) for part in item["loc"]]
    key = ".".join(_location(item)) or "recipe"
    if item["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        return f"unknown key {key!r}" + (
            f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"
        )
    if item["type"] == "missing":
        return f"{key!r} is needed and has no default"
    message = item["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(item.get("input"), dict) else f" = {item.get('input')!r}"
    return f"{key}{shown}: {message}"


def _is_tag(before: str, part: str) -> bool:
    """Pydantic puts the tag of a union (`procedural`, `c3po`, ...) into a location; no recipe writes it there."""
    return part in ("procedural", "parquet", "hub", "c3po", "grpo") or (before.isdigit() and part in ("rl", "sft"))


def _known_keys(location: Sequence[str]) -> list[str]:
    """Field names of the records that a location may lead to."""
    records: list[type[BaseModel]] = [Recipe]
    for part in location:
        fields = [record.model_fields[part].annotation for record in records if part in record.model_fields]
        found = [model for annotation in fields for model in _models(annotation)]
        tagged = [model for model in records if _tag(model) == part]
        records = found or tagged or records
    return sorted({name for record in records for name in record.model_fields})


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    arguments = getattr(kind.annotation, "__args__", ()) if kind else ()
    return arguments[0] if arguments else None


def _models(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - a type form
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models(argument)]


_HEADER = re.compile(r"^\s*\[(\[)?\s*([A-Za-z0-9_.\-]+)\s*\]\]?")
_KEY = re.compile(r"^\s*([A-Za-z0-9_.\-]+)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """Line (from 1) of every `key =` of a TOML text, by dotted key; elements of arrays of tables are numbered from 0."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            prefix = _table_prefix(header.group(2), is_array=bool(header.group(1)), counts=counts)
        elif key := _KEY.match(line):
            lines[f"{prefix}{key.group(1)}"] = number
    return lines


def _table_prefix(name: str, *, is_array: bool, counts: dict[str, int]) -> str:
    resolved = ""
    parts = name.split(".")
    for depth, part in enumerate(parts):
        resolved = f"{resolved}{part}"
        is_last = depth == len(parts) - 1
        if is_last and is_array:
            counts[resolved] = counts.get(resolved, -1) + 1
        if resolved in counts:
            resolved = f"{resolved}.{counts[resolved]}"
        resolved += "."
    return resolved


@dataclass(frozen=True, slots=True)
class Value:
    """One resolved value: dotted key, value, class default, declared origin (`ours`, `recipe` or `paper <section>`), description."""

    key: str
    value: Any
    default: Any
    declared: str
    doc: str


def walk_values(record: BaseModel, *, prefix: str = "") -> Iterator[Value]:
    """Every leaf of a record with its dotted key, in order of declaration."""
    for name, info in type(record).model_fields.items():
        extra = info.json_schema_extra
        declared = str(extra.get("origin", "ours")) if isinstance(extra, dict) else "ours"
        value = getattr(record, name)
        children = list(_children(value, f"{prefix}{name}"))
        if children:
            for key, child in children:
                yield from walk_values(child, prefix=f"{key}.")
        else:
            yield Value(
                key=f"{prefix}{name}", value=value, default=info.default, declared=declared, doc=info.description or ""
            )


def _children(value: Any, key: str) -> Iterator[tuple[str, BaseModel]]:  # noqa: ANN401 - a field of any type
    if isinstance(value, BaseModel):
        yield key, value
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            if isinstance(item, BaseModel):
                yield f"{key}.{index}", item


def flatten(record: BaseModel, *, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> plain value: the parameters that MLflow records."""
    return {item.key: item.value for item in walk_values(record, prefix=prefix)}
