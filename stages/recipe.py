"""Load a recipe (TOML), apply overrides, and say where each value comes from.

A recipe is a file under `recipes/` named by its stem, or a path. `from = "laptop"` (or a path) makes it state only what differs from
another one, see `inheritance`; its name is its file's unless it states one, and its own, as it names the experiment. A relative path in
a recipe of one's own is relative to the file; in one that ships with the project, and in --set, to where the command runs.
Errors are `RecipeError`: one message that says what, where, the limit and what to do.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from stages.config import HOLDS_SECRET, PACKAGED, STAGES, Recipe, Record
from stages.inheritance import Place, Stated, inherited, models_in, without
from stages.local_files import DATA_DIR

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
_FROM, _WITHOUT = "from", "without"
_NOT_INHERITED = ("name", "description")
_PATHS = {
    "folder": DATA_DIR,
    "checkpoint": "",
    "stronger": "",
    "embeddings": PACKAGED,
}  # key -> the word that is no path


class RecipeError(ValueError):
    """A recipe that cannot be used, and why."""


@dataclass(frozen=True, slots=True)
class ResolvedRecipe:
    """A recipe with every value filled in, and what its origins are told from; all keys are dotted, list elements numbers."""

    recipe: Recipe
    path: Path
    places: dict[str, Place]  # key -> file and line that set it: its own, or one that it is `from`
    overrides: frozenset[str]  # keys from --set
    stated: frozenset[str]  # keys that the file or --set states, tables included
    seeded: frozenset[str]  # seeds that follow the recipe's

    def changes(self, value: "Value") -> bool:
        """Whether the file itself or --set gives a value that differs from the class default; of a recipe `from` another: gives one."""
        has_parent = any(place.file != self.path for place in self.places.values())
        return self.is_own(value.key) and (has_parent or value.value != value.default)

    def is_own(self, key: str) -> bool:
        """Whether the file itself or --set states the value of a key, rather than what it is `from`, the paper or a default."""
        found = _related(key, self.places)
        return key in self.stated and bool(
            _related(key, self.overrides) or (found and self.places[found].file == self.path)
        )

    def origin(self, key: str, declared: str) -> str:
        """Where the value of a dotted key comes from: a command line, a line of a recipe, the paper, or our default."""
        source = "seed" if key in self.seeded else key
        if source in self.stated:
            if _related(source, self.overrides):
                return "--set"
            if found := _related(source, self.places):
                return str(self.places[found])
        if key == "name" and key not in self.stated:
            return "file name"
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
    found = _read(path)
    raw = found.values
    overridden = frozenset(_override(raw, item) for item in overrides)
    stated = frozenset(_dotted_keys(raw))
    seeded = _spread_seed(raw)
    raw.setdefault("name", _own_name(path))
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(_explain(error, path, places=found.places, overrides=overridden)) from error
    _require_own_name(recipe.name, path)
    return ResolvedRecipe(
        recipe=recipe, path=path, places=found.places, overrides=overridden, stated=stated, seeded=seeded
    )


def _read(path: Path, *, children: tuple[Path, ...] = ()) -> Stated:
    """What a file states, over what it is `from`."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    own = Stated(_located(raw, path), {key: Place(path, line) for key, line in key_lines(text).items()})
    parent, cuts = own.values.pop(_FROM, None), own.values.pop(_WITHOUT, [])
    if not isinstance(parent, str | None) or not isinstance(cuts, list) or not all(isinstance(c, str) for c in cuts):
        raise RecipeError(
            f'{path.name}: `from` is a recipe\'s name or path, and `without` a list of keys such as ["rl.arms.more-sft"]'
        )
    if parent is not None:
        return inherited(_left_of(parent, cuts, path, children=children), own, Recipe)
    if cuts:
        raise RecipeError(f'{path.name}: `without` takes out what a parent states; name one: from = "laptop"')
    return own


