"""The contract between stages: pyarrow schemas of problems, dropped rows and samples, and the record of one problem.

Text columns hold an empty string where nothing is known; `tests` and `meta` are JSON text.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

_GROUP_ROWS = 16_384
PROBLEM_COLUMNS = ("id", "domain", "split", "prompt", "answer", "tests", "solution", "source", "licence", "meta")
PROBLEM_SCHEMA = pa.schema([(name, pa.string()) for name in PROBLEM_COLUMNS])
DROPPED_SCHEMA = pa.schema(
    [
        *PROBLEM_SCHEMA,
        ("step", pa.string()),
        ("reason", pa.string()),
        ("evidence", pa.string()),  # for people
        ("method", pa.string()),  # how another row was found to be the same problem; empty for other reasons
        ("benchmark", pa.string()),  # that a leak gives away
        (
            "against",
            pa.string(),
        ),  # id of the benchmark's row, or of the copy that is kept: rows with the same one are a group
        ("score", pa.float32()),  # of the method; 0 where there is none
    ]
)
SAMPLE_SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("domain", pa.string()),
        ("sample", pa.int32()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("response", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        ("status", pa.string()),
        ("score", pa.float32()),
        ("checker_failed", pa.bool_()),  # wrong because the checker did not come back on this answer
        ("weak", pa.bool_()),
        ("extracted", pa.string()),
        ("reason", pa.string()),
        ("seed", pa.int64()),
        ("entropy", pa.float32()),  # mean over the response's tokens, nats; nan where a server does not tell
        (
            "num_tokens",
            pa.int32(),
        ),  # null where a server does not tell; the lists of ids and log-probabilities are then empty
        ("truncated", pa.bool_()),
    ]
)
ROLLOUT_SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("group", pa.int32()),  # number of the prompt within the step; (step, group, sample) tells rows apart
        ("budget_rank", pa.int32()),  # virtual rank whose budget the group counts against
        ("asked_step", pa.int32()),  # step in which its first token was drawn
        (
            "born_step",
            pa.int32(),
        ),  # step in which it was finished and judged; earlier than `step` where it was carried over
        ("new_tokens", pa.int32()),  # of its tokens those that were drawn in this step
        ("policy_version", pa.int32()),  # steps behind the weights that drew its first token
        *SAMPLE_SCHEMA,
        ("token_versions", pa.list_(pa.int32())),  # as policy_version, of every token
        ("reference_logprobs", pa.list_(pa.float32())),  # of every token under the reference; empty where none is asked
        ("reward", pa.float64()),  # its score, less what the objective takes off; nan where the judge failed
        ("advantage", pa.float64()),
        ("kept_tokens", pa.int32()),  # its first tokens that entered a loss; 0: none
        ("weight", pa.float64()),  # of each of them
        ("update", pa.int32()),  # of the step, from 1, whose loss they entered; 0: none
    ]
)


@dataclass(frozen=True)
class Problem:
    """One problem: a row of PROBLEM_SCHEMA."""

    id: str
    domain: str
    split: str
    prompt: str
    answer: str = ""
    tests: str = ""
    solution: str = ""
    source: str = ""
    licence: str = ""
    meta: str = "{}"

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """`meta`, parsed; empty where it is no JSON object, as of sets from elsewhere it need not be."""
        try:
            meta = json.loads(self.meta or "{}")
        except (ValueError, RecursionError):
            return {}
        return meta if isinstance(meta, dict) else {}

    @property
    def level(self) -> int | None:
        """Difficulty level of a generated problem."""
        level = self.metadata.get("level")
        return level if isinstance(level, int) else None


def problems_from_table(table: pa.Table) -> list[Problem]:
    """Rows as records; other columns than the problem's are left out."""
    columns = [table.column(name).to_pylist() for name in PROBLEM_COLUMNS]
    return [Problem(*(value or "" for value in row)) for row in zip(*columns, strict=True)]


def table_from_problems(problems: Iterable[Problem]) -> pa.Table:
    """Records as rows of PROBLEM_SCHEMA."""
    rows = list(problems)
    return pa.table(
        {field.name: [getattr(row, field.name) for row in rows] for field in fields(Problem)}, schema=PROBLEM_SCHEMA
    )


def read_table(path: Path, schema: pa.Schema = PROBLEM_SCHEMA) -> pa.Table:
    """Read the schema's columns of a parquet file. Raises ValueError naming the file and what is wrong with it."""
    try:
        found = pq.read_schema(path)
        missing = [name for name in schema.names if name not in found.names]
        if missing:
            raise ValueError(
                f"{path}: lacks the column {', '.join(missing)}; it has {', '.join(found.names)}; needed are {', '.join(schema.names)}"
            )
        return pq.read_table(path, columns=schema.names).cast(schema)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path}: cannot be read as parquet with the columns {', '.join(schema.names)}: {error}"
        ) from error


def write_table(table: pa.Table, path: Path) -> None:
    """Write beside, then rename; the same rows give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, beside, compression="zstd")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


class TableWriter:
    """Writes a table piece by piece, in row groups of a fixed size, beside its place; renamed when all is there."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.num_rows = 0
        self._path, self._schema = path, schema
        self._beside = path.with_name(f".{path.name}.{os.getpid()}")
        self._pieces: list[pa.Table] = []
        self._num_waiting = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._beside, self._schema, compression="zstd")
        return self

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        self._pieces.append(table)
        self._num_waiting += len(table)
        self.num_rows += len(table)
        if self._num_waiting >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._num_waiting:
            self._writer.write_table(pa.concat_tables(self._pieces).combine_chunks(), row_group_size=self._num_waiting)
        self._pieces, self._num_waiting = [], 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
            if kind is None:
                self._beside.replace(self._path)
        finally:
            self._beside.unlink(missing_ok=True)
