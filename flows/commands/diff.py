"""`ring diff`: in what two results, two chains or two recipes differ."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from flows.commands.show import toml_text
from flows.console import assembled, plain_console
from flows.tables import rows_table, wrapped
from stages.differences import Differences, differences, told_metrics
from stages.recipe import load_recipe, recipe_names, walk_values
from stages.records.artifact import Manifest, Store, open_store

_out = plain_console()
_MOST = 20  # rows of a table; --json has all
_MOST_FILES = 5
_PARTS = {
    "values": "values",
    "inputs": "inputs",
    "code": "code",
    "packages": "packages",
    "machine": "machine and runtime",
    "files": "files, by sha256",
}


def diff(a: str, b: str, *, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """Say in what two results, chains or recipes differ: values, code, packages, machines, and figures with their intervals.

    Differences are b - a, paired by problem where both were asked the same. Two results are compared whatever their stages; of two
    chains each stage that both have.

    Parameters
    ----------
    a
        The first characters of a result's fingerprint, a chain (its id, or `latest`: the finished run of a recipe in this home folder that
        began last), or a recipe (its name, or a path that ends in .toml).
    b
        The other one, of the same kind.
    json_
        Print one JSON object, with every row.

    """
    if is_recipe(a) or is_recipe(b):
        found = recipe_differences(a, b)
        if json_:
            sys.stdout.write(json.dumps({"kind": "recipe", "a": a, "b": b, "values": found}, default=str) + "\n")
        else:
            _show_rows(found, title=f"{a} and {b}: {_counted(found, 'value')}", num_keys=1)
        return 0
    store = open_store()
    pairs, more = _pairs(a, b, store)
    compared = {key: differences(*pair, store=store) for key, pair in pairs.items()}
    if json_:
        kind = "chain" if list(pairs) != ["result"] else "result"
        document = {
            key: {"a": pair[0].fingerprint, "b": pair[1].fingerprint, **compared[key].as_json()}
            for key, pair in pairs.items()
        }
        sys.stdout.write(json.dumps({"kind": kind, "a": a, "b": b, "compared": document, "only_in_one": more}) + "\n")
        return 0
    for key, pair in pairs.items():
        _show(key, *pair, compared[key])
    for line in more:
        _out.print(line, highlight=False, soft_wrap=True)
    return 0


# ---------------------------------------------------------------- what is meant


def is_recipe(name: str) -> bool:
    """Whether a recipe is meant: a file, or one by its name."""
    return name.endswith(".toml") or name in recipe_names()


def recipe_differences(a: str, b: str) -> list[dict[str, Any]]:
    """Every value that one recipe has otherwise than another, and where each states it. Raises ValueError for what is no recipe."""
    one, other = load_recipe(a), load_recipe(b)
    values = [{value.key: value for value in walk_values(resolved.recipe)} for resolved in (one, other)]
    names = [*values[0], *(name for name in values[1] if name not in values[0])]
    rows = []
    for name in names:
        ours, theirs = (found.get(name) for found in values)
        if ours is None or theirs is None or ours.value != theirs.value:
            stated = [
                resolved.origin(name, value.declared) if value else ""
                for resolved, value in ((one, ours), (other, theirs))
            ]
            texts = [toml_text(value.value) if value else "" for value in (ours, theirs)]
            rows.append({"key": name, "a": texts[0], "b": texts[1], "a from": stated[0], "b from": stated[1]})
    return rows


def _pairs(a: str, b: str, store: Store) -> tuple[dict[str, tuple[Manifest, Manifest]], list[str]]:
    """Results to compare by what they are called, and lines about what only one side has."""
    ours, theirs = _meant(a, store), _meant(b, store)
    if isinstance(ours, Manifest) and isinstance(theirs, Manifest):
        return {"result": (ours, theirs)}, []
    if isinstance(ours, Manifest) or isinstance(theirs, Manifest):
        raise ValueError(  # noqa: TRY004 - a user's mistake
            f"{a!r} and {b!r} are a result and a chain; give two results, or two chains"
        )
    alone = [
        f"{name.replace('/', ' ')}: only in {a if name in ours else b}"
        for name in [*ours, *theirs]
        if (name in ours) != (name in theirs)
    ]
    return {key: (one, theirs[key]) for key, one in sorted(ours.items()) if key in theirs}, alone


def _meant(name: str, store: Store) -> Manifest | Mapping[str, Manifest]:
    """A result, or a chain's results by stage. Raises ValueError where nothing is called so, and it says what there is."""
    if any(folder.name.startswith(name) for folder in store.folders()):
        return store.by_id(name)
    if Path(name).suffix or not name.isalnum():
        raise ValueError(f"{name!r} names no result, chain or recipe; `ring ls` lists results, `ring show` recipes")
    from stages.records.chains import find_chain  # imports MLflow, which takes seconds

    return find_chain(name, store).made


# ---------------------------------------------------------------- for people


def _show(key: str, a: Manifest, b: Manifest, found: Differences) -> None:
    names = " and ".join(f"{one.stage} {one.arm or ''}".rstrip() + f" {one.fingerprint[:8]}" for one in (a, b))
    if a.seal == b.seal or found.is_same:
        _out.print(
            assembled((names, "bold"), ": the same result" if a.seal == b.seal else ": nothing differs"), soft_wrap=True
        )
        return
    _out.print(assembled((names, "bold")), soft_wrap=True)
    for part, title in _PARTS.items():
        rows = getattr(found, part)
        if not rows:
            _out.print(f"{title}: the same", highlight=False)
        elif part == "files" and len(rows) > _MOST_FILES:
            names = ", ".join(row["key"] for row in rows[:_MOST_FILES])
            _out.print(
                "\n".join(wrapped(f"{title}: {len(rows)} differ: {names}, ...", width=_out.width)), highlight=False
            )
        else:
            _show_rows([{name: _text(value) for name, value in row.items()} for row in rows], title=title, num_keys=1)
    _show_rows([*told_metrics(found.metrics)], title=f"figures: {_counted(found.metrics, 'figure')}", num_keys=1)
    for note in found.notes:
        _out.print("\n".join(wrapped(f"note: {note}", width=_out.width)), highlight=False)
    _out.print()


def _text(value: Any) -> str:  # noqa: ANN401 - of a JSON file
    return value if isinstance(value, str) else toml_text(value)


def _counted(rows: Sequence[Any], word: str) -> str:
    return (
        f"{len(rows)} {word}{'' if len(rows) == 1 else 's'} differ{'s' if len(rows) == 1 else ''}"
        if rows
        else "none differs"
    )


def _show_rows(rows: Sequence[Mapping[str, Any]], *, title: str, num_keys: int) -> None:
    if not rows:
        _out.print(title, highlight=False, soft_wrap=True)
        return
    _out.print(rows_table(rows[:_MOST], title=title, num_keys=num_keys), end="")
    if len(rows) > _MOST:
        _out.print(f"{len(rows) - _MOST} more: --json has all", highlight=False)
