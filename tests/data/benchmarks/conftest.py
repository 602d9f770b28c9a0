import os
from pathlib import Path

import pytest

from data.schema import Problem, table_from_problems, write_table


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(os.environ.get("RING_DATA_DIR", Path(__file__).parents[4] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set RING_DATA_DIR to the data sets")
    return folder


@pytest.fixture
def row():
    def make(number=0, **columns):
        given = {
            "id": f"x/{number}",
            "domain": "math",
            "split": "eval",
            "prompt": f"{number} + 1?",
            "answer": f"{number + 1}",
        }
        return Problem(**{**given, "source": "aime24", **columns})

    return make


@pytest.fixture
def folder(tmp_path):
    def make(*problems, name="some.parquet"):
        write_table(table_from_problems(problems), tmp_path / "in" / name)
        return tmp_path / "in"

    return make
