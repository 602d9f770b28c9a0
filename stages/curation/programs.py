"""Whether two code rows ask for the same program: the reference of each must pass the tests of the other, in the sandbox.

Texts do not tell: of 21 near pairs of LeetCode rows, whose template and class definitions are alike, none was the same task, and "even"
and "odd" are a word apart.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa

from data.schema import Problem, problems_from_table
from stages.curation.funnel import Funnel
from stages.curation.pool import Pool
from stages.curation.solutions import trace_of
from stages.sampling.workers import Worker

_CHUNK_PAIRS = 16


def other_tasks(pool: Pool, pairs: Collection[tuple[int, int]], funnel: Funnel) -> set[tuple[int, int]]:
    """The pairs of code rows that are not shown to be one task. Rows are numbered over the whole pool."""
    programs = dict(_programs(pool, np.unique(np.array([*pairs], np.int64))))
    asked = sorted(pair for pair in pairs if programs.keys() >= {*pair})
    if not asked:
        return set()
    chunks = [asked[start : start + _CHUNK_PAIRS] for start in range(0, len(asked), _CHUNK_PAIRS)]
    tasks = ([(programs[row], programs[other]) for row, other in chunk] for chunk in chunks)
    found = funnel.work(solve_each_other, tasks, inline=len(chunks) <= 1)
    return {
        pair
        for chunk, are_one in zip(chunks, found, strict=True)
        for pair, is_one in zip(chunk, are_one, strict=True)
        if not is_one
    }


def _programs(pool: Pool, rows: np.ndarray) -> Iterator[tuple[int, Problem]]:
    """Those of the rows that are code."""
    start = 0
    for number in range(pool.num_batches if len(rows) else 0):
        domains = pool.read(number, ["domain"])["domain"].to_numpy(zero_copy_only=False)
        inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(domains))] - start
        inside = inside[domains[inside] == "code"]
        if len(inside):
            problems = problems_from_table(pool.read(number).take(pa.array(inside)))
            yield from zip((inside + start).tolist(), problems, strict=True)
        start += len(domains)


def solve_each_other(worker: Worker, pairs: Sequence[tuple[Problem, Problem]]) -> list[bool]:
    """Of each pair, whether both have a reference program that passes the tests of the other."""
    are_complete = [all(row.solution.strip() and row.tests.strip() for row in pair) for pair in pairs]
    complete = [pair for pair, is_complete in zip(pairs, are_complete, strict=True) if is_complete]
    verdicts = worker.judge.verify(
        [(trace_of(one) or "", other) for pair in complete for one, other in (pair, pair[::-1])]
    )
    passes = iter(verdict.status == "correct" for verdict in verdicts)
    return [is_complete and all((next(passes), next(passes))) for is_complete in are_complete]
