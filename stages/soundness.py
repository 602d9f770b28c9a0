"""What is asked of a sealed result beside its own bytes: that what it names is there, is what was used, and bears the figures stated.

In: a manifest and the store. Out: what does not hold, and what cannot be told, each a line for people.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.records.artifact import (
    Manifest,
    Store,
    changed_files,
    root_digest,
)
from stages.records.code_digest import code_digest
from stages.recount import recount
from stages.report.page import render
from stages.sampling.prompting import CHOICE, REFERENCE

REPORT = "report.html"
_ROOT = re.compile(r'<code id="root-digest">([0-9a-f]{64})</code>')  # on the page
_UNREADABLE = "unreadable"  # in place of a seal
_REPORT_MODULE = "stages.report"
_WITHOUT_SEALS = (
    "made before inputs were held with their seals: whether metrics, notes and code of its inputs are those that it read is not told; "
    "`ring run --rerun STAGE` makes it again, with them"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one result."""

    problems: tuple[str, ...]  # what does not hold
    notes: tuple[str, ...] = ()  # what cannot be told


def examine(folder: Path, store: Store, *, deep: bool = False) -> Finding:
    """Everything about the result in a folder. `deep` reads the rollouts of RL, too. Raises ArtifactError for a newer format."""
    problems = store.problems(folder.parent.name, folder.name, reads_all=True)
    manifest = store.find(folder.parent.name, folder.name)
    if manifest is None or (store.remote and problems):  # what is damaged there is not brought here
        return Finding(tuple(problems))
    inputs, notes = input_check(manifest, store)
    problems += [*inputs, *_chosen(manifest, store), *_released(manifest)]
    if not problems and (deep or manifest.stage != "rl"):
        problems += recount(manifest, input_folders(manifest, store))
    if not problems and manifest.stage == "report":
        found = _page(manifest, store)
        problems, notes = problems + list(found.problems), notes + list(found.notes)
    return Finding(tuple(problems), tuple(notes))


def seals(folders: list[Path], store: Store) -> dict[str, str]:
    """`<stage>/<fingerprint>` -> seal of results, of which `root_digest` is made."""
    found = {folder: store.find(folder.parent.name, folder.name) for folder in folders}
    return {
        f"{one.parent.name}/{one.name}": manifest.seal if manifest else _UNREADABLE for one, manifest in found.items()
    }


def root_of(folders: list[Path], store: Store) -> str:
    """The one digest over the seals of results."""
    return root_digest(seals(folders, store))


# ---------------------------------------------------------------- inputs


def input_check(manifest: Manifest, store: Store) -> tuple[list[str], list[str]]:
    """Of each input what does not hold, and what cannot be told: it must be the one of the fingerprint, there, and as it was read."""
    stated, problems, unsealed = manifest.document["payload"].get("inputs", {}), [], []
    for name in stated.keys() - manifest.inputs.keys():
        if not name.startswith("benchmark/"):  # rows, by their digest alone
            problems.append(f"input {name}: part of the fingerprint, and not among the inputs")
    for name, entry in manifest.inputs.items():
        identity = entry.get("fingerprint", entry["content"])
        if name in stated and stated[name] != identity:
            problems.append(f"input {name}: {identity[:12]}, but the fingerprint was made of {stated[name][:12]}")
        elif "stage" in entry and name not in stated:
            problems.append(f"input {name}: no part of the fingerprint")
        elif "stage" in entry and (line := _parent_problem(name, entry, store)):
            problems.append(line)
        elif "stage" in entry and "seal" not in entry:
            unsealed.append(name)
    return problems, [_WITHOUT_SEALS] if unsealed else []


def _parent_problem(name: str, entry: dict[str, str], store: Store) -> str:
    parent = store.find(entry["stage"], entry["fingerprint"])
    if parent is None:
        return f"input {name}: {entry['fingerprint'][:12]} is no longer there, or damaged"
    if parent.content != entry["content"]:
        return f"input {name}: its bytes are other ones than were used"
    if "seal" not in entry or parent.seal == entry["seal"]:
        return ""
    read = next((one for one in store.history(parent.stage, parent.fingerprint) if one.seal == entry["seal"]), None)
    if read is None:
        seals = f"{parent.seal[:12]} for {entry['seal'][:12]}"
        return f"input {name}: its manifest was sealed again, {seals}, and the one that was read is not kept"
    differing = [key for key in ("content", "metrics", "notes") if _text(read, key) != _text(parent, key)]
    return f"input {name}: made again with other {' and '.join(differing)} than were read" if differing else ""


