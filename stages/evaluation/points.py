"""Figures of benchmarks that count other than in shares: points of an exam paper, and a rating among the humans of contests."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import pyarrow as pa

from data.benchmarks import BENCHMARKS, Benchmark
from data.benchmarks.catalogue import Metric, measured_set
from data.benchmarks.codeforces import rating_of, read_contests, read_humans
from data.benchmarks.gaokao import Mark, mark, question_points, total
from data.domains import Verdict
from data.schema import Problem
from stages.local_files import STANDINGS
from stages.stage import Row

_HUMANS = "humans.json"
_NOT_HERE = "not available here"
_VERDICT = ("status", "score", "extracted", "reason")
Sets = Mapping[str, Sequence[Problem]]


def point_rows(sets: Sets, tables: Mapping[str, pa.Table]) -> list[Row]:
    """Of each benchmark that counts points: those of a whole paper at the rate of the greedy responses, and of the sampled ones."""
    return [
        {"benchmark": name, "mode": mode} | _points(BENCHMARKS[name], sets[name], tables[f"{name}.{mode}"])
        for name in _counting(sets, "points")
        for mode in ("greedy", "sampled")
    ]


def _points(benchmark: Benchmark, problems: Sequence[Problem], table: pa.Table) -> Row:
    """A question with several samples earns their mean; one that was judged in none of them, or not asked, is in no total."""
    marks = [
        _mean([mark(problem, verdict) for verdict in verdicts], possible=question_points(problem))
        for problem, verdicts in _judged(problems, table)
    ]
    found = total(marks, full_points=benchmark.full_points)
    return {
        "points": found.points,
        "of": found.full,
        "earned": found.earned,
        "judged_points": found.possible,
        "unjudged_points": found.unjudged,
        "partly_right": sum(one.is_partial for one in marks),
    }


def _mean(marks: Sequence[Mark], *, possible: float) -> Mark:
    judged = [one for one in marks if one.is_judged]
    earned = fmean(one.earned for one in judged) if judged else 0.0
    return Mark(earned, possible, is_judged=bool(judged), is_partial=any(one.is_partial for one in judged))


def _judged(problems: Sequence[Problem], table: pa.Table) -> Iterator[tuple[Problem, list[Verdict]]]:
    """Each problem with the verdicts on its samples, in their order."""
    verdicts: dict[str, list[Verdict]] = {problem.id: [] for problem in problems}
    for problem_id, *values in zip(*(table[name].to_pylist() for name in ("problem_id", *_VERDICT)), strict=True):
        verdicts[problem_id].append(Verdict(*values, seconds=0.0))
    for problem in problems:
        yield problem, verdicts[problem.id]


def is_rated(benchmark: str) -> bool:
    """Whether standings of contests are asked for."""
    return measured_set(benchmark).metric == "rating"


def rating_rows(sets: Sets, tables: Mapping[str, pa.Table], *, standings: Path | None) -> list[Row]:
    """Of each benchmark that is rated: the rating over the contests whose standings are at hand, contest by contest and in all.

    Without standings the row says so, and has no number. Raises ValueError for standings that cannot be read.
    """
    rows: list[Row] = []
    for name in filter(is_rated, sets):
        rows += _ratings(name, sets[name], tables[f"{name}.sampled"], standings) if standings else [_none(name)]
    return rows


def _counting(sets: Sets, metric: Metric) -> list[str]:
    """The benchmarks with that metric; a set of one's own is none."""
    return [name for name in sets if name in BENCHMARKS and BENCHMARKS[name].metric == metric]


def _none(name: str) -> Row:
    blank = dict.fromkeys(("rating", "percentile", "rank", "solved"))
    return {"benchmark": name, "contest": f"{_NOT_HERE}: no standings in {STANDINGS}", **blank}


def _ratings(name: str, problems: Sequence[Problem], table: pa.Table, folder: Path) -> list[Row]:
    contests, left_out = read_contests(folder)
    humans = read_humans(folder / _HUMANS) if (folder / _HUMANS).is_file() else None
    tries = {
        (str(problem.metadata.get("contest", "")), str(problem.metadata.get("index", ""))): [
            verdict.status == "correct" for verdict in verdicts
        ]
        for problem, verdicts in _judged(problems, table)
    }
    out = [{**_none(name), "contest": f"{contest} left out: {reason}"} for contest, reason in left_out.items()]
    if not contests:
        return out
    rated = rating_of(tries, contests, humans=humans)
    each = [
        {"benchmark": name, "contest": one.contest, "rating": one.rating, "percentile": one.percentile, "rank": one.rank,
         "solved": one.num_solved}
        for one in rated.contests
    ]  # fmt: skip
    overall = {"rating": rated.rating, "percentile": rated.percentile, "rank": None, "solved": None}
    return [*each, {"benchmark": name, "contest": "mean", **overall}, *out]
