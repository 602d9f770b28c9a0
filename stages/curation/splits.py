"""The six splits as files, and the rows of benchmarks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.compute as pc

from data.schema import PROBLEM_COLUMNS, PROBLEM_SCHEMA, Problem, TableWriter, table_from_problems, write_table
from stages.config import Split
from stages.curation.pool import Pool

SPLITS: tuple[str, ...] = get_args(Split)
BENCHMARK_ROWS = "benchmarks.parquet"  # every row of the benchmarks, in a curation that has any


def write_splits(pool: Pool, benchmarks: Mapping[str, Sequence[Problem]], out: Path) -> dict[str, int]:
    """Write all six, whose numbers of rows are returned. Rows of benchmarks that can be judged join `heldout` and keep `eval` as split.

    All rows of benchmarks, where there are any, stand in a file of their own, too.
    """
    if any(benchmarks.values()):
        rows = (problem for problems in benchmarks.values() for problem in problems)
        write_table(table_from_problems(rows), out / BENCHMARK_ROWS)
    counts = {}
    for split in SPLITS:
        with TableWriter(out / f"{split}.parquet", PROBLEM_SCHEMA) as writer:
            for batch in pool.batches():
                writer.write(batch.filter(pc.field("split") == split).select(list(PROBLEM_COLUMNS)))
            if split == "heldout":
                writer.write(_judged_rows(benchmarks))
        counts[split] = writer.num_rows
    return counts


def _judged_rows(benchmarks: Mapping[str, Sequence[Problem]]) -> pa.Table:
    return table_from_problems(problem for rows in benchmarks.values() for problem in rows if can_be_judged(problem))


def can_be_judged(problem: Problem) -> bool:
    """Whether there is anything to judge an answer by; other rows of a benchmark only serve decontamination."""
    return bool(problem.answer.strip() or problem.tests.strip())
