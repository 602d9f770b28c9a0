"""Which held-out problems are averaged together."""

from collections.abc import Iterable, Sequence

from data.benchmarks import BENCHMARKS
from data.schema import Problem


def problem_groups(problems: Sequence[Problem], *, trained_levels: Iterable[int | None]) -> dict[str, list[str]]:
    """Group -> problem ids: `all`, domains and levels without what is harder than RL trains on, `harder`, benchmarks.

    A problem belongs to `harder` if its level is above every level of `trained_levels`. Problems of a benchmark (their `split`
    is "eval") form a group named by their source and belong to no other one.
    """
    highest = max((level for level in trained_levels if level is not None), default=None)
    groups: dict[str, list[str]] = {"all": []}
    for problem in problems:
        for name in _names(problem, highest):
            groups.setdefault(name, []).append(problem.id)
    return {name: ids for name, ids in sorted(groups.items(), key=lambda item: _rank(item[0])) if ids}


def problem_clusters(problems: Iterable[Problem]) -> dict[str, str]:
    """Problem id -> what it is drawn together with, a contest or an exam paper: the `cluster` of its `meta`, else as its benchmark says.

    Any other problem stands alone.
    """
    return {problem.id: _cluster(problem) for problem in problems}


def _cluster(problem: Problem) -> str:
    meta = problem.metadata
    cluster = meta.get("cluster")
    if cluster is None and problem.split == "eval":
        benchmark = next((one for one in BENCHMARKS.values() if one.owns(problem.source, meta)), None)
        cluster = benchmark.cluster_of("", meta) or None if benchmark else None
    return f"problem {problem.id}" if cluster is None else f"cluster {cluster}"


def _names(problem: Problem, highest: int | None) -> list[str]:
    if problem.split == "eval":
        return [problem.source]
    if problem.level is not None and highest is not None and problem.level > highest:
        return ["harder"]
    level = f"level {problem.level}"
    levels = [] if problem.level is None else [level, f"{problem.domain} {level}"]
    return ["all", problem.domain, *levels]


def _rank(name: str) -> tuple[int, str]:
    order = ("all", "math", "code", "science", "gym")
    return (order.index(name), name) if name in order else (len(order) + (name == "harder"), name)
