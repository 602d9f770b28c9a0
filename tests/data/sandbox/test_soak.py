"""Many mixed runs, a tenth of them hostile, leave nothing behind; `python -m benchmarks.sandbox soak 20000` does it at length."""

import pytest

from benchmarks.sandbox import soak


@pytest.mark.slow
def test_hostile_runs_leave_nothing_behind_and_memory_does_not_grow(sandbox):
    found = soak(150, rung=sandbox.rung.name)
    for name in ("processes", "mounts", "temporary files", "descriptors", "server descriptors", "server processes"):
        before, after = found[name]
        assert after == before, name
    for name in ("judge KB", "server KB"):
        before, after = found[name]
        assert after - before < 2000, name
