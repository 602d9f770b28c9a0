"""Decontamination (paper 2.3): drop what gives away a problem that a model will be measured on.

Measured are the benchmarks' rows and the recipe's own heldout and probe splits. A heldout row is compared with nothing, a probe row
with benchmarks and heldout, any other row with all three. Benchmarks are compared with each other, too: those overlaps are reported.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.schema import Problem, problems_from_table, write_table
from stages.config import Decontamination
from stages.curation.contamination import Leak, LeakIndex, MeasuredRow
from stages.curation.funnel import Funnel, Step
from stages.curation.likeness import Likeness
from stages.curation.pool import BATCH_ROWS, Drop, Pool, Sifted
from stages.workers import Worker

NAME = "decontamination"
_HELDOUT, _PROBE = "heldout", "probe"
_BACKGROUND_ROWS = 4096
_MEASURED = pa.schema(
    [(name, pa.string()) for name in ("benchmark", "id", "text", "domain", "answer")] + [("is_own", pa.bool_())]
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Where the measured rows and a sample of the pool stand, and when a row leaks one."""

    path: Path
    background: Path
    rule: Decontamination


def decontaminate(
    pool: Pool, benchmarks: Mapping[str, Sequence[Problem]], rule: Decontamination, funnel: Funnel
) -> tuple[Pool, Step]:
    """Drop leaks; the evidence is the benchmark, the row, the method and the score."""
    if funnel.is_done(NAME, pool):
        return funnel.finish(NAME, pool)
    measured = Measured(funnel.state / "measured.parquet", funnel.state / "background.parquet", rule)
    write_table(_measured(pool, benchmarks), measured.path)
    write_table(
        _background(pool) if rule.likeness or rule.masked_numbers else pa.table({"text": []}), measured.background
    )
    return funnel.sift(NAME, drop_leaks, pool, measured)


def _measured(pool: Pool, benchmarks: Mapping[str, Sequence[Problem]]) -> pa.Table:
    rows = [
        (name, row.id, row.prompt, row.domain, row.answer, False)
        for name, problems in benchmarks.items()
        for row in problems
    ]
    rows += [row for split in (_HELDOUT, _PROBE) for row in _own_rows(pool, split)]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in _MEASURED]
    return pa.table(columns, schema=_MEASURED)


def _own_rows(pool: Pool, split: str) -> Iterator[tuple[str, str, str, str, str, bool]]:
    for batch in pool.batches(["split", "id", "prompt", "domain", "answer"]):
        for row in batch.filter(pc.field("split") == split).to_pylist():
            yield split, row["id"], row["prompt"], row["domain"], row["answer"], True


def _background(pool: Pool) -> pa.Table:
    """Prompts spread evenly over the pool: about `_BACKGROUND_ROWS`, the same whatever the number of processes."""
    step = max(1, pool.num_batches * BATCH_ROWS // _BACKGROUND_ROWS)
    prompts = (
        batch["prompt"].to_pylist()[number % step :: step] for number, batch in enumerate(pool.batches(["prompt"]))
    )
    return pa.table({"text": [prompt for chosen in prompts for prompt in chosen]})


def drop_leaks(worker: Worker, task: tuple[pa.Table, Measured]) -> Sifted:
    """The leaks of a batch."""
    batch, measured = task
    index = _index(worker, measured)
    splits = batch["split"].to_pylist()
    problems = problems_from_table(batch)
    drops = []
    for without, rows in (
        (_PROBE, [row for row, split in enumerate(splits) if split == _PROBE]),
        (None, [row for row, split in enumerate(splits) if split not in (_HELDOUT, _PROBE)]),
    ):
        leaks = index.find_all([problems[row] for row in rows], without=without)
        drops += [_drop(row, leak) for row, leak in zip(rows, leaks, strict=True) if leak is not None]
    return Sifted(sorted(drops, key=lambda drop: drop.row))


def _index(worker: Worker, measured: Measured) -> LeakIndex:
    """Made once a process."""
    key = f"{NAME} {measured.path}"
    if key not in worker.kept:
        rows = [MeasuredRow(*row.values()) for row in pq.read_table(measured.path).to_pylist()]
        background = pq.read_table(measured.background)["text"].to_pylist()
        is_compared = rows and (measured.rule.likeness or measured.rule.masked_numbers)
        likeness = Likeness([row.text for row in rows], background) if is_compared else None
        worker.kept[key] = LeakIndex(rows, measured.rule, likeness)
    return worker.kept[key]


def _drop(row: int, leak: Leak) -> Drop:
    evidence = f"{leak.row.benchmark}, row {leak.row.id}, {leak.method} {leak.score:.2f}"
    return Drop(row, f"contaminated: {leak.reason}", evidence, leak.method, leak.row.benchmark, leak.row.id, leak.score)
