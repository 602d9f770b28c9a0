"""`ring lineage`: what a result was made from, each result once, down to the raw data with its licences and hashes."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from flows.commands.listing import readable_time
from flows.console import assembled, plain_console
from flows.tables import rows_table, wrapped
from stages.config import STAGES
from stages.records.artifact import Manifest, Store, ring_home
from stages.records.machine import machine_line

_out = plain_console()
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Lineage:
    """The results behind one, itself first, each once and before what it was made from."""

    manifests: tuple[Manifest, ...]

    @property
    def by_fingerprint(self) -> Mapping[str, Manifest]:
        """The results that are there."""
        return {manifest.fingerprint: manifest for manifest in self.manifests}


def lineage(
    id_: Annotated[str, Parameter(name="ID")], *, json_: Annotated[bool, Parameter(name="--json", negative="")] = False
) -> int:
    """Show what a result was made from, each result once: code, records, inputs, and the raw data with licences and hashes.

    Parameters
    ----------
    id_
        The first characters of a fingerprint (`ring ls` lists them).
    json_
        Print one JSON object: the manifests in the same order.

    """
    store = Store(ring_home())
    found = trace(store.by_id(id_), store=store)
    if json_:
        sys.stdout.write(json.dumps({"results": [manifest.document for manifest in found.manifests]}, indent=1) + "\n")
        return 0
    for manifest in found.manifests:
        _show(manifest, found)
    _show_machines(found)
    for manifest in found.manifests:
        if manifest.stage == "curation":
            _show_raw(manifest)
    return 0


def trace(manifest: Manifest, *, store: Store) -> Lineage:
    """Every result that a result follows from."""
    found: dict[str, Manifest] = {}
    waiting = [manifest]
    while waiting:
        current = waiting.pop()
        if current.fingerprint not in found:
            found[current.fingerprint] = current
            parents = (store.find(entry["stage"], entry["fingerprint"]) for entry in _results(current).values())
            waiting += [parent for parent in parents if parent is not None]
    ordered = sorted(found.values(), key=lambda item: (-STAGES.index(item.stage), item.arm or "", item.fingerprint))
    return Lineage(tuple(ordered))


def _results(manifest: Manifest) -> dict[str, dict[str, str]]:
    """The inputs that are results; the others are folders outside the store."""
    return {name: entry for name, entry in manifest.inputs.items() if "stage" in entry}


def _show(manifest: Manifest, found: Lineage) -> None:
    document = manifest.document
    commit = (document["code"]["commit"] or "no commit")[:8] + (" + changes" if document["code"]["dirty"] else "")
    name = f"{manifest.stage} {manifest.arm or ''}".rstrip()
    rest = f" {manifest.fingerprint[:8]}  {readable_time(document['made_at'])}  code {commit}  MLflow {document['mlflow_run_id'][:8]}"
    _out.print(assembled((name, "bold"), rest), soft_wrap=True)
    parents = ", ".join(_parent(key, entry, found) for key, entry in manifest.inputs.items())
    if parents:
        for line in wrapped(f"from {parents}", width=_out.width - len(_INDENT)):
            _out.print(assembled(_INDENT, line), highlight=False, soft_wrap=True)


def _parent(name: str, entry: Mapping[str, str], found: Lineage) -> str:
    """An input by its short name, and what does not hold of it any more."""
    title = name.replace("/", " ")
    if "stage" not in entry:
        return f"{title} (sha256 {entry['content'][:12]})"
    parent = found.by_fingerprint.get(entry["fingerprint"])
    state = (
        " (no longer there)" if parent is None else "" if parent.content == entry["content"] else " (other bytes now)"
    )
    return f"{title} {entry['fingerprint'][:8]}{state}"


def _show_machines(found: Lineage) -> None:
    """Each machine once, with what it made."""
    made: dict[str, list[str]] = {}
    for manifest in reversed(found.manifests):
        made.setdefault(machine_line(manifest.document), []).append(f"{manifest.stage} {manifest.arm or ''}".rstrip())
    for machine, titles in made.items():
        for line in wrapped(f"{', '.join(titles)}: made on {machine}", width=_out.width, indent=_INDENT):
            _out.print(line, highlight=False, soft_wrap=True)


# ---------------------------------------------------------------- raw data


def _show_raw(manifest: Manifest) -> None:
    rows = [*raw_rows(manifest)]
    if rows:
        _out.print(rows_table(rows, title=f"raw data of curation {manifest.fingerprint[:8]}"), end="")
    files = {name: entry for name, entry in manifest.document["files"].items() if name.endswith(".parquet")}
    hashes = ", ".join(f"{name} {entry['sha256'][:12]}" for name, entry in files.items())
    for line in wrapped(f"sha256 of its files: {hashes}", width=_out.width, indent=_INDENT):
        _out.print(line, highlight=False, soft_wrap=True)


def raw_rows(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """A row a source and licence: rows read and kept, and what its bytes follow from: a revision, a hash, or a seed."""
    sources = {source.get("name"): source for source in manifest.document["payload"]["config"]["sources"]}
    seed = manifest.document["payload"]["config"]["seed"]
    for row in manifest.tables().get("sources", []):
        source = sources.get(row["source"], {})
        yield {
            "source": row["source"],
            "licence": row["licence"],
            "rows in": row["rows in"],
            "kept": row["rows kept"],
            "made from": _made_from(row, source, manifest, seed=seed),
        }


def _made_from(row: Mapping[str, Any], source: Mapping[str, Any], manifest: Manifest, *, seed: int) -> str:
    if row["revision"]:
        return f"{source.get('repo', row['source'])} at {row['revision'][:12]}"
    if source.get("kind") in ("procedural", "gym"):
        return f"generated, seed {seed}"
    content = (manifest.inputs.get(name, {}).get("content") for name in (f"source/{row['source']}", "data-dir"))
    return next((f"files, sha256 {digest[:12]}" for digest in content if digest), "")
