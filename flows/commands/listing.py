"""`ring ls`: the results of a home folder, what each came to, and in what two of one stage differ."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from flows.commands.show import toml_text
from flows.console import near, plain_console, program
from flows.tables import rows_table, wrapped
from stages.records.artifact import Manifest, Store, open_store

_MOST_CHANGES = 3  # that are told of a result
_out = plain_console()
_err = plain_console(stderr=True)


def list_artifacts(*, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """List the results of this home folder, oldest first: when, recipe, stage, score, id, size, and how two of one stage differ.

    Parameters
    ----------
    json_
        Print one JSON object, with whole fingerprints and folders, instead of a table.

    """
    store = open_store()
    manifests = sorted(store.all(), key=lambda manifest: manifest.document["made_at"])
    if num_left := len(store.folders()) - len(manifests):
        _err.print(f"{num_left} results are left out: their manifests cannot be read; `{program()} verify` says why")
    differing = differences(manifests)
    rows = [_summary(one, store=store, score=score(one, among=manifests), changes=differing) for one in manifests]
    if json_:
        sys.stdout.write(json.dumps({"artifacts": rows}) + "\n")
    elif rows:
        _show(rows, store)
    else:
        _out.print(f"{_name(store)}: nothing here yet (RING_HOME names another folder). To begin:", soft_wrap=True)
        _out.print(f"  {program()} run smoke    a tiny chain\n  {program()} run laptop   a whole one", highlight=False)
    return 0


def _summary(manifest: Manifest, *, store: Store, score: str, changes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    document = manifest.document
    return {
        "stage": manifest.stage,
        "arm": manifest.arm,
        "fingerprint": manifest.fingerprint,
        "recipe": document["recipe"],
        "made_at": document["made_at"],
        "score": score,
        "differs_in": list(changes.get(manifest.fingerprint, ())),
        "bytes": sum(entry["bytes"] for entry in document["files"].values()),
        "status": document["status"],
        "path": store.address(manifest.stage, manifest.fingerprint),
    }


def _name(store: Store) -> str:
    return store.remote.url if store.remote else near(store.home)


def _place(store: Store) -> str:
    return f"{store.remote.url}/artifacts" if store.remote else near(store.root)


def _show(rows: Sequence[Mapping[str, Any]], store: Store) -> None:
    shown = [
        {
            "id": row["fingerprint"][:8],
            "made at (UTC)": readable_time(row["made_at"]),
            "recipe": row["recipe"],
            "stage": _title(row),
            "score": row["score"],
            "MB": round(row["bytes"] / 1e6, 1),
        }
        for row in rows
    ]
    _out.print(rows_table(shown, title=f"home {_name(store)}"), end="")
    for row in rows:
        if row["differs_in"]:
            text = f"{row['fingerprint'][:8]} {_title(row)}: {', '.join(_first(row['differs_in']))}"
            _out.print("\n".join(wrapped(text, width=_out.width, indent="  ")), highlight=False, soft_wrap=True)
    _out.print(f"Folder of a result: {_place(store)}/*/ID*", highlight=False, soft_wrap=True)


def _title(row: Mapping[str, Any]) -> str:
    return f"{row['stage']} {row['arm'] or ''}".rstrip()


def _first(changes: Sequence[str]) -> list[str]:
    more = [f"{len(changes) - _MOST_CHANGES} more"] if len(changes) > _MOST_CHANGES else []
    return [*changes[:_MOST_CHANGES], *more]


def readable_time(made_at: str) -> str:
    """`2026-11-27 23:18`, in UTC wherever it is read."""
    return made_at.replace("T", " ")[:16]


# ---------------------------------------------------------------- scores


def score(manifest: Manifest, *, among: Sequence[Manifest]) -> str:
    """What a stage came to, in a few characters; of an arm what the newest evaluation of it says."""
    metrics = manifest.metrics
    match manifest.stage:
        case "curation":
            return f"{metrics['curation/rows_kept']:,.0f} rows"
        case "selection":
            return f"pass@1 {metrics['selection/pass@1']:.3f}"
        case "evaluation":
            return _greedy(
                value for name, value in metrics.items() if name.endswith("/all/greedy") and " - " not in name
            )
        case "rl" if evaluated := _evaluation_of(manifest, among):
            return _greedy([evaluated.metrics[f"{manifest.arm}/all/greedy"]])
    known = {"validation/final_loss": "loss", "train/final_loss": "loss", "reward/mean_final": "reward"}
    return next((f"{word} {metrics[name]:.3f}" for name, word in known.items() if name in metrics), "")


def _greedy(values: Iterator[float] | Sequence[float]) -> str:
    """The best of the models."""
    best = max(values, default=None)
    return "" if best is None else f"greedy {best:.3f}"


def _evaluation_of(arm: Manifest, among: Sequence[Manifest]) -> Manifest | None:
    def reads(manifest: Manifest) -> bool:
        read = manifest.inputs.get(f"rl/{arm.arm}", {})
        is_read = (read.get("fingerprint"), read.get("content")) == (arm.fingerprint, arm.content)
        return is_read and f"{arm.arm}/all/greedy" in manifest.metrics

    return next((manifest for manifest in reversed(among) if manifest.stage == "evaluation" and reads(manifest)), None)


# ---------------------------------------------------------------- what tells two results of one stage apart


def differences(manifests: Sequence[Manifest]) -> dict[str, list[str]]:
    """Fingerprint -> what a result has that others of its recipe, stage and arm have not; of a single one nothing."""
    groups: dict[tuple[str, str, str | None], list[Manifest]] = {}
    for manifest in manifests:
        groups.setdefault((manifest.document["recipe"], manifest.stage, manifest.arm), []).append(manifest)
    return {name: changes for group in groups.values() if len(group) > 1 for name, changes in _told_apart(group)}


def _told_apart(group: Sequence[Manifest]) -> Iterator[tuple[str, list[str]]]:
    made_from = {manifest.fingerprint: _made_from(manifest) for manifest in group}
    keys = sorted({key for values in made_from.values() for key in values})
    telling = [key for key in keys if len({values.get(key) for values in made_from.values()}) > 1]
    values_first = sorted(telling, key=lambda key: key.startswith(_NO_VALUE))
    for name, values in made_from.items():
        yield name, [f"{key}={values.get(key, 'none')}" for key in values_first]


_NO_VALUE = ("input ", "code")


def _made_from(manifest: Manifest) -> dict[str, str]:
    """Every value by the key that --set takes, the code, and the inputs by their ids."""
    payload = manifest.document["payload"]
    inputs = {f"input {name}": digest[:8] for name, digest in payload.get("inputs", {}).items()}
    values = _flat(payload.get("config", {}), prefix=manifest.stage)
    return {**dict(values), "code": str(payload.get("code", ""))[:8], **inputs}


def _flat(node: Any, *, prefix: str) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - a JSON value
    """Dotted key -> value; elements of a list of tables by number."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _flat(value, prefix=f"{prefix}.{key}")
    elif isinstance(node, list) and any(isinstance(item, Mapping) for item in node):
        for index, value in enumerate(node):
            yield from _flat(value, prefix=f"{prefix}.{index}")
    else:
        yield prefix, toml_text(node)
