"""Problems from a folder of parquet files in the schema of `data/schema.py`.

In: every `*.parquet` of the folder, in the order of the names. Out: `Problem` records as they stand, files in order.
"""

from pathlib import Path

from data.schema import PROBLEM_SCHEMA, Problem, problems_from_table, read_table


def load_folder(folder: Path) -> list[Problem]:
    """Rows of every file. Raises ValueError for a folder that is missing or empty, and for a file that lacks a column."""
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: no such folder; give one that holds *.parquet files with the columns of data/schema.py"
        )
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise ValueError(f"{folder}: holds no *.parquet file; every parquet file in it is a source of problems")
    return [problem for file in files for problem in problems_from_table(read_table(file, PROBLEM_SCHEMA))]
