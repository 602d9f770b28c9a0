"""The six splits: at most `num_kept` rows of a generated source, in order."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.compute as pc

from data.schema import PROBLEM_COLUMNS, PROBLEM_SCHEMA, Problem, TableWriter, table_from_problems
from stages.config import CurationConfig, ProceduralSource, Split
from stages.curation.pool import Drop, Pool

SPLITS: tuple[str, ...] = get_args(Split)


def surplus(pool: Pool, config: CurationConfig) -> Iterator[list[Drop]]:
    """For each batch, the rows after the first `num_kept` of a source that says so."""
    limits = {source.name: source.num_kept for source in config.sources if isinstance(source, ProceduralSource)}
    counts = dict.fromkeys(limits, 0)
    for batch in pool.batches(["via"]):
        drops = []
        for row, via in enumerate(batch["via"].to_pylist()):
            limit = limits.get(via)
            if limit is None:
                continue
            counts[via] += 1
            if counts[via] > limit:
                drops.append(Drop(row, "surplus", f"{via} keeps {limit}"))
        yield drops


def write_splits(pool: Pool, benchmarks: Mapping[str, Sequence[Problem]], out: Path) -> dict[str, int]:
    """Write all six, whose numbers of rows are returned. Rows of benchmarks that can be judged join `heldout` and keep `eval` as split."""
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
