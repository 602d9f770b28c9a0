"""What joins a chain and its workers, without running one."""

import json
import os
import subprocess
import sys

import pytest

from flows.launch import _environment
from flows.serve import _remove_own
from flows.stage_task import markdown_table
from stages.config import Runtime


def job(tmp_path, **changes):
    events = tmp_path / "events.jsonl"
    events.touch()
    path = tmp_path / "job.json"
    document = {"module": "stages.report", "config": {"no": 1}, "inputs": {}, "runtime": {"threads": 1}, "ranks": 1}
    path.write_text(json.dumps({**document, "out": str(tmp_path), "events": str(events), **changes}))
    return path, events


@pytest.mark.parametrize("is_parent", [True, False])
def test_a_worker_whose_parent_died_before_it_began_does_nothing(tmp_path, is_parent):
    path, events = job(tmp_path, parent=os.getpid() if is_parent else 1)
    (tmp_path / "data").mkdir()  # a folder of the user's where the command runs is not taken for our package
    (tmp_path / "data" / "__init__.py").write_text("raise SystemExit(9)")
    done = subprocess.run(
        [sys.executable, "-m", "stages.worker", str(path)],
        cwd=tmp_path,
        env=_environment(Runtime()),
        capture_output=True,
    )
    assert (done.returncode, bool(events.read_text())) == ((2, True) if is_parent else (1, False))


def test_only_ones_own_address_is_removed(tmp_path):
    path = tmp_path / "up.url"
    path.write_text("another's")
    _remove_own(path, "mine")
    assert path.exists()
    _remove_own(path, "another's")
    _remove_own(path, "another's")
    assert not path.exists()


def test_text_of_a_response_stays_in_its_cell():
    assert markdown_table([{"response": "a | b\nc"}])[2] == "| a \\| b c |"
