"""Decontamination (paper 2.3): drop what gives away a problem that a model will be measured on.

Measured are the benchmarks' rows and the recipe's own heldout and probe splits. A heldout row is compared with nothing, a probe row
with benchmarks and heldout, any other row with all three.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.schema import Problem, write_table
from stages.config import Decontamination
from stages.curation.contamination import Leak, LeakIndex, MeasuredRow
from stages.curation.funnel import Funnel, Step
from stages.curation.pool import Drop, Pool, Sifted
from stages.workers import Worker

NAME = "decontamination"
_HELDOUT, _PROBE = "heldout", "probe"
_MEASURED = pa.schema([("benchmark", pa.string()), ("id", pa.string()), ("text", pa.string())])


@dataclass(frozen=True, slots=True)
class Measured:
    """Where the measured rows stand, and when a row leaks one."""

    path: Path
    rule: Decontamination


def decontaminate(
    pool: Pool, benchmarks: Mapping[str, Sequence[Problem]], rule: Decontamination, funnel: Funnel
) -> tuple[Pool, Step]:
    """Drop leaks; the evidence is the benchmark, the row, the method and the score."""
    path = funnel.state / "measured.parquet"
    if not path.exists():
        write_table(_measured(pool, benchmarks), path)
    return funnel.sift(NAME, drop_leaks, pool, Measured(path, rule))


def _measured(pool: Pool, benchmarks: Mapping[str, Sequence[Problem]]) -> pa.Table:
    rows = [(name, row.id, row.prompt) for name, problems in benchmarks.items() for row in problems]
    rows += [row for split in (_HELDOUT, _PROBE) for row in _own_rows(pool, split)]
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[], [], []], schema=_MEASURED)


def _own_rows(pool: Pool, split: str) -> Iterator[tuple[str, str, str]]:
    for batch in pool.batches(["split", "id", "prompt"]):
        own = batch.filter(pc.field("split") == split)
        yield from ((split, row["id"], row["prompt"]) for row in own.to_pylist())


def drop_leaks(worker: Worker, task: tuple[pa.Table, Measured]) -> Sifted:
    """The leaks of a batch."""
    batch, measured = task
    for_probe, for_others = _indexes(worker, measured)
    drops = []
    for row, (prompt, split) in enumerate(zip(batch["prompt"].to_pylist(), batch["split"].to_pylist(), strict=True)):
        if split == _HELDOUT:
            continue
        leak = (for_probe if split == _PROBE else for_others).find(prompt)
        if leak is not None:
            drops.append(_drop(row, leak))
    return Sifted(drops)


def _indexes(worker: Worker, measured: Measured) -> tuple[LeakIndex, LeakIndex]:
    """Without and with the probe rows; made once a process."""
    key = f"{NAME} {measured.path}"
    if key not in worker.kept:
        rows = [MeasuredRow(*row.values()) for row in pq.read_table(measured.path).to_pylist()]
        without = [row for row in rows if row.benchmark != _PROBE]
        for_probe = LeakIndex(without, measured.rule)
        worker.kept[key] = for_probe, (for_probe if len(without) == len(rows) else LeakIndex(rows, measured.rule))
    return worker.kept[key]


def _drop(row: int, leak: Leak) -> Drop:
    evidence = f"{leak.row.benchmark}, row {leak.row.id}, {leak.method} {leak.score:.2f}"
    return Drop(row, f"contaminated: {leak.reason}", evidence, leak.method, leak.row.benchmark, leak.row.id, leak.score)
