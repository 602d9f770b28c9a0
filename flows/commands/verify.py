"""`ring verify`: every byte of every result against its manifest."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.console import assembled, plain_console, waiting
from stages.records.artifact import Manifest, Store, folder_problems, ring_home

_out = plain_console()


def verify(
    id_: Annotated[str | None, Parameter(name="ID")] = None,
    *,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Hash every file of every result (or of one) and compare with the manifests; check that inputs are the ones that were used.

    Exit code 1 if anything does not hold.

    Parameters
    ----------
    id_
        The first characters of a fingerprint; without it all results are checked.
    json_
        Print one JSON object.

    """
    store = Store(ring_home())
    folders = [store.folder_of(id_)] if id_ else store.folders()
    with waiting(f"hashing the files of {len(folders)} results"):
        found = {folder: _problems(folder, store) for folder in folders}
    if json_:
        problems = {folder.name: lines for folder, lines in found.items() if lines}
        sys.stdout.write(json.dumps({"checked": len(found), "problems": problems}) + "\n")
        return 1 if problems else 0
    for folder, lines in found.items():
        word = ("BROKEN", "red") if lines else ("ok    ", "green")
        manifest = store.find(folder.parent.name, folder.name)
        arm = (manifest.arm if manifest else None) or ""
        _out.print(assembled(word, f" {folder.parent.name} {arm} {folder.name[:12]}"))
        for line in lines:
            _out.print(f"       {line}", highlight=False)
    num_broken = sum(bool(lines) for lines in found.values())
    _out.print(f"{len(found)} results checked, {num_broken} do not hold", highlight=False)
    return 1 if num_broken else 0


def _problems(folder: Path, store: Store) -> list[str]:
    found = folder_problems(folder)
    manifest = store.find(folder.parent.name, folder.name)
    return found + (_broken_inputs(manifest, store) if manifest else [])


def _broken_inputs(manifest: Manifest, store: Store) -> list[str]:
    lines = []
    for name, entry in manifest.inputs.items():
        parent = store.find(entry["stage"], entry["fingerprint"]) if "stage" in entry else None
        if "stage" in entry and parent is None:
            lines.append(f"input {name}: {entry['fingerprint'][:12]} is no longer there, or damaged")
        elif parent is not None and parent.content != entry["content"]:
            lines.append(f"input {name}: its bytes are other ones than were used")
    return lines
