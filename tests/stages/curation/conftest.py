import json
import os
from pathlib import Path

import pytest

from data.schema import Problem, table_from_problems, write_table

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def public_data():
    folder = Path(os.environ.get("RING_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not any(folder.glob("*.parquet")):
        pytest.skip(f"no public problem sets in {folder}; set RING_DATA_DIR")
    return folder


@pytest.fixture
def problem():
    def make(prompt="What is 6 times 7?", **columns):
        defaults = {"id": "a/0", "domain": "math", "split": "train", "answer": "42", "source": "a", "licence": "MIT"}
        return Problem(**{**defaults, "prompt": prompt, **columns})

    return make


@pytest.fixture
def program(problem):
    def make(prompt="Write a function add(a, b).", *, check="assert add(1, 2) == 3", **columns):
        tests = json.dumps({"type": "function", "setup": "", "check": check, "entry_point": "add"})
        return problem(prompt, **{"domain": "code", "answer": "", "tests": tests, **columns})

    return make


@pytest.fixture
def folder(tmp_path):
    def make(*problems, name="some.parquet"):
        write_table(table_from_problems(problems), tmp_path / "in" / name)
        return tmp_path / "in"

    return make
