r"""A set of one's own: every row of a file, or of a folder of files, as problems to be asked.

In: the place and which of its columns are which (`data/sources/columns.py`). Out: the problems with split `eval` and the set's name, that
of the file, as source; and the rows that cannot be asked, each with its reason: no question, a copy of another row, and no usable gold:
none at all, one that the judge cannot read, or one that it does not accept when it is given back as `\boxed{...}`. A row that is broken,
and an id that two rows have, is a mistake of the file's and is refused.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.benchmarks.catalogue import BENCHMARKS
from data.benchmarks.golds import boxed
from data.domains import DOMAINS, FAILED_STATUSES, Judge, Verdict
from data.schema import Problem
from data.sources.files import Row, load_files
from data.sources.formats import stem_of

_SPLIT = "eval"
_SHOWN = 5  # rows in a message
_EVIDENCE = 200  # characters
_Reasons = dict[str, tuple[str, str]]  # file and row -> reason and evidence


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not asked."""

    where: str  # file and row
    id: str
    reason: str
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class OwnSet:
    """The problems of a file, and the rows that are none."""

    name: str
    problems: tuple[Problem, ...]
    left_out: tuple[LeftOut, ...]

    def describe(self) -> str:
        """How many rows are left out, and why; empty where all are asked."""
        if not self.left_out:
            return ""
        total = len(self.problems) + len(self.left_out)
        return f"{self.name}: {len(self.left_out)} of {total} rows are left out: {_counted(self.left_out)}"


def columns_asked(columns: Mapping[str, str]) -> dict[str, str]:
    """What is asked of the columns of a set of one's own: every row of the file is measured, whatever its split."""
    if "split" in columns:
        raise ValueError(
            f"--columns split={columns['split']}: every row of --problems is asked; put those that should not be into another file"
        )
    return {**columns, "split": _SPLIT}


def load_own_set(place: Path, *, columns: Mapping[str, str]) -> OwnSet:
    """The problems of a file or folder; `columns` is what was asked for, our column -> theirs.

    Raises ValueError for a file that cannot be read, a broken row, an id that two rows have, a set that is called after a benchmark, and
    where no row can be asked.
    """
    name = place.absolute().name if place.is_dir() else stem_of(place)
    if name in BENCHMARKS:
        raise ValueError(
            f"--problems {place}: {name} is the name of a benchmark, and the scores would be taken for it; rename the file"
        )
    rows = list(_sound_rows(place, columns))
    _require_own_ids(rows, place)
    reasons = _without_question(rows)
    reasons |= _without_gold([row for row in rows if row.where not in reasons])
    problems = tuple(replace(row.problem, source=name) for row in rows if row.where not in reasons)
    left_out = tuple(LeftOut(row.where, row.problem.id, *reasons[row.where]) for row in rows if row.where in reasons)
    if not problems:
        raise ValueError(f"{place}: none of its {len(rows)} rows can be asked: {_counted(left_out)}")
    return OwnSet(name, problems, left_out)


def _sound_rows(place: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    for row in load_files(place, columns=columns_asked(columns), max_row_bytes=sys.maxsize):
        if row.fault:
            raise ValueError(f"{row.where}: {row.fault}: {row.evidence}; mend the row, or take it out")
        if row.problem.domain not in DOMAINS:
            raise ValueError(
                f"{row.where}: the domain {row.problem.domain!r} is none of {', '.join(DOMAINS)}; change it, or state one for all rows:"
                " --columns domain=math"
            )
        yield row


def _require_own_ids(rows: Sequence[Row], place: Path) -> None:
    """Rows that say the same may share an id: the first one counts."""
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.problem.id, row)
        if _said(row.problem) != _said(other.problem):
            raise ValueError(
                f"{place}: {other.where} and {row.where} have the same id {row.problem.id!r} and are different problems; give each row"
                " an id of its own, or leave the column out"
            )


def _said(problem: Problem) -> tuple[str, ...]:
    return (problem.domain, problem.prompt, problem.answer, problem.tests)


# ---------------------------------------------------------------- what cannot be asked


def _without_question(rows: Sequence[Row]) -> _Reasons:
    """What can be told without the judge: rows that ask nothing, and what another row says already."""
    reasons: _Reasons = {}
    first: dict[tuple[str, ...], str] = {}
    for row in rows:
        if not row.problem.prompt.strip():
            reasons[row.where] = ("no question", "")
        elif (other := first.setdefault(_said(row.problem), row.where)) != row.where:
            reasons[row.where] = ("copy of another row", f"says what {other} says")
    return reasons


def _without_gold(rows: Sequence[Row]) -> _Reasons:
    """Rows on whose answers the judge would know nothing, or call the gold itself wrong. No program is run."""
    with Judge(requires_thinking=False) as judge:
        verdicts = judge.verify([(boxed(row.problem.answer), row.problem) for row in rows])
    found = {row.where: _objection(row.problem, verdict) for row, verdict in zip(rows, verdicts, strict=True)}
    return {where: objection for where, objection in found.items() if objection is not None}


def _objection(problem: Problem, verdict: Verdict) -> tuple[str, str] | None:
    is_tested = bool(problem.tests.strip())
    if verdict.status == "correct" or (is_tested and verdict.status not in FAILED_STATUSES):
        return None
    if not is_tested and not problem.answer.strip():
        return "no answer", ""
    reason = verdict.status if verdict.status in FAILED_STATUSES else "gold answer does not verify"
    return reason.replace("_", " "), f"{problem.answer[:_EVIDENCE]!r}: {verdict.reason[:_EVIDENCE]}"


def _counted(left_out: Sequence[LeftOut]) -> str:
    """Each reason with its count and the first rows that it is for."""
    found = Counter(one.reason for one in left_out)
    return "; ".join(f"{count} {reason} ({_places(left_out, reason)})" for reason, count in found.most_common())


def _places(left_out: Sequence[LeftOut], reason: str) -> str:
    where = [one.where for one in left_out if one.reason == reason]
    return ", ".join(where[:_SHOWN]) + (f" and {len(where) - _SHOWN} more" if len(where) > _SHOWN else "")
