"""How many problems of a benchmark stand in what a model was trained on, told beside its score (paper 2.3)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.schema import PROBLEM_COLUMNS, Problem, problems_from_table
from stages.config import Decontamination
from stages.curation.contamination import LeakIndex, MeasuredRow

SPLITS = ("base", "sft", "rl")  # of a curation, that models are trained on
_AT_ONCE = 4096


def trained_rows(sets: Mapping[str, Sequence[Problem]], curation: Path | None) -> dict[str, list[str]] | None:
    """Benchmark -> ids of its problems that a row of the splits gives away by text or n-grams; None where no curation is known.

    The rule is that of decontamination with its defaults: 8-grams, half of the problem's.
    """
    if curation is None:
        return None
    measured = [
        MeasuredRow(name, row.id, row.prompt, row.domain, row.answer) for name, rows in sets.items() for row in rows
    ]
    index = LeakIndex(measured, Decontamination())
    found: dict[str, set[str]] = {name: set() for name in sets}
    for problems in _trained(curation):
        for leak in index.find_all(problems):
            if leak is not None:
                found[leak.row.benchmark].add(leak.row.id)
    return {name: sorted(ids) for name, ids in found.items()}


def _trained(curation: Path) -> Iterator[list[Problem]]:
    """Rows of the splits that there are, some at a time."""
    for path in (curation / f"{split}.parquet" for split in SPLITS):
        if path.is_file():
            for batch in pq.ParquetFile(path).iter_batches(_AT_ONCE, columns=list(PROBLEM_COLUMNS)):
                yield problems_from_table(pa.Table.from_batches([batch]))
