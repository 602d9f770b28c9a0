"""Verdicts on stored responses, made again: the same rules must give the same verdicts, others show what they decide.

Nothing is sampled. In: the tables of a sealed result that hold judged responses (SAMPLE_SCHEMA, or one with more columns), and the
problems, answers and tests that they were judged by, of the result itself or of its curation.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.domains import DOMAINS, FAILED_STATUSES, STATUSES, Judge, Policy, Verdict
from data.schema import PROBLEM_SCHEMA, Problem, problems_from_table, read_table
from stages.records.artifact import Manifest, Store, write_json
from stages.sampling.judging import VERDICT_COLUMNS
from stages.stage import Row

AT_ONCE = 256  # responses that are judged together
JUDGING = "judging.json"  # of a result: how its responses were read, where not as those of our own models
_READ = ("problem_id", "sample", "response", *VERDICT_COLUMNS)
_MODEL = "model"  # column of a table that holds the responses of several models


@dataclass(frozen=True, slots=True)
class Judged:
    """One response with its stored verdict; columns of SAMPLE_SCHEMA."""

    where: str  # the model, or the file, that the response belongs to
    problem: Problem
    row: Mapping[str, Any]  # problem_id, sample, response and VERDICT_COLUMNS


@dataclass(frozen=True, slots=True)
class Rescored:
    """One response with its stored verdict and the one made from it again; columns of SAMPLE_SCHEMA."""

    where: str  # the model, or the file, that the response belongs to
    problem: Problem
    row: Mapping[str, Any]  # as stored
    again: Mapping[str, Any]  # VERDICT_COLUMNS

    @property
    def is_changed(self) -> bool:
        """Whether status or score differ."""
        return any(self.row[name] != self.again[name] for name in ("status", "score"))


def policy_of(settings: Sequence[str]) -> Policy:
    """`percent_has_value=true`, `rounded_places=4` as a policy; what is not named keeps its default.

    Raises ValueError for a name that is none, and for a value of another kind.
    """
    known = {field.name: getattr(Policy(), field.name) for field in fields(Policy)}
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in known:
            raise ValueError(f"--policy {setting}: there is no choice {name!r}; there are {', '.join(known)}")
        values[name] = _value(text, known[name], setting)
    return replace(Policy(), **values)


def _value(text: str, default: bool | int, setting: str) -> bool | int:
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise ValueError(f"--policy {setting}: the value is true or false")
        return text == "true"
    if not text.isdecimal():
        raise ValueError(f"--policy {setting}: the value is a number of places, 0 or more")
    return int(text)


def sample_files(artifact: Path) -> list[Path]:
    """The tables of a result that hold judged responses, in order; none where it keeps no response."""
    return [path for path in sorted(artifact.glob("**/*.parquet")) if set(_READ) <= set(pq.read_schema(path).names)]


def problems_of(folders: Iterable[Path]) -> dict[str, Problem]:
    """Id -> problem, of every table of problems in the folders; the first folder that has an id counts."""
    found: dict[str, Problem] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.parquet")):
            if set(PROBLEM_SCHEMA.names) <= set(pq.read_schema(path).names):
                for problem in problems_from_table(read_table(path)):
                    found.setdefault(problem.id, problem)
    return found


def problem_folders(manifest: Manifest, store: Store) -> list[Path]:
    """Where the problems of a result are: in itself, or in the curation that it was made from."""
    curation = manifest.inputs.get("curation")
    found = store.find(curation["stage"], curation["fingerprint"]) if curation and "stage" in curation else None
    return [manifest.folder, *([found.folder] if found else [])]


def judged_responses(file: Path) -> int:
    """How many responses of a table bear a verdict: those of partial rollouts that went on, or expired, do not."""
    statuses = pq.read_table(file, columns=["status"])["status"].to_pylist()
    return sum(status in STATUSES for status in statuses)


def write_judging(artifact: Path, *, requires_thinking: bool) -> None:
    """Note with a result how its responses were read, for who judges them again."""
    write_json(artifact / JUDGING, {"requires_thinking": requires_thinking})


def requires_thinking(artifact: Path) -> bool:
    """Whether the responses of a result were read as our own models', which open a thought; where nothing is noted they are theirs."""
    path = artifact / JUDGING
    return json.loads(path.read_text(encoding="utf-8"))["requires_thinking"] if path.is_file() else True


