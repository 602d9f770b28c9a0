"""`ring verify`: every byte of every result against its manifest, results against each other, records, pages and ledger against them."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.commands.lineage import trace
from flows.console import assembled, near, plain_console, waiting
from stages.errors import TrackingError
from stages.records.artifact import Store, Stray, open_store
from stages.records.run_ledger import LEDGER, LedgerError, RunLedger
from stages.soundness import Finding, examine, root_of

_out = plain_console()


@dataclass(frozen=True, slots=True)
class Verified:
    """All that was found."""

    results: Mapping[Path, Finding]  # by folder
    strays: Sequence[Stray]  # what lies among the results and is none
    records: Mapping[str, Sequence[str]]  # by run: what does not hold of it
    ledger: str  # what does not hold of the ledger of runs itself
    notes: Sequence[str]  # what could not be compared
    root: str
    is_root: bool  # the one that was asked for, where one was

    @property
    def problems(self) -> dict[str, list[str]]:
        """Fingerprint, path or run -> lines."""
        found = {folder.name: list(finding.problems) for folder, finding in self.results.items() if finding.problems}
        for name, lines in self.records.items():
            found.setdefault(name.partition("/")[2], []).extend(lines)
        found |= {LEDGER: [self.ledger]} if self.ledger else {}
        return found | {str(stray.path): [stray.what] for stray in self.strays if not stray.is_expected}

    @property
    def holds(self) -> bool:
        """Whether everything does."""
        return self.is_root and not self.problems


def verify(
    id_: Annotated[str | None, Parameter(name="ID")] = None,
    *,
    root: str | None = None,
    deep: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Hash every file of every result, compare manifests, inputs, figures, MLflow's records, ledger and pages; print one root digest.

    Nothing here is signed: whoever may write the home folder can also seal it again. Damage is found without more; forgery is found
    by who kept the root digest elsewhere and gives it with --root. Exit code 1 if anything does not hold.

    Parameters
    ----------
    id_
        The first characters of a fingerprint: that result and all that it was made from. Without it all results are checked.
    root
        The root digest that an earlier call with the same ID printed: exit code 1 where it is another one.
    deep
        Also count the figures of every step of RL again, from all stored responses.
    json_
        Print one JSON object: checked, root, problems, notes.

    """
    store = open_store()
    folders = _folders(id_, store)
    with waiting(f"hashing the files of {len(folders)} results"):
        found = _verified(folders, store, whole=id_ is None, root=root, deep=deep)
    if json_:
        document = {
            "checked": len(found.results),
            "problems": found.problems,
            "notes": _notes(found),
            "root": found.root,
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _show(found, store, asked=root)
    return 0 if found.holds else 1


def _folders(id_: str | None, store: Store) -> list[Path]:
    """All results, or one and what it was made from."""
    if id_ is None:
        return store.folders()
    folder = store.folder_of(id_)
    manifest = store.find(folder.parent.name, folder.name)
    return [one.place for one in trace(manifest, store=store).manifests] if manifest else [folder]


def _verified(folders: Sequence[Path], store: Store, *, whole: bool, root: str | None, deep: bool) -> Verified:
    results = {folder: examine(folder, store, deep=deep) for folder in folders}
    readable = [one for one in folders if store.remote is None or not results[one].problems]
    records, notes = _records(readable, store)
    if not whole:
        records = {name: lines for name, lines in records.items() if not name.startswith("chain/")}
    found = root_of(list(folders), store)
    strays = store.strays() if whole else []
    ledger = _ledger_problem(store) if whole else ""
    return Verified(results, strays, records, ledger, notes, found, is_root=root in (None, found))


def _ledger_problem(store: Store) -> str:
    try:
        RunLedger(store.home).entries()
    except LedgerError as error:
        return str(error)
    return ""


def _records(folders: Sequence[Path], store: Store) -> tuple[Mapping[str, Sequence[str]], Sequence[str]]:
    """What does not hold of the records, and why they were not compared."""
    from stages.records.recorded import check_records  # imports MLflow, which takes seconds

    there = (store.find(folder.parent.name, folder.name) for folder in folders)
    try:
        checked = check_records([manifest for manifest in there if manifest], store)
    except TrackingError as error:
        return {}, [f"the experiment records could not be read: {error}"]
    return checked.problems, checked.notes


def _notes(found: Verified) -> dict[str, list[str]]:
    notes = {folder.name: list(finding.notes) for folder, finding in found.results.items() if finding.notes}
    leftovers = {str(stray.path): [stray.what] for stray in found.strays if stray.is_expected}
    return notes | leftovers | ({"records": list(found.notes)} if found.notes else {})


def _show(found: Verified, store: Store, *, asked: str | None) -> None:
    records = {name.partition("/")[2]: lines for name, lines in found.records.items()}
    for folder, finding in found.results.items():
        lines = [*finding.problems, *records.pop(folder.name, ())]
        manifest = store.find(folder.parent.name, folder.name)
        arm = (manifest.arm if manifest else None) or ""
        _show_one(f"{folder.parent.name} {arm} {folder.name[:12]}", lines)
    for name, lines in records.items():
        _show_one(f"chain {name[:12]}", lines)
    if found.ledger:
        _show_one(LEDGER, [found.ledger])
    for stray in found.strays:
        if not stray.is_expected:
            _show_one(near(stray.path), [stray.what])
    for line in _told(found):
        _out.print(f"note   {line}", highlight=False, soft_wrap=True)
    num_broken = len(found.problems)
    _out.print(f"{len(found.results)} results checked, {num_broken} do not hold", highlight=False)
    _out.print(f"root {found.root}", highlight=False, soft_wrap=True)
    if not found.is_root:
        _out.print(
            f"asked for was the root {asked}: since then a result was changed, added, removed or made again",
            soft_wrap=True,
        )


def _told(found: Verified) -> Iterator[str]:
    """Each note once, with what it is said of."""
    of_results = Counter(note for finding in found.results.values() for note in finding.notes)
    yield from (f"{count} of {len(found.results)} results: {note}" for note, count in of_results.items())
    yield from (f"{near(stray.path)}: {stray.what}" for stray in found.strays if stray.is_expected)
    yield from found.notes


def _show_one(title: str, problems: Sequence[str]) -> None:
    word = ("BROKEN", "red") if problems else ("ok    ", "green")
    _out.print(assembled(word, f" {title}"), soft_wrap=True)
    for line in problems:
        _out.print(f"       {line}", highlight=False, soft_wrap=True)
