"""The rows that curation sifts: batches of a fixed number of rows, each a file, so that memory is bounded and no work is done twice.

A step maps a batch to what it keeps and what it drops. Rows stay in order and no row moves to another batch, so the result does
not depend on how many processes there are, nor on whether the stage was stopped in between.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.schema import DROPPED_SCHEMA, PROBLEM_SCHEMA, Problem, table_from_problems

POOL_SCHEMA = pa.schema([*PROBLEM_SCHEMA, ("via", pa.string()), ("generated", pa.bool_())])
BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Candidate:
    """A problem on its way to the split that `problem.split` names."""

    problem: Problem
    via: str  # name of the recipe's source
    generated: bool  # by a generator of ours, or of reasoning-gym


def origin(via: str, source: str, *, generated: bool) -> str:
    """Where a row comes from, for people: the generator's name, or the data set that a file's row names."""
    return via if generated else source or via


@dataclass(frozen=True, slots=True)
class Drop:
    """A row of a batch that is left out. `evidence` is what a reader needs to check the reason: a snippet, an id, a verdict."""

    row: int  # in the batch
    reason: str
    evidence: str
    method: str = ""
    benchmark: str = ""  # that a leak gives away
    against: str = ""  # id of the other row
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Sifted:
    """What a step makes of a batch: the rows it drops, and new values for a column of all its rows."""

    drops: Sequence[Drop] = ()
    changed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    num_judged: int = 0  # responses that it asked the judge about


@dataclass(frozen=True, slots=True)
class Pool:
    """The batches of a folder, in order."""

    folder: Path
    num_batches: int

    def path(self, number: int) -> Path:
        """File of a batch."""
        return batch_path(self.folder, number)

    def read(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """A batch, or some of its columns."""
        return pq.read_table(self.path(number), columns=None if columns is None else list(columns))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Every batch in order."""
        for number in range(self.num_batches):
            yield self.read(number, columns)


def batch_path(folder: Path, number: int) -> Path:
    """`00012.parquet`."""
    return folder / f"{number:05d}.parquet"


def pool_table(candidates: Sequence[Candidate]) -> pa.Table:
    """Rows of POOL_SCHEMA."""
    table = table_from_problems(candidate.problem for candidate in candidates)
    table = table.append_column("via", pa.array([candidate.via for candidate in candidates], pa.string()))
    return table.append_column("generated", pa.array([candidate.generated for candidate in candidates], pa.bool_()))


def split_batch(batch: pa.Table, sifted: Sifted, *, step: str) -> tuple[pa.Table, pa.Table]:
    """What is kept (POOL_SCHEMA, with the changed columns) and what is dropped (DROPPED_SCHEMA and the columns of the pool)."""
    gone = {drop.row for drop in sifted.drops}
    assert len(gone) == len(sifted.drops), f"{step} drops a row twice"
    kept = batch
    for name, values in sifted.changed.items():
        kept = kept.set_column(kept.schema.get_field_index(name), name, pa.array(values, pa.string()))
    kept = kept.filter(pa.array([row not in gone for row in range(len(batch))], pa.bool_()))
    return kept, dropped_table(
        batch.take(pa.array([drop.row for drop in sifted.drops], pa.int64())), sifted.drops, step
    )


def dropped_table(rows: pa.Table, drops: Sequence[Drop], step: str) -> pa.Table:
    """Dropped rows with their step, reason and evidence."""
    said = {
        "step": [step] * len(drops),
        **{
            name: [getattr(drop, name) for drop in drops]
            for name in ("reason", "evidence", "method", "benchmark", "against", "score")
        },
    }
    for name, values in said.items():
        rows = rows.append_column(name, pa.array(values, DROPPED_SCHEMA.field(name).type))
    return rows
