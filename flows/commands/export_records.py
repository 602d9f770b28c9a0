"""`ring export-records`: the experiment records of a chain as plain files, for W&B, a spreadsheet or a notebook."""

import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from flows.console import near, plain_console, waiting
from stages.records.artifact import open_store

Format = Literal["csv", "jsonl"]
Row = Mapping[str, Any]
_out = plain_console()


def export_records(
    chain: str,
    out: Path | None = None,
    /,
    *,
    format_: Annotated[Format, Parameter(name="--format")] = "csv",
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Write a chain's experiment records as CSV or JSON lines: parameters, metrics of every step, tags, data sets, models.

    A folder with a file a table: `runs`, `params`, `metrics` (run_id, name, value, step, timestamp in ms), `tags`, `datasets`, `models`.
    Rows belong to the run `run_id`: the chain's own, or one that made a result of it, cached or not.

    Parameters
    ----------
    chain
        The id that `ring run --json` prints as `chain`, its first characters, or `latest`: the finished run of a recipe in this home folder
        that began last. With one name alone, that is the folder, and the chain is the latest.
    out
        The folder to make; it must not be there.
    format_
        csv, or jsonl (one JSON object a line). A value that is no number, or infinite, is empty, or null.
    json_
        Print one JSON object: the folder, the chain, and how many rows each table has.

    """
    with waiting("reading the records"):
        from stages.records.chains import LATEST, find_chain  # imports MLflow, which takes seconds

        name, place = (chain, out) if out is not None else (LATEST, Path(chain))
        found = find_chain(name, open_store())
        runs = [*dict.fromkeys(found.made_by.values())]
        tables = found.rows(runs) | found.more_rows(runs)
    write_tables(tables, place, format_)
    counts = {table: len(rows) for table, rows in tables.items()}
    if json_:
        sys.stdout.write(json.dumps({"folder": str(place.absolute()), "chain": found.name, "rows": counts}) + "\n")
    else:
        told = ", ".join(f"{count:,} {table}" for table, count in counts.items())
        _out.print(f"{near(place)}: {told} of chain {found.name[:8]}", highlight=False, soft_wrap=True)
    return 0


def write_tables(tables: Mapping[str, Sequence[Row]], out: Path, format_: Format) -> None:
    """A file a table, in a new folder, whole or not at all. Raises ValueError where there is one already, or no place for it."""
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} is there already; name a folder that is not, or move it away")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"{out}: the folder {out.absolute().parent} is not there; make it first")
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
    try:
        folder = beside / out.name
        folder.mkdir()
        for name, rows in tables.items():
            _WRITERS[format_](rows, folder / f"{name}.{format_}")
        folder.rename(out.absolute())
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_csv(rows: Sequence[Row], path: Path) -> None:
    """A cell that is itself a record is written as JSON."""
    names = [*dict.fromkeys(name for row in rows for name in row)]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    return json.dumps(value) if isinstance(value, dict | list) else value


def _write_lines(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


_WRITERS = {"csv": _write_csv, "jsonl": _write_lines}
