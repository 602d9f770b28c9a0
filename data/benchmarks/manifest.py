"""Which rows a benchmark is: a digest of each row, frozen in `manifests/NAME.txt`, and what differs from them.

A digest is the SHA-256 of the row's id, prompt, answer and tests, so that no row can be read from a manifest. The file:

    rows 500
    sha256 <64 hex: of the digests of all rows in the order of their ids>
    <digest> <id>          one line a row, in the order of the ids

Sets of more than 2 000 rows have the first 16 hex digits of each row's digest; the one of all rows is of whole ones.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.schema import Problem

FOLDER = Path(__file__).parent / "manifests"
WHOLE_ROWS = 2000  # sets with more rows have short digests
_SHORT = 16  # hex digits
_SHOWN = 5  # rows in a message


@dataclass(frozen=True, slots=True)
class Manifest:
    """The frozen rows of one benchmark."""

    name: str
    sha256: str  # of all rows
    digests: Mapping[str, str]  # id -> digest


def row_digest(problem: Problem) -> str:
    """SHA-256 of what a row asks and wants, 64 hex digits."""
    text = json.dumps([problem.id, problem.prompt, problem.answer, problem.tests])
    return hashlib.sha256(text.encode()).hexdigest()


def manifest_of(name: str, problems: Sequence[Problem]) -> Manifest:
    """The manifest that these rows would have. Raises ValueError where two rows have one id."""
    require_own_ids(name, problems)
    whole = {problem.id: row_digest(problem) for problem in sorted(problems, key=lambda problem: problem.id)}
    digits = None if len(whole) <= WHOLE_ROWS else _SHORT
    total = hashlib.sha256("\n".join(whole.values()).encode()).hexdigest()
    return Manifest(name, total, {own: digest[:digits] for own, digest in whole.items()})


def require_own_ids(name: str, problems: Iterable[Problem]) -> None:
    """Raises ValueError that names the ids which more than one row has."""
    counts = Counter(problem.id for problem in problems)
    if double := [own for own, count in counts.items() if count > 1]:
        raise ValueError(
            f"benchmark {name}: {_some(double, 'row')} there more than once; each row needs an id of its own"
        )


def freeze(name: str, problems: Sequence[Problem], *, folder: Path = FOLDER) -> Path:
    """Write the manifest of these rows, in place of one that is there. Raises ValueError for no rows, or ids that no line can hold."""
    if not problems:
        raise ValueError(f"{name}: there is no row to freeze")
    if unfit := [
        problem.id for problem in problems if problem.id != problem.id.strip() or len(problem.id.splitlines()) != 1
    ]:
        raise ValueError(f"{name}: the id {unfit[0]!r} does not fit on a line")
    manifest = manifest_of(name, problems)
    lines = [f"rows {len(manifest.digests)}", f"sha256 {manifest.sha256}"]
    lines += [f"{digest} {own}" for own, digest in manifest.digests.items()]
    path = folder / f"{name}.txt"
    beside = folder / f".{name}.txt.{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def frozen(name: str, *, folder: Path = FOLDER) -> Manifest | None:
    """The committed manifest; None where there is none. Raises ValueError for a file that is none."""
    path = folder / f"{name}.txt"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    heads = dict(line.partition(" ")[::2] for line in lines[:2])
    digests = {own: digest for digest, _, own in (line.partition(" ") for line in lines[2:])}
    if heads.keys() != {"rows", "sha256"} or heads["rows"] != str(len(digests)) or len(digests) != len(lines) - 2:
        raise ValueError(f"{path}: is no whole manifest; freeze it again, or take the one of the project")
    return Manifest(name, heads["sha256"], digests)


def require_frozen(name: str, problems: Sequence[Problem], manifest: Manifest) -> None:
    """Raises ValueError that names the rows which are not those of the manifest, and how they differ."""
    found = manifest_of(name, problems)
    if found.sha256 == manifest.sha256 and found.digests.keys() == manifest.digests.keys():
        return
    changed = [own for own, digest in found.digests.items() if manifest.digests.get(own, digest) != digest]
    missing = [own for own in manifest.digests if own not in found.digests]
    added = [own for own in found.digests if own not in manifest.digests]
    faults = [
        f"{_some(changed, 'row')} not the {'row' if len(changed) == 1 else 'rows'} of the frozen manifest"
        if changed
        else "",
        f"{_some(missing, 'row')} missing" if missing else "",
        f"{_some(added, 'row')} not in it" if added else "",
    ]
    told = "; ".join(filter(None, faults)) or "the rows differ from the frozen manifest"
    raise ValueError(
        f"benchmark {name}: {told} ({len(found.digests)} rows, {len(manifest.digests)} frozen); figures on other rows compare with no"
        " others: take the frozen set, or say that another version is meant (another_version)"
    )


def _some(ids: Iterable[str], noun: str) -> str:
    """`row a is`, `rows a, b are`, with the first few by name."""
    named = list(ids)
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return (
        f"{noun}{'' if len(named) == 1 else 's'} {', '.join(named[:_SHOWN])}{more} {'is' if len(named) == 1 else 'are'}"
    )