def _left_of(parent: str, cuts: list[str], path: Path, *, children: tuple[Path, ...]) -> Stated:
    """What the recipe at `path` takes over from its parent."""
    above = _find(parent, beside=path)
    if above.resolve() in (lineage := (*children, path.resolve())):
        names = " from ".join(child.name for child in (*lineage, above))
        raise RecipeError(f"{path.name}: no recipe may be from itself: {names}; change `from` in one of them")
    left = without(
        _read(above, children=lineage),
        cuts,
        refuse=lambda text: RecipeError(f"{path.name}: {text} ({above.name})"),
    )
    for key in _NOT_INHERITED:
        left.values.pop(key, None)
        left.places.pop(key, None)
    return left


def _located(node: Any, path: Path) -> Any:  # noqa: ANN401 - a TOML node
    """The values of a recipe of one's own with paths as they are from its folder."""
    if path.resolve().parent == RECIPES:
        return node
    if isinstance(node, list):
        return [_located(item, path) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: os.path.normpath(path.absolute().parent / Path(value).expanduser())
        if key in _PATHS and isinstance(value, str) and value not in ("", _PATHS[key])
        else _located(value, path)
        for key, value in node.items()
    }


def _own_name(path: Path) -> str:
    """The file's name in the letters that names may have."""
    return re.sub(r"[^a-z0-9-]+", "-", path.stem.lower()).strip("-") or "recipe"


def _require_own_name(name: str, path: Path) -> None:
    """A copy that was not changed is the recipe that it was made from."""
    shipped = RECIPES / f"{name}.toml"
    if not shipped.is_file() or path.samefile(shipped) or path.read_bytes() == shipped.read_bytes():
        return
    own = _own_name(path)
    hint = f"leave `name` out, then it is {own!r}" if own != name else "rename the file"
    raise RecipeError(
        f"{path}: the name {name!r} is that of a recipe of the project, and its results would stand among that one's "
        f"(experiment ring/{name}); {hint}, or state another `name`"
    )


def _spread_seed(raw: dict[str, Any]) -> frozenset[str]:
    """Give the recipe's seed to every stage that takes one and states none; returns the keys that were set."""
    found = set()
    for stage in STAGES:
        takes_seed = any("seed" in model.model_fields for model in models_in(Recipe.model_fields[stage].annotation))
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


