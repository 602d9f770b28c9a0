"""`ring data`: what happened to a row of a curation, and how two curations differ."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from flows.console import assembled, plain_console
from flows.tables import rows_table
from stages.curation.audit import Fate, differences, fates
from stages.records.artifact import Manifest, open_store, read_manifest

app = App(name="data", help="Ask what curation did.")
_out = plain_console()
_SHOWN = 20  # changed rows
_TEXT = 600  # characters of a prompt


@app.command
def why(
    row_id: str,
    *,
    curation: Annotated[str | None, Parameter(name="--in")] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Say what happened to one row and on what evidence. Exit code 1 if no curation has seen it.

    Parameters
    ----------
    row_id
        Id of the row, as in the parquet files.
    curation
        First characters of a curation's fingerprint, or its folder; without it, the newest that has seen the row.
    json_
        Print one JSON object.

    """
    manifests = [_curation(curation)] if curation else _newest_first()
    for manifest in manifests:
        if found := fates(manifest.folder, row_id):
            _show_fates(manifest, found, as_json=json_)
            return 0
    seen = ", ".join(manifest.fingerprint[:12] for manifest in manifests[:5]) or "none: run one first"
    message = f"no curation has seen a row {row_id!r}; looked at {seen}"
    sys.stdout.write(json.dumps({"id": row_id, "found": [], "message": message}) + "\n" if json_ else message + "\n")
    return 1


def _show_fates(manifest: Manifest, found: list[Fate], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {name: getattr(fate, name) for name in ("outcome", "row", "why", "against", "copies")} for fate in found
        ]
        sys.stdout.write(json.dumps({"curation": manifest.fingerprint, "found": rows}) + "\n")
        return
    _out.print(f"curation {manifest.fingerprint[:12]}, {manifest.document['made_at']}", highlight=False)
    for fate in found:
        why_not = fate.why
        title = f"{fate.outcome} by {why_not['step']}: {why_not['reason']}" if why_not else fate.outcome
        _out.print(assembled((fate.row["id"], "bold"), "  ", title))
        lines = {name: why_not.get(name) for name in ("evidence", "method", "score", "benchmark", "against")}
        for name, value in {**lines, **{key: fate.row[key] for key in ("source", "licence", "answer")}}.items():
            if value:
                _out.print(f"  {name:<10} {value}", highlight=False)
        _show_text("prompt", fate.row["prompt"])
        if fate.against:
            _show_text(f"{fate.against['id']} ({fate.against['source']})", fate.against["prompt"])
        for copy in fate.copies[:_SHOWN]:
            _out.print(f"  stands for {copy['id']}: {copy['reason']}, {copy['evidence']}", highlight=False)
        if len(fate.copies) > _SHOWN:
            _out.print(f"  and for {len(fate.copies) - _SHOWN} more")


def _show_text(name: str, text: str) -> None:
    shown = text if len(text) <= _TEXT else f"{text[:_TEXT]} … ({len(text)} characters)"
    _out.print(f"  {name}:\n    " + shown.replace("\n", "\n    "), highlight=False)


@app.command
def diff(a: str, b: str, *, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """Compare two curations: how many rows met which fate in each, and the rows whose fate or content differs.

    Parameters
    ----------
    a
        First characters of a curation's fingerprint, or its folder.
    b
        The other one.
    json_
        Print one JSON object, with every changed row.

    """
    one, other = _curation(a), _curation(b)
    found = differences(one.folder, other.folder)
    if json_:
        sys.stdout.write(json.dumps({"a": one.fingerprint, "b": other.fingerprint, **found}) + "\n")
        return 0
    _print_rows(found["fates"], title=f"a = {one.fingerprint[:12]}, b = {other.fingerprint[:12]}")
    moves = Counter((row["a"], row["b"]) for row in found["changed"])
    rows = [{"in a": was, "in b": now, "rows": count} for (was, now), count in moves.most_common()]
    _print_rows(rows, title=f"{len(found['changed'])} rows differ")
    if first := [{name: row[name] for name in ("id", "a", "b")} for row in found["changed"][:_SHOWN]]:
        _print_rows(first, title=f"the first {_SHOWN}")
    return 0


def _print_rows(rows: list[dict[str, Any]], *, title: str) -> None:
    """A table, or its title alone where there is no row."""
    _out.print(rows_table(rows, title=title) if rows else title, highlight=False)


def _newest_first() -> list[Manifest]:
    found = [manifest for manifest in open_store().all() if manifest.stage == "curation"]
    return sorted(found, key=lambda manifest: manifest.document["made_at"], reverse=True)


def _curation(name: str) -> Manifest:
    """By folder or by the first characters of the fingerprint. Raises ValueError for a result of another stage."""
    manifest = read_manifest(Path(name)) if Path(name).is_dir() else open_store().by_id(name)
    if manifest.stage != "curation":
        raise ValueError(
            f"{name!r} is a result of the stage {manifest.stage}; give one of curation (`ring ls` lists them)"
        )
    return manifest
