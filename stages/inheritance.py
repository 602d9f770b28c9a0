"""A recipe file that states only what differs from another one: `from = "laptop"`.

In: the parent and the child as TOML gives them. Out: the child with all that it leaves out, and for each dotted key the file and the line
that state it. Tables are merged key by key, where the schema has a record; a table of shares, levels or columns is one value and replaces
the parent's, and so does a record of another `kind` where kinds have keys of their own. In lists of tables (`curation.sources`,
`rl.arms`, `phases`) an entry with the name of one of the parent's changes that one, another one is appended.
`without = ["rl.arms.more-sft"]` takes out what the parent states.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is stated."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


@dataclass(frozen=True, slots=True)
class Stated:
    """What a file states, and where: dotted key, list elements by number, -> place."""

    values: Table
    places: dict[str, Place]


def inherited(parent: Stated, child: Stated, schema: type[BaseModel]) -> Stated:
    """The child's values over the parent's."""
    merge = _Merge()
    values = merge.tables(parent.values, child.values, [schema], own="", at="")
    kept = {key: place for key, place in parent.places.items() if not _lies_in(key, merge.replaced)}
    moved = {_moved(key, merge.moved): place for key, place in child.places.items()}
    return Stated(values, kept | moved)


class _Merge:
    """Merges, and notes which of the parent's keys were replaced and where elements of the child's lists went."""

    def __init__(self) -> None:
        self.replaced: set[str] = set()
        self.moved: dict[str, str] = {}  # the child's key of a list element -> the merged one

    def tables(self, parent: Table, child: Table, records: Sequence[type[BaseModel]], *, own: str, at: str) -> Table:
        """`own` and `at`: the dotted key of the table in the child and in what becomes of it, with a dot at the end."""
        merged = dict(parent)
        for key, value in child.items():
            below = [model for record in records for model in models_of(record, key)]
            merged[key] = self._value(parent.get(key), value, below, own=f"{own}{key}", at=f"{at}{key}")
        return merged

    def _value(self, parent: Any, child: Any, records: Sequence[type[BaseModel]], *, own: str, at: str) -> Any:  # noqa: ANN401 - TOML
        match parent, child:
            case dict(), dict() if records and (
                len(records) == 1 or child.get("kind", parent.get("kind")) == parent.get("kind")
            ):
                return self.tables(parent, child, records, own=f"{own}.", at=f"{at}.")
            case [*elements], [_, *_] if records and _are_tables([*elements, *child]):
                return self._lists(elements, child, records, own=own, at=at)
        self.replaced.add(at)
        return child

    def _lists(
        self, parent: list[Table], child: list[Table], records: Sequence[type[BaseModel]], *, own: str, at: str
    ) -> list[Table]:
        merged = list(parent)
        names = [element.get("name") for element in parent]
        for number, element in enumerate(child):
            name = element.get("name")
            index = names.index(name) if name is not None and name in names else len(merged)
            self.moved[f"{own}.{number}"] = f"{at}.{index}"
            if index == len(merged):
                merged.append(element)
            else:
                merged[index] = self._value(merged[index], element, records, own=f"{own}.{number}", at=f"{at}.{index}")
        return merged


def _are_tables(elements: Sequence[Any]) -> bool:
    return all(isinstance(element, dict) for element in elements)


def models_of(record: type[BaseModel], key: str) -> Iterator[type[BaseModel]]:
    """Records that a field may hold, itself or in a list."""
    if key in record.model_fields:
        yield from models_in(record.model_fields[key].annotation)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 - a type form
    """Records of an annotation, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in getattr(annotation, "__args__", ()):
        yield from models_in(argument)


def _lies_in(key: str, tables: set[str]) -> bool:
    parts = key.split(".")
    return any(".".join(parts[:length]) in tables for length in range(1, len(parts) + 1))


def _moved(key: str, moves: Mapping[str, str]) -> str:
    """The key where the longest list element that it lies in has gone."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        if (start := ".".join(parts[:length])) in moves:
            return ".".join([moves[start], *parts[length:]])
    return key


# ---------------------------------------------------------------- taking out


def without(stated: Stated, keys: Sequence[str], *, refuse: Callable[[str], Exception]) -> Stated:
    """What is left without those keys; elements of lists by name or number. `refuse` makes the error of a key that is not there."""
    values, places = stated.values, stated.places
    for key in keys:
        path, is_element = _path(values, key, refuse)
        values = _cut(values, path)
        places = dict(_renumbered(places, path, is_element=is_element))
    return Stated(values, places)


def _path(values: Table, key: str, refuse: Callable[[str], Exception]) -> tuple[list[str], bool]:
    """The key with numbers for the elements of lists, and whether it is one."""
    node: Any = values
    path, is_element = [], False
    for part in key.split("."):
        known = _known(node)
        if part not in known:
            near = difflib.get_close_matches(part, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}" if known else ""
            raise refuse(f"without: {key!r} is not stated there{hint}")
        path.append(known[part])
        is_element = isinstance(node, list)
        node = node[int(known[part])] if is_element else node[part]
    return path, is_element


def _known(node: Any) -> dict[str, str]:  # noqa: ANN401 - a TOML node
    """Names of what a table or list holds -> key or number."""
    if isinstance(node, dict):
        return {key: key for key in node}
    if isinstance(node, list):
        return {
            item["name"] if isinstance(item, dict) and "name" in item else str(n): str(n) for n, item in enumerate(node)
        }
    return {}


def _cut(node: Any, path: Sequence[str]) -> Any:  # noqa: ANN401 - a TOML node
    first, *rest = path
    if isinstance(node, list):
        index = int(first)
        return [*node[:index], *([_cut(node[index], rest)] if rest else []), *node[index + 1 :]]
    return {key: _cut(value, rest) if key == first else value for key, value in node.items() if rest or key != first}


def _renumbered(places: Mapping[str, Place], path: Sequence[str], *, is_element: bool) -> Iterator[tuple[str, Place]]:
    """Places without those in `path`; what stands behind it in its list moves up."""
    depth = len(path) - 1
    for key, place in places.items():
        parts = key.split(".")
        if parts[: depth + 1] == list(path):
            continue
        if is_element and len(parts) > depth and parts[:depth] == list(path[:-1]) and int(parts[depth]) > int(path[-1]):
            parts[depth] = str(int(parts[depth]) - 1)
        yield ".".join(parts), place
