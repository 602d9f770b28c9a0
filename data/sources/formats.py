"""Tables that people keep problems in, as batches of columns: parquet, CSV, TSV, JSON and JSON lines, the text ones also gzipped.

In: a file. Out: its rows in order, a batch at a time, column name -> values. Values of CSV are bytes, of JSON what stands there (a number
with a point keeps its spelling, see `cell_text`), of parquet what Arrow gives. Every mistake is a ValueError that names the file, the
place in it, and what to do.
"""

import codecs
import csv
import datetime
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

Columns = dict[str, list[Any]]  # name -> one value a row
BATCH_ROWS = 1024
HEAD_ROWS = 100
_HEAD_BYTES = 1_000_000
_CSV_BLOCK_BYTES = 32_000_000  # no row may be larger
_KINDS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json"}
KNOWN = "*.parquet, *.csv, *.tsv, *.jsonl or *.json"  # text also as .gz
_DEPTH = 3  # levels of fields that are offered by name
_LONGEST_NUMBER = 1e20  # from here on, and below its inverse, a number is written with a power of ten


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a file: its columns, their names with those of nested fields (`a.b`), and the first rows."""

    columns: tuple[str, ...]
    names: tuple[str, ...]
    rows: Columns


class _WrittenFloat(float):
    """A number of a JSON file, and how it was spelled."""

    written: str


def problem_files(place: Path, *, what: str) -> list[Path]:
    """The file itself, or the files of a folder that can be read, in the order of their names; folders below it are not looked into.

    Raises ValueError where there is none, and names what lies there instead.
    """
    if place.is_file():
        if kind_of(place) is None:
            raise ValueError(f"{what} {place}: cannot be read as a table; needed is {KNOWN}. {_conversion([place])}")
        return [place]
    if not place.is_dir():
        raise ValueError(
            f"{what} {place}: no such folder or file (looked for {place.absolute()}); give a file of problems, "
            f"{KNOWN}, or a folder that holds some"
        )
    try:
        there = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise ValueError(f"{what} {place}: cannot be looked into ({error.strerror}); check its permissions") from error
    files = [path for path in there if kind_of(path) is not None]
    if not files:
        found = f"only {', '.join(path.name for path in there[:5])}" if there else "it is empty"
        raise ValueError(f"{what} {place}: holds no {KNOWN} file, {found}. {_conversion(there)}")
    return files


def _conversion(paths: Sequence[Path]) -> str:
    is_workbook = any(path.suffix.lower() in (".xlsx", ".xls", ".ods") for path in paths)
    return "Save the sheet as CSV (UTF-8)" if is_workbook else "Text may be packed as .gz; docs/own-data.md has more"


def kind_of(path: Path) -> str | None:
    """`parquet`, `csv` or `json`, by the end of the name; None for another one."""
    name = path.name.lower().removesuffix(".gz")
    kind = _KINDS.get(Path(name).suffix)
    return None if kind == "parquet" and path.name.lower().endswith(".gz") else kind


def stem_of(path: Path) -> str:
    """The name without its endings: `mine` of `mine.csv.gz`."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem


def cell_text(value: Any) -> str | bytes | None:  # noqa: ANN401 - a cell of any type
    """A cell as text: numbers as written, a list of one text as that text, other lists and records as JSON. None: nothing there.

    A number of parquet was never written: it is the shortest text that gives it, without a point where it is whole.
    """
    match value:
        case None | str() | bytes():
            return value
        case _WrittenFloat():
            return value.written
        case float() if math.isnan(value):
            return None
        case float():
            return _number(value)
        case Decimal():
            return format(value, "f")
        case datetime.date() | datetime.time():
            return str(value)
        case [str(only)]:
            return only
        case _:
            return json.dumps(value, ensure_ascii=False, default=str)


def _number(value: float) -> str:
    shown = repr(value)
    is_short = 1 / _LONGEST_NUMBER < abs(value) < _LONGEST_NUMBER
    return format(Decimal(shown), "f") if "e" in shown and is_short else shown.removesuffix(".0")