def _find(name: str, *, beside: Path | None = None) -> Path:
    """The recipe of that name, or the file; a path in the recipe `beside` is relative to it."""
    is_path = name.endswith(".toml")
    path = (beside.parent if beside else Path()) / Path(name).expanduser() if is_path else RECIPES / f"{name}.toml"
    if path.is_file():
        return path
    at = f" (looked for {path.absolute()})" if is_path else ""
    near = difflib.get_close_matches(name, recipe_names(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    where = f"{beside.name}: from: " if beside else ""
    raise RecipeError(
        f"{where}no recipe {name!r}{at}; {hint}known: {', '.join(recipe_names())}; or give a path that ends in .toml"
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


def _explain(error: ValidationError, path: Path, *, places: dict[str, Place], overrides: frozenset[str]) -> str:
    """A line for each mistake, with where it was made; a key that is missing because it is misspelled is one mistake."""
    items: list[dict[str, Any]] = [{**item} for item in error.errors()]
    meant = {_key([*item["loc"][:-1], near]) for item in items if (near := _nearest(item))}
    lines = []
    for item in items:
        key = _key(item["loc"])
        if item["type"] != "missing" or key not in meant:
            lines.append(f"{_blamed(key, path, places, overrides)}: {_explain_one(item, key)}")
    return "\n".join(lines)


def _blamed(key: str, path: Path, places: dict[str, Place], overrides: frozenset[str]) -> str:
    """Who states a key, or a table that it lies in; both the file and --set where the recipe as a whole is wrong."""
    if not key:
        return f"{path.name} with --set" if overrides else path.name
    if _related(key, overrides):
        return "--set"
    parts = key.split(".")
    above = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((str(places[name]) for name in above if name in places), path.name)


def _key(location: Sequence[Any]) -> str:
    """The dotted key of a location."""
    parts = [str(part) for part in location]
    return ".".join(part for before, part in zip(["", *parts], parts, strict=False) if not _is_tag(before, part))


def _nearest(item: dict[str, Any]) -> str | None:
    """The key that an unknown one may have been meant to be."""
    if item["type"] != "extra_forbidden":
        return None
    *table, last = (str(part) for part in item["loc"])
    return next(iter(difflib.get_close_matches(last, _known_keys(table), n=1, cutoff=0.5)), None)


def _explain_one(item: dict[str, Any], key: str) -> str:
    if item["type"] == "extra_forbidden":
        known = _known_keys([str(part) for part in item["loc"][:-1]])
        near = _nearest(item)
        return f"unknown key {key!r}" + (f"; did you mean {near!r}?" if near else f"; known here: {', '.join(known)}")
    if item["type"] == "union_tag_not_found":
        kinds = [tag for record in _records([str(part) for part in item["loc"]]) for tag in _tags(record)[:1]]
        return f"{key!r} needs a `kind`: {', '.join(kinds)}"
    if item["type"] == "missing":
        return f"{key!r} is needed and has no default"
    message = item["msg"].removeprefix("Value error, ")
    is_shown = not isinstance(item.get("input"), dict) and item["type"] != HOLDS_SECRET
    shown = f" = {item['input']!r}" if is_shown else ""
    return f"{key or 'recipe'}{shown}: {message}"


def _is_tag(before: str, part: str) -> bool:
    """Pydantic puts the tag of a union (`procedural`, `icepop`, ...) into a location; no recipe writes it there."""
    if before == "mismatch":
        return part in ("none", "tis", "icepop", "kpop", "sequence")
    return part in ("procedural", "files", "parquet", "hub", "gym") or (before.isdigit() and part in ("rl", "sft"))


def _known_keys(location: Sequence[str]) -> list[str]:
    """Field names of the records that a location may lead to."""
    return sorted({name for record in _records(location) for name in record.model_fields})


def _records(location: Sequence[str]) -> list[type[BaseModel]]:
    """Records that a location may lead to."""
    records: list[type[BaseModel]] = [Recipe]
    for part in location:
        fields = [record.model_fields[part].annotation for record in records if part in record.model_fields]
        found = [model for annotation in fields for model in models_in(annotation)]
        tagged = [model for model in records if part in _tags(model)]
        records = found or tagged or records
    return records


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    kind = model.model_fields.get("kind")
    return getattr(kind.annotation, "__args__", ()) if kind else ()


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
    """One resolved value: dotted key, value, class default, declared origin (`ours`, `recipe`, or a source), description."""

    key: str
    value: Any
    default: Any
    declared: str
    doc: str


def walk_values(record: Record, *, prefix: str = "") -> Iterator[Value]:
    """Every leaf of a record with its dotted key, in order of declaration."""
    for name, info in type(record).model_fields.items():
        declared = record.origin_of(name)
        value = getattr(record, name)
        children = list(_children(value, f"{prefix}{name}"))
        if children:
            for key, child in children:
                yield from walk_values(child, prefix=f"{key}.")
        else:
            yield Value(
                key=f"{prefix}{name}", value=value, default=info.default, declared=declared, doc=info.description or ""
            )


def _children(value: Any, key: str) -> Iterator[tuple[str, Record]]:  # noqa: ANN401 - a field of any type
    if isinstance(value, Record):
        yield key, value
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            if isinstance(item, Record):
                yield f"{key}.{index}", item


def flatten(record: Record, *, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> plain value: the parameters that MLflow records."""
    return {item.key: item.value for item in walk_values(record, prefix=prefix)}
