import json
import os
from pathlib import Path

import pytest

from data.domains import Judge
from data.schema import Problem, table_from_problems, write_table
from stages.config import Runtime
from stages.curation.funnel import Funnel, save_batch
from stages.curation.pool import Candidate, Pool, Sifted, pool_table, split_batch
from stages.sampling.workers import Worker
from stages.stage import StageLog

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def public_data():
    folder = Path(os.environ.get("RING_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not any(folder.glob("*.parquet")):
        pytest.skip(f"no public problem sets in {folder}; set RING_DATA_DIR")
    return folder


@pytest.fixture(scope="session")
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


@pytest.fixture
def batch():
    def make(*problems, via="a", generated=False):
        return pool_table([Candidate(row, via, generated=generated) for row in problems])

    return make


@pytest.fixture
def worker():
    with Judge() as judge:
        yield Worker(Runtime(workers=1), judge)


@pytest.fixture
def funnel(tmp_path):
    return Funnel(tmp_path / "state", Runtime(workers=1), StageLog(None))


@pytest.fixture
def pool(funnel):
    def make(*batches):
        folder = funnel.state / "start"
        for number, rows in enumerate(batches):
            save_batch(folder, number, *split_batch(rows, Sifted(), step="start"))
        return Pool(folder / "kept", len(batches))

    return make


@pytest.fixture
def dropped():
    def rows(step):
        return [row for table in step.dropped() for row in table.to_pylist()]

    return rows
