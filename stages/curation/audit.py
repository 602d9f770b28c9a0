"""Questions about a finished curation: what happened to one row and on what evidence, and how two curations differ.

Everything is read from the folder of the result: the six splits and `dropped.parquet`.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data.schema import DROPPED_SCHEMA, PROBLEM_COLUMNS, read_table
from stages.curation.normalisation import stable_hash
from stages.curation.splits import SPLITS

_CONTENT = ("prompt", "answer", "tests", "solution")
_ABSENT = [("absent", 0)]
_SAID = ("step", "reason", "evidence", "method", "benchmark", "against", "score")


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a row."""

    outcome: str  # `kept in <split>`, `benchmark row`, or `dropped`
    row: dict[str, Any]  # columns of the problem
    why: dict[str, Any]  # step, reason, evidence and so on of a dropped row; empty for a kept one
    against: dict[str, Any] | None  # the row that it was found to be the same problem as
    copies: list[dict[str, Any]]  # id, reason and evidence of the rows that were dropped for this one


def fates(folder: Path, row_id: str) -> list[Fate]:
    """Every row of that id: rows with the same prompt may share one. Empty where the curation never saw it."""
    dropped = [{**row, "outcome": "dropped"} for row in _rows(folder / "dropped.parquet", "id", row_id)]
    copies = [
        {name: row[name] for name in ("id", "reason", "evidence")}
        for row in _rows(folder / "dropped.parquet", "against", row_id)
    ]
    return [
        Fate(
            row["outcome"],
            {name: row[name] for name in PROBLEM_COLUMNS},
            {name: row[name] for name in _SAID if name in row},
            _other(folder, row.get("against", "")),
            copies,
        )
        for row in [*_kept(folder, row_id), *dropped]
    ]


def _kept(folder: Path, row_id: str) -> list[dict[str, Any]]:
    found = []
    for split in SPLITS:
        for row in _rows(folder / f"{split}.parquet", "id", row_id):
            outcome = "benchmark row" if row["split"] == "eval" else f"kept in {split}"
            found.append({**row, "outcome": outcome})
    return found


def _other(folder: Path, row_id: str) -> dict[str, Any] | None:
    """The row that a dropped one was compared with, wherever it went."""
    if not row_id:
        return None
    found = _kept(folder, row_id) or _rows(folder / "dropped.parquet", "id", row_id)
    return {name: found[0][name] for name in PROBLEM_COLUMNS} if found else None


def _rows(path: Path, column: str, value: str) -> list[dict[str, Any]]:
    if column not in pq.read_schema(path).names:  # a result of an earlier version names no other row
        return []
    return pq.read_table(path, filters=[(column, "=", value)]).to_pylist()


# ---------------------------------------------------------------- two curations


def differences(one: Path, other: Path) -> dict[str, Any]:
    """Counts of each fate in both, and the rows whose fate or content differs: {"fates": [..], "changed": [..]}."""
    before, after = _all_fates(one), _all_fates(other)
    ids = sorted(before.keys() | after.keys())
    changed = [
        _change(name, before.get(name, _ABSENT), after.get(name, _ABSENT))
        for name in ids
        if before.get(name) != after.get(name)
    ]
    counts_a, counts_b = (Counter(fate for fates in rows.values() for fate, _ in fates) for rows in (before, after))
    names = sorted(counts_a.keys() | counts_b.keys())
    return {
        "fates": [{"fate": name, "a": counts_a[name], "b": counts_b[name]} for name in names],
        "changed": changed,
    }


def _change(name: str, before: list[tuple[str, int]], after: list[tuple[str, int]]) -> dict[str, str]:
    was, now = (" and ".join(fate for fate, _ in rows) for rows in (before, after))
    return {"id": name, "a": was, "b": f"{now}, with other content" if was == now else now}


def _all_fates(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """Row id -> of each row with that id its split, or the step and the reason for which it was dropped, and a hash of what it says."""
    fates: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    dropped = read_table(folder / "dropped.parquet", DROPPED_SCHEMA).select([*_CONTENT, "id", "step", "reason"])
    for row in dropped.to_pylist():
        fates[row["id"]].append((f"{row['step']}: {row['reason']}", _content(row)))
    for split in SPLITS:
        for row in pq.read_table(folder / f"{split}.parquet", columns=["id", *_CONTENT]).to_pylist():
            fates[row["id"]].append((split, _content(row)))
    return {name: sorted(found) for name, found in fates.items()}


def _content(row: Mapping[str, str]) -> int:
    return stable_hash("\0".join(row[name] for name in _CONTENT))
