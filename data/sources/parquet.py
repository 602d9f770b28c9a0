"""Problems from a folder of parquet files in the schema of `data/schema.py`.

In: every `*.parquet` of the folder, in the order of the names. Out: its rows as they stand, files in order, a batch at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.schema import PROBLEM_COLUMNS, PROBLEM_SCHEMA, Problem

_BATCH_ROWS = 1024
_CUT = 1000  # characters kept of each text of a row that is too large


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file, and what is wrong with it as bytes: then it is no problem to be looked at further."""

    problem: Problem
    fault: str = ""  # reason; empty: none
    evidence: str = ""


def load_folder(folder: Path, *, max_row_bytes: int) -> Iterator[Row]:
    """Rows of every file. A row with invalid UTF-8, or of more than `max_row_bytes`, is given with its fault and its texts cut short.

    Raises ValueError for a folder that is missing or empty, and for a file that cannot be read or lacks a column.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: no such folder; give one that holds *.parquet files with the columns of data/schema.py"
        )
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise ValueError(f"{folder}: holds no *.parquet file; every parquet file in it is a source of problems")
    for file in files:
        yield from _rows(file, max_row_bytes)


def _rows(file: Path, max_row_bytes: int) -> Iterator[Row]:
    for batch in _batches(file):
        cells = [_texts(batch.column(name)) for name in PROBLEM_COLUMNS]
        for row in zip(*cells, strict=True):
            yield _row(row, file, max_row_bytes)


def _batches(file: Path) -> Iterator[pa.Table]:
    """Batches of text columns, whose bytes may be no text. Raises ValueError naming the file and what is wrong with it."""
    try:
        with pq.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            if missing := [name for name in PROBLEM_COLUMNS if name not in names]:
                raise ValueError(
                    f"{file}: lacks the column {', '.join(missing)}; it has {', '.join(names)};"
                    f" needed are {', '.join(PROBLEM_COLUMNS)}"
                )
            for batch in opened.iter_batches(_BATCH_ROWS, columns=list(PROBLEM_COLUMNS)):
                yield pa.Table.from_batches([batch]).cast(PROBLEM_SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{file}: cannot be read as parquet with text in the columns {', '.join(PROBLEM_COLUMNS)}: {error}"
        ) from error


def _texts(column: pa.ChunkedArray) -> list[str | bytes]:
    """Texts, and the bytes of what is none."""
    try:
        return [value or "" for value in column.to_pylist()]
    except UnicodeDecodeError:
        return [_text(value) for value in column.cast(pa.binary()).to_pylist()]


def _text(value: bytes | None) -> str | bytes:
    try:
        return (value or b"").decode()
    except UnicodeDecodeError:
        return value or b""


def _row(cells: tuple[str | bytes, ...], file: Path, max_row_bytes: int) -> Row:
    for name, cell in zip(PROBLEM_COLUMNS, cells, strict=True):
        if isinstance(cell, bytes):
            return Row(_cut(cells), "invalid UTF-8", f"{file.name}: the {name} is no text: {cell[:40]!r}")
    return fitted(Problem(*cells), max_row_bytes, where=file.name)  # ty: ignore[invalid-argument-type] - all are texts here


def fitted(problem: Problem, max_row_bytes: int, *, where: str) -> Row:
    """The row, or with its texts cut short and the fault that it is too large."""
    cells = tuple(getattr(problem, name) for name in PROBLEM_COLUMNS)
    size = sum(len(cell) if cell.isascii() else len(cell.encode()) for cell in cells)
    if size <= max_row_bytes:
        return Row(problem)
    return Row(_cut(cells), "row too large", f"{where}: {size:,} bytes, {max_row_bytes:,} allowed (max_row_bytes)")


def _cut(cells: tuple[str | bytes, ...]) -> Problem:
    """The row with the beginnings of its texts."""
    return Problem(*((cell if isinstance(cell, str) else cell.decode(errors="replace"))[:_CUT] for cell in cells))
