"""The rows behind the page's scores: of each held-out problem the right answer, and how each model answered it.

In: samples.parquet of the evaluation, heldout.parquet and rl.parquet of the curation. A problem stands once, in its smallest group:
a benchmark, `harder`, or its domain; `all` is the domains together.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data.schema import PROBLEM_SCHEMA, SAMPLE_SCHEMA, Problem, problems_from_table, read_table
from stages.config import EvaluationConfig
from stages.evaluation.asked import HELDOUT, asked_of
from stages.evaluation.parts import Part
from stages.records.artifact import Manifest
from stages.stage import Row

MOST_CELLS = 24_000  # of a page; one takes about 30 bytes, and a row has one for each model besides the problem, its level and its answer
_MOST_CHARACTERS = 60  # of a right answer
_COLUMNS = ("problem_id", "sample", "status", "score", "checker_failed")


@dataclass(frozen=True, slots=True)
class VerdictGroup:
    """Problems that are averaged together. `rows` name `problem`, `level`, `right answer` and each model.

    `left_out` are past the page's limit.
    """

    name: str
    rows: tuple[Row, ...]
    left_out: int


def verdict_groups(evaluation: Manifest, curation: Manifest) -> list[VerdictGroup]:
    """The groups, none of a problem twice; at most `MOST_CELLS` in all."""
    config = EvaluationConfig.model_validate(evaluation.document["payload"]["config"])
    marks = _marks(evaluation)
    found, room = [], MOST_CELLS // (len(marks) + 3)
    for part in asked_of(config, curation.folder).parts:
        by_id = {problem.id: problem for problem in part.problems}
        for name, ids in smallest_groups(part).items():
            shown = ids[:room]
            room -= len(shown)
            rows = tuple(_row(by_id[problem_id], marks) for problem_id in shown)
            found.append(VerdictGroup(name, rows, len(ids) - len(shown)))
    return found


def row_anchors(groups: Sequence[VerdictGroup], evaluation: Manifest) -> dict[str, str]:
    """Group of problems in a table of the evaluation -> address in the page of the rows that hold its own; empty without rows.

    `math level 2` is among those of `math`, where each row names its level; `all` and `level 2` are in several groups, under one title.
    """
    shown = {group.name for group in groups}
    rows = [row for table in evaluation.tables().values() for row in table]
    named = {row[key] for row in rows for key in ("group", "benchmark") if key in row} | {"all", *shown}
    return {name: _anchor(name, shown) for name in sorted(named)} if shown else {}


def group_anchor(group: str) -> str:
    """Address of the rows of a group."""
    return f"rows-{group.replace(' ', '-')}"


def _anchor(group: str, shown: Set[str]) -> str:
    domain, _, level = group.partition(" level ")
    known = group if group in shown else domain if level and domain in shown else ""
    return group_anchor(known) if known else "rows"


def smallest_groups(part: Part) -> dict[str, Sequence[str]]:
    """Those of a part that do not overlap: each domain, `harder`, each benchmark."""
    return {name: ids for name, ids in part.groups.items() if name != "all" and "level " not in name}


def right_answers(curation: Manifest) -> dict[str, str]:
    """Problem id -> the right answer of a held-out problem, cut to a line; tests in words where there is no answer."""
    path = curation.folder / HELDOUT
    problems = problems_from_table(read_table(path, PROBLEM_SCHEMA)) if path.exists() else []
    return {problem.id: _right_answer(problem) for problem in problems}


def _right_answer(problem: Problem) -> str:
    said = problem.answer or ("passes its tests" if problem.tests else "")
    return said if len(said) <= _MOST_CHARACTERS else f"{said[: _MOST_CHARACTERS - 1]}…"


def _row(problem: Problem, marks: Mapping[str, Mapping[str, str]]) -> Row:
    said = {model: found.get(problem.id, "") for model, found in marks.items()}
    level = "" if problem.level is None else str(problem.level)
    return {"problem": problem.id, "level": level, "right answer": _right_answer(problem), **said}


def _marks(evaluation: Manifest) -> dict[str, dict[str, str]]:
    """Model -> problem id -> `right, 3 of 4`: the greedy response and the sampled ones."""
    schema = pa.schema([*(SAMPLE_SCHEMA.field(name) for name in _COLUMNS), pa.field("model", pa.string())])
    table = read_table(evaluation.folder / "samples.parquet", schema)
    found: dict[str, dict[str, str]] = {}
    for model in dict.fromkeys(table["model"].to_pylist()):
        rows = table.filter(np.asarray(table["model"]) == model)
        found[model] = _of_model(rows)
    return found


def _of_model(rows: pa.Table) -> dict[str, str]:
    greedy: dict[str, str] = {}
    sampled: dict[str, list[bool]] = {}
    for problem_id, sample, status, score in zip(*(rows[name].to_pylist() for name in _COLUMNS[:4]), strict=True):
        if sample < 0:
            greedy[problem_id] = "right" if score == 1.0 else status.replace("_", " ")
        else:
            sampled.setdefault(problem_id, []).append(score == 1.0)
    shares = {problem_id: f", {sum(right)} of {len(right)}" for problem_id, right in sampled.items()}
    return {
        name: f"{greedy.get(name, 'not asked')}{shares.get(name, '')}" for name in dict.fromkeys((*greedy, *shares))
    }