def _text(manifest: Manifest, key: str) -> str:
    return json.dumps(manifest.document[key], sort_keys=True)  # NaN is itself


def read_as(entry: dict[str, str], store: Store) -> Manifest | None:
    """The manifest of an input as it was read: that of the recorded seal; of older results the one that stands there."""
    history = store.history(entry["stage"], entry["fingerprint"])
    return next((one for one in reversed(history) if entry.get("seal", one.seal) == one.seal), None)


def input_folders(manifest: Manifest, store: Store) -> dict[str, Path]:
    """Folders of the inputs that are results and are there."""
    entries = {name: entry for name, entry in manifest.inputs.items() if "stage" in entry}
    if store.remote is None:
        places = {name: store.place(entry["stage"], entry["fingerprint"]) for name, entry in entries.items()}
        return {name: place for name, place in places.items() if place.is_dir()}
    found = {name: store.find(entry["stage"], entry["fingerprint"]) for name, entry in entries.items()}
    return {name: one.folder for name, one in found.items() if one}


def _chosen(manifest: Manifest, store: Store) -> Iterator[str]:
    """A selection names a model folder of the SFT that it was made from."""
    if (
        CHOICE not in manifest.document["files"]
        or not (manifest.folder / CHOICE).is_file()
        or "sft" not in manifest.inputs
    ):
        return
    name = json.loads((manifest.folder / CHOICE).read_text(encoding="utf-8")).get("checkpoint")
    entry = manifest.inputs["sft"]
    sft = store.find(entry["stage"], entry["fingerprint"])
    if sft is not None and f"{name}/config.json" not in sft.document["files"]:
        yield f"{CHOICE}: {name!r} is no checkpoint of {sft.stage} {sft.fingerprint[:12]}"


def _released(manifest: Manifest) -> Iterator[str]:
    """A base that refers to a released folder: its files must be those of which the digests were taken."""
    path = manifest.folder / REFERENCE
    if REFERENCE in manifest.document["files"] and path.is_file():
        reference = json.loads(path.read_text(encoding="utf-8"))
        for line in changed_files(Path(reference["folder"]), reference["files"]):
            yield f"released folder {reference['folder']}: {line}"


# ---------------------------------------------------------------- the report


def _page(manifest: Manifest, store: Store) -> Finding:
    """The page must be what the code that made it makes of the manifests that it read; the root digest on it is that of their seals."""
    path = manifest.folder / REPORT
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if line := _root_problem(text, manifest.inputs):
        return Finding((line,))
    if manifest.document["payload"]["code"] != code_digest(_REPORT_MODULE):
        return Finding(
            (), (f"{REPORT} was made by other code than stands here: it is not rendered again to compare its numbers",)
        )
    inputs = {name: read_as(entry, store) for name, entry in manifest.inputs.items() if "stage" in entry}
    there = {name: one for name, one in inputs.items() if one is not None}
    if len(there) < len(inputs):
        return Finding(
            (), (f"{REPORT}: not all manifests that it read are kept, so that its numbers are not compared",)
        )
    page = render(manifest.document["payload"]["config"]["title"], there)
    if page == text:
        return Finding(())
    return Finding((f"{REPORT}: says other things than the results that it was made from",))


def _root_problem(page: str, inputs: Mapping[str, Mapping[str, str]]) -> str:
    """A page of before root digests were printed has none, and older results do not name the seals of what they read."""
    printed = _ROOT.search(page)
    read = [entry for entry in inputs.values() if "stage" in entry]
    if not printed or not all("seal" in entry for entry in read):
        return ""
    root = root_digest({f"{entry['stage']}/{entry['fingerprint']}": entry["seal"] for entry in read})
    return (
        ""
        if printed[1] == root
        else f"{REPORT}: prints the root digest {printed[1][:12]}, what it read has {root[:12]}"
    )