def field_of(value: Any, path: Sequence[str]) -> Any:  # noqa: ANN401 - a nested cell
    """What stands at `a.b` in a nested cell; None where it is not there."""
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def read_head(path: Path, *, enough: Sequence[str] = ()) -> Head:
    """Columns and first rows; of a parquet file that has the columns in `enough` no rows, which takes long in a large one.

    Raises ValueError for a file that is empty, cannot be read, or is not what its name says.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: is empty; needed are a line of column names and rows, or JSON objects")
    if kind_of(path) == "parquet":
        names, rows = _parquet_head(path, enough)
    else:
        _require_utf8(path)
        rows = next(read_batches(path), {})
        names = tuple(rows)
        if not any(rows.values()):
            raise ValueError(f"{path}: holds no row{_only_header(path)}; needed is at least one problem")
    rows = {name: values[:HEAD_ROWS] for name, values in rows.items()}
    return Head(names, tuple(_with_fields(names, rows)), rows)


def _only_header(path: Path) -> str:
    return f", only the column names {', '.join(_header(path)[0])}" if kind_of(path) == "csv" else ""


def _with_fields(names: Sequence[str], rows: Columns) -> Iterator[str]:
    for name in names:
        yield name
        yield from _fields([value for value in rows.get(name, []) if isinstance(value, dict)], name, _DEPTH)


def _fields(values: Sequence[dict[str, Any]], name: str, depth: int) -> Iterator[str]:
    for key in dict.fromkeys(key for value in values for key in value) if depth else ():
        yield f"{name}.{key}"
        below = [value[key] for value in values if isinstance(value.get(key), dict)]
        yield from _fields(below, f"{name}.{key}", depth - 1)


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[Columns]:
    """Rows of the file, those columns of them; None: all. A row without one of them has None there."""
    reader = {"parquet": _parquet_batches, "csv": _csv_batches, "json": _json_batches}[kind_of(path) or "parquet"]
    try:
        yield from reader(path, columns)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: is damaged, or no gzip file ({error}); make it again, or unpack it") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error


# ---------------------------------------------------------------- parquet


def _parquet_head(path: Path, enough: Sequence[str]) -> tuple[tuple[str, ...], Columns]:
    try:
        with pq.ParquetFile(path) as opened:
            names = tuple(opened.schema_arrow.names)
            is_enough = bool(enough) and set(enough) <= set(names)
            first = None if is_enough else next(opened.iter_batches(HEAD_ROWS), None)
            return names, {name: _values(first.column(name)) for name in names} if first else {}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: cannot be read as parquet: {error}") from error


def _parquet_batches(path: Path, columns: Sequence[str] | None) -> Iterator[Columns]:
    try:
        with pq.ParquetFile(path) as opened:
            for batch in opened.iter_batches(BATCH_ROWS, columns=None if columns is None else list(columns)):
                yield {name: _values(batch.column(name)) for name in batch.schema.names}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: cannot be read as parquet: {error}") from error


def _values(column: pa.Array) -> list[Any]:
    """Values, and the bytes of texts where one of them is no UTF-8; of short floats those that are written alike."""
    if pa.types.is_float32(column.type) or pa.types.is_float16(column.type):
        kind = np.dtype(column.type.to_pandas_dtype()).type
        return [None if value is None else float(str(kind(value))) for value in column.to_pylist()]
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return column.cast(pa.binary()).to_pylist()


# ---------------------------------------------------------------- CSV


def _csv_batches(path: Path, columns: Sequence[str] | None) -> Iterator[Columns]:
    names, delimiter = _header(path)
    wanted = names if columns is None else list(columns)
    try:
        with (
            _opened(path) as stream,
            pacsv.open_csv(
                stream,
                read_options=pacsv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
                parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.binary()), include_columns=wanted, strings_can_be_null=False
                ),
            ) as opened,
        ):
            for block in opened:
                for start in range(0, len(block), BATCH_ROWS):
                    batch = block.slice(start, BATCH_ROWS)
                    yield {name: batch.column(name).to_pylist() for name in wanted}
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: {_csv_mistake(str(error), delimiter)}") from error


def _csv_mistake(message: str, delimiter: str) -> str:
    if "straddling" in message:
        return f"a row is larger than {_CSV_BLOCK_BYTES:,} bytes; is a quote left open?"
    shown = message.removeprefix("CSV parse error: ").strip()
    return (
        f'not every row has as many fields as the header: {shown}; put fields that hold {delimiter!r} or a line break in "..." '
        "(rows are counted from the header, which is 1, without blank lines)"
    )


def _header(path: Path) -> tuple[list[str], str]:
    """Column names, and what separates them: a tab in *.tsv; `;` where the header has it and no comma."""
    with _opened(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
        line = next((line for line in text if line.strip()), "")
        is_tsv = path.name.lower().removesuffix(".gz").endswith(".tsv")
        delimiter = "\t" if is_tsv else ";" if ";" in line and "," not in line else ","
        names = next(csv.reader([line, *islice(text, 10)], delimiter=delimiter), [])
    if not names:
        raise ValueError(f"{path}: holds blank lines only; needed are a line of column names and rows")
    if double := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"{path}: line 1 names the column {double[0]!r} twice; give each column a name of its own")
    return names, delimiter


# ---------------------------------------------------------------- JSON


def _json_batches(path: Path, columns: Sequence[str] | None) -> Iterator[Columns]:
    rows = _json_rows(path)
    while batch := list(islice(rows, BATCH_ROWS)):
        names = columns if columns is not None else list(dict.fromkeys(name for row in batch for name in row))
        yield {name: [_sound(row.get(name)) for row in batch] for name in names}


def _sound(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    r"""The value; a text that no UTF-8 can hold (half of a pair such as `\ud83d`) as bytes that are none either."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode(errors="surrogatepass")
    return value


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with _opened(path) as stream:
        first = stream.read(len(codecs.BOM_UTF8))
        start = first.removeprefix(codecs.BOM_UTF8)
        while start and not start.strip():
            start = stream.read(1)
        if start.strip().startswith(b"["):
            yield from _array_rows(_decoded_text(start + stream.read(), path), path)
            return
        for number, line in enumerate(chain([start + stream.readline()], stream), start=1):
            if line.strip():
                where = f"{path}: line {number}"
                text = _decoded_text(line, path, first_line=number)
                value, end = _decoded(text, 0, where)
                if text[end:].strip():
                    raise ValueError(f"{where}: something stands behind the object: {text[end:].strip()[:40]!r}")
                yield _object(value, where)


