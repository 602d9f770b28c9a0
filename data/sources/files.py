r"""Problems from files: a table in the schema of `data/schema.py`, or any other with a question and an answer (`columns`).

In: a file, or a folder of them. Out: its rows, files in the order of their names. Of a file that has all our columns they come as they
stand. Of another one each gets what it lacks: an id from the file's name and its texts (so that adding rows moves no other one to another
split), `meta` with file and row, and where the answer is worked (`... #### 42`, `... \boxed{42}`) it becomes the solution, and its end
the answer.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.domains.extraction import final_answer
from data.schema import PROBLEM_COLUMNS, Problem
from data.sources.columns import Reading, cell_path, is_worked, reading_of
from data.sources.formats import cell_text, field_of, problem_files, read_batches, stem_of

_CUT = 1000  # characters kept of each text of a row that is too large
_Cell = str | bytes  # bytes are no text


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file, and what is wrong with it as bytes: then it is no problem to be looked at further."""

    problem: Problem
    fault: str = ""  # reason; empty: none
    evidence: str = ""
    where: str = ""  # file and row, of one that was read from a file


def load_files(
    place: Path, *, columns: Mapping[str, str], max_row_bytes: int, max_rows: int | None = None
) -> Iterator[Row]:
    """Rows of every file. A row with invalid UTF-8, or of more than `max_row_bytes`, is given with its fault and its texts cut short.

    `columns` is what was asked for, our column -> theirs; of each file and split at most `max_rows` come, the first ones. Raises
    ValueError for a place without files, and for a file that cannot be read or lacks a column.
    """
    for file in problem_files(place, what="problems"):
        reading = reading_of(file, columns)
        seen: Counter[str] = Counter()
        for row in _rows(file, reading, max_row_bytes):
            seen[row.problem.split] += 1
            if max_rows is None or seen[row.problem.split] <= max_rows:
                yield row


def _rows(file: Path, reading: Reading, max_row_bytes: int) -> Iterator[Row]:
    """Rows of one file; all columns are made for a batch at once."""
    number = 0
    for batch in read_batches(file, reading.read):
        num_rows = len(next(iter(batch.values())))
        cells = [_cells(ours, reading, batch, num_rows) for ours in PROBLEM_COLUMNS]
        for row in zip(*cells, strict=True):
            number += 1
            yield replace(_row(row, file, number, reading, max_row_bytes), where=f"{file.name}, row {number}")


def _cells(ours: str, reading: Reading, batch: Mapping[str, list[Any]], num_rows: int) -> list[_Cell]:
    theirs = reading.columns.get(ours)
    if theirs is None:
        return [reading.constants.get(ours, "")] * num_rows
    column, *fields = cell_path(theirs, reading.read)
    return [_text(field_of(value, fields) if fields else value) for value in batch[column]]


def _text(value: Any) -> _Cell:  # noqa: ANN401 - a cell of any type
    text = value if isinstance(value, str) else cell_text(value) or ""
    if isinstance(text, str):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def _row(cells: tuple[_Cell, ...], file: Path, number: int, reading: Reading, max_row_bytes: int) -> Row:
    for name, cell in zip(PROBLEM_COLUMNS, cells, strict=True):
        if isinstance(cell, bytes):
            return Row(_cut(cells), "invalid UTF-8", f"{file.name}: the {name} is no text: {cell[:40]!r}")
    problem = Problem(*cells)  # ty: ignore[invalid-argument-type] - all are texts here
    return fitted(problem if reading.is_uniform else _completed(problem, file, number), max_row_bytes, where=file.name)


def _completed(problem: Problem, file: Path, number: int) -> Problem:
    """The row with an id, where it stood, and its answer told from its solution."""
    key = "\0".join((file.name, problem.prompt, problem.answer, problem.solution, problem.tests))
    own = f"{stem_of(file)}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    meta = problem.meta or json.dumps({"file": file.name, "row": number}, ensure_ascii=False)
    return replace(_solved(problem), id=problem.id or own, meta=meta)


def _solved(problem: Problem) -> Problem:
    """A worked answer is a solution, unless there is one; an answer that is missing is the solution's last one."""
    if is_worked(problem.answer) and (answer := final_answer(problem.answer)):
        return replace(problem, answer=answer, solution=problem.solution or _beyond_its_answer(problem.answer, answer))
    if not problem.answer.strip() and problem.solution:
        return replace(problem, answer=final_answer(problem.solution) or "")
    return problem


def _beyond_its_answer(text: str, answer: str) -> str:
    r"""The text, if it says more than its answer: `\boxed{42}` alone is no solution."""
    return text if len(text.strip()) > len(answer) + len(r"$\boxed{}$.") else ""


def fitted(problem: Problem, max_row_bytes: int, *, where: str) -> Row:
    """The row, or with its texts cut short and the fault that it is too large."""
    cells = tuple(getattr(problem, name) for name in PROBLEM_COLUMNS)
    size = sum(len(cell) if cell.isascii() else len(cell.encode()) for cell in cells)
    if size <= max_row_bytes:
        return Row(problem)
    return Row(_cut(cells), "row too large", f"{where}: {size:,} bytes, {max_row_bytes:,} allowed (max_row_bytes)")


def _cut(cells: tuple[_Cell, ...]) -> Problem:
    """The row with the beginnings of its texts."""
    return Problem(*((cell if isinstance(cell, str) else cell.decode(errors="replace"))[:_CUT] for cell in cells))
