"""`ring lineage`: what a result, a figure, a row or a response was made from, down to the raw data with its licences and hashes."""

import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from flows.commands.listing import readable_time
from flows.console import assembled, plain_console
from flows.subjects import Subject, find_subjects
from flows.tables import rows_table, wrapped
from stages.config import STAGES
from stages.records.artifact import Manifest, Store, open_store
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
    *any_: Annotated[str, Parameter(name="ANY")], json_: Annotated[bool, Parameter(name="--json", negative="")] = False
) -> int:
    """Show what a result, a figure, a row or a response was made from, as a tree, down to the raw data with licences and hashes.

    Of each result code, records and machine are told.

    Parameters
    ----------
    any_
        The first characters of a fingerprint (`ring ls` lists them); a figure, as `mixed/all/greedy` or `selection/pass@1`, or a number as
        the report shows it, a result or a chain before it where it is not the newest one (`latest` is the finished run of a recipe in this
        home folder that began last); the id of a row of curation; a response as `ring rollouts` and `ring why` name it.
    json_
        Print one JSON object: what was found, its tree, and every manifest once.

    """
    if not any_:
        raise ValueError("name what is meant: a result, a figure, a row or a response; `ring lineage --help`")
    store = open_store()
    subjects = find_subjects(any_, store)
    lineages = [trace(one.manifest, store=store, without=one.without) for one in subjects]
    if json_:
        sys.stdout.write(json.dumps(_document(subjects, lineages), indent=1) + "\n")
        return 0
    _show_subjects(subjects)
    if len(subjects) > 1 and len({one.manifest.fingerprint for one in subjects}) > 1:
        return 0
    _show_lineage(subjects[0], lineages[0])
    return 0


def _document(subjects: Sequence[Subject], lineages: Sequence[Lineage]) -> dict[str, Any]:
    manifests = {one.fingerprint: one.document for found in lineages for one in found.manifests}
    told = [
        {"kind": one.kind, "title": one.title, **one.facts, "tree": tree(one.manifest, found, without=one.without)}
        for one, found in zip(subjects, lineages, strict=True)
    ]
    return {"subjects": told, "results": [*manifests.values()]}


def _show_subjects(subjects: Sequence[Subject]) -> None:
    """What was asked for; of a result its lineage says it all."""
    for subject in subjects:
        if subject.kind != "result":
            _out.print(assembled((subject.title, "bold")), soft_wrap=True)
            for line in subject.lines:
                _out.print(f"{_INDENT}{line}", highlight=False, soft_wrap=True)
    if len({one.manifest.fingerprint for one in subjects}) > 1:
        _out.print(
            f"{len(subjects)} places: name one for its tree, with its result before it", highlight=False, soft_wrap=True
        )


def _show_lineage(subject: Subject, found: Lineage) -> None:
    for line in _branches(tree(subject.manifest, found, without=subject.without), told=set()):
        _out.print(line, highlight=False, soft_wrap=True)
    _out.print()
    for manifest in found.manifests:
        _show(manifest)
    _show_machines(found)
    for manifest in found.manifests:
        if manifest.stage == "curation":
            _show_raw(manifest)


def trace(manifest: Manifest, *, store: Store, without: Collection[str] = ()) -> Lineage:
    """Every result that a result follows from, but through the inputs of it that are named in `without`."""
    found: dict[str, Manifest] = {}
    waiting = [manifest]
    while waiting:
        current = waiting.pop()
        if current.fingerprint not in found:
            found[current.fingerprint] = current
            skipped = without if current is manifest else ()
            entries = (entry for name, entry in _results(current).items() if name not in skipped)
            parents = (store.find(entry["stage"], entry["fingerprint"]) for entry in entries)
            waiting += [parent for parent in parents if parent is not None]
    ordered = sorted(found.values(), key=lambda item: (-STAGES.index(item.stage), item.arm or "", item.fingerprint))
    return Lineage(tuple(ordered))


def tree(manifest: Manifest, found: Lineage, *, without: Collection[str] = ()) -> dict[str, Any]:
    """A result and below it, nested, what it was made from: title, fingerprint, inputs; a folder outside the store by its hash."""
    inputs = [_branch(name, entry, found) for name, entry in manifest.inputs.items() if name not in without]
    title = f"{manifest.stage} {manifest.arm or ''}".rstrip()
    return {"title": f"{title} {manifest.fingerprint[:8]}", "fingerprint": manifest.fingerprint, "inputs": inputs}


def _branch(name: str, entry: Mapping[str, str], found: Lineage) -> dict[str, Any]:
    parent = found.by_fingerprint.get(entry.get("fingerprint", ""))
    below = tree(parent, found) if parent else {"fingerprint": entry.get("fingerprint"), "inputs": []}
    return {**below, "title": _parent(name, entry, found), "content": entry["content"]}


def _branches(node: Mapping[str, Any], *, told: set[str]) -> Iterator[str]:
    """A line a node; what stands below one that comes again is told where it came first."""
    is_known = node["fingerprint"] in told
    inputs = [] if is_known else node["inputs"]
    told.add(node["fingerprint"])
    yield node["title"] + (", see above" if is_known and node["inputs"] else "")
    for number, child in enumerate(inputs, start=1):
        joint, below = ("└── ", "    ") if number == len(inputs) else ("├── ", "│   ")
        first, *rest = _branches(child, told=told)
        yield f"{joint}{first}"
        yield from (f"{below}{line}" for line in rest)


def _results(manifest: Manifest) -> dict[str, dict[str, str]]:
    """The inputs that are results; the others are folders outside the store."""
    return {name: entry for name, entry in manifest.inputs.items() if "stage" in entry}


def _show(manifest: Manifest) -> None:
    document = manifest.document
    commit = (document["code"]["commit"] or "no commit")[:8] + (" + changes" if document["code"]["dirty"] else "")
    name = f"{manifest.stage} {manifest.arm or ''}".rstrip()
    rest = f" {manifest.fingerprint[:8]}  {readable_time(document['made_at'])}  code {commit}  MLflow {document['mlflow_run_id'][:8]}"
    _out.print(assembled((name, "bold"), rest), soft_wrap=True)


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