def rescore(
    file: Path, problems: Mapping[str, Problem], *, judge: Judge, domain: str | None
) -> Iterator[list[Rescored]]:
    """Judge the responses of one table again, `AT_ONCE` at a time; `domain`: by another domain's rules than the problems'.

    Raises:
        ValueError: a problem of the table is not among those given, or there is no such domain.
        SandboxError: a response holds code and cannot be run safely here.

    """
    if domain is not None and domain not in DOMAINS:
        raise ValueError(f"no domain {domain!r}; there are {', '.join(DOMAINS)}")
    for stored in judged_batches(file, problems):
        asked = [one.problem if domain is None else replace(one.problem, domain=domain) for one in stored]
        verdicts = judge.verify([(one.row["response"], problem) for one, problem in zip(stored, asked, strict=True)])
        yield [
            Rescored(one.where, problem, one.row, _columns(verdict))
            for one, problem, verdict in zip(stored, asked, verdicts, strict=True)
        ]


def judged_batches(file: Path, problems: Mapping[str, Problem]) -> Iterator[list[Judged]]:
    """The responses of a table that bear a verdict, with their problems, at most `AT_ONCE` at a time.

    Raises ValueError where a problem of the table is not among those given.
    """
    table = pq.ParquetFile(file)
    columns = [name for name in (*_READ, _MODEL) if name in table.schema_arrow.names]
    for batch in table.iter_batches(AT_ONCE, columns=columns):
        rows = [row for row in pa.Table.from_batches([batch]).to_pylist() if row["status"] in STATUSES]
        if rows:
            yield [Judged(row.get(_MODEL) or file.stem, _problem(row, problems, file), row) for row in rows]


def _problem(row: Row, problems: Mapping[str, Problem], file: Path) -> Problem:
    problem = problems.get(row["problem_id"])
    if problem is None:
        raise ValueError(
            f"{file}: the problem {row['problem_id']!r} is in no table of the result or of its curation, so that its responses cannot "
            "be judged again; is the curation still in this home folder?"
        )
    return problem


def _columns(verdict: Verdict) -> Row:
    return {name: getattr(verdict, name) for name in VERDICT_COLUMNS}


class Tally:
    """What changed, counted while responses go by."""

    def __init__(self) -> None:
        self.num_responses = 0
        self.changed: list[Rescored] = []
        self._moves: Counter[tuple[str, str]] = Counter()
        self._scores: dict[str, list[tuple[float | None, float | None]]] = {}

    def note(self, batch: Iterable[Rescored]) -> None:
        """Count more of them."""
        for one in batch:
            self.num_responses += 1
            self._scores.setdefault(one.where, []).append((_score(one.row), _score(one.again)))
            if one.is_changed:
                self.changed.append(one)
                self._moves[one.row["status"], one.again["status"]] += 1

    def moves(self) -> list[Row]:
        """Status before, status now, how many; most first."""
        return [{"stored": old, "now": new, "responses": count} for (old, new), count in self._moves.most_common()]

    def scores(self) -> list[Row]:
        """Mean score of each model or file before and now, over the responses that were judged each time."""
        return [
            {
                "model": where,
                "responses": len(pairs),
                "stored": _mean(old for old, _ in pairs),
                "now": _mean(new for _, new in pairs),
                "changed": sum(old != new for old, new in pairs),
            }
            for where, pairs in self._scores.items()
        ]


def _score(row: Mapping[str, Any]) -> float | None:
    return None if row["status"] in FAILED_STATUSES else row["score"]


def _mean(scores: Iterable[float | None]) -> float | None:
    judged = [score for score in scores if score is not None]
    return sum(judged) / len(judged) if judged else None
