"""One judge for all tests: its processes take a second to start."""

import os
from pathlib import Path

import pytest

from data.domains import Judge


@pytest.fixture(scope="session")
def judge():
    with Judge() as judge:
        yield judge


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(os.environ.get("RING_DATA_DIR", Path(__file__).parents[4] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set RING_DATA_DIR to the data sets")
    return folder