def _decoded_text(content: bytes, path: Path, *, first_line: int = 1) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {_no_utf8(error, first_line=first_line)}") from error


def _array_rows(text: str, path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSON list, one after the other."""
    at, number = text.index("[") + 1, 0
    while True:
        at = _past_space(text, at)
        if text.startswith("]", at):
            return
        number += 1
        value, at = _decoded(text, at, f"{path}: element {number}")
        yield _object(value, f"{path}: element {number}")
        at = _past_space(text, at)
        if not text.startswith((",", "]"), at):
            raise ValueError(f"{path}: after element {number} a comma or `]` is missing; is the file cut short?")
        at += text.startswith(",", at)


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _float(text: str) -> _WrittenFloat:
    number = _WrittenFloat(text)
    number.written = text
    return number


_DECODER = json.JSONDecoder(parse_float=_float)


def _decoded(text: str, at: int, where: str) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, _past_space(text, at))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where}: is no JSON ({error}); needed is one object a line, or a list of objects; is the file cut short?"
        ) from error


def _object(value: Any, where: str) -> dict[str, Any]:  # noqa: ANN401 - a JSON value
    if isinstance(value, dict):
        return value
    raise ValueError(
        f'{where}: is a {type(value).__name__}, no object; needed is one such as {{"question": "...", "answer": "..."}}'
    )


# ---------------------------------------------------------------- text


def _opened(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # ty: ignore[invalid-explicit-return]


def _require_utf8(path: Path) -> None:
    """The beginning must be text; what comes later is told where it is read."""
    try:
        with _opened(path) as stream:
            head = stream.read(_HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({error}); is it damaged, or no gzip file?") from error
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {_no_utf8(error)}") from error


def _no_utf8(error: UnicodeDecodeError, *, first_line: int = 1) -> str:
    line = error.object.count(b"\n", 0, error.start) + first_line
    encoding = "UTF-16" if error.object.startswith((b"\xff\xfe", b"\xfe\xff")) else "LATIN1"
    return (
        f"is no UTF-8: byte 0x{error.object[error.start]:02x} in line {line}; convert it, "
        f"for example `iconv -f {encoding} -t UTF-8 FILE > NEW` (or save it as UTF-8)"
    )
