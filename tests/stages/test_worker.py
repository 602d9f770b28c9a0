"""The process of a stage: an error of any rank is told, with its rank, and tells a user's mistake from a failure."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.stages.conftest import ROOT, arm_config, arm_job

pytestmark = pytest.mark.slow


def told(job: Path, *, rank: int) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and events of one of two ranks."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    done = subprocess.run(
        [sys.executable, "-m", "stages.worker", str(job)], env=environment, capture_output=True, text=True
    )
    events = Path(json.loads(job.read_text())["events"]).read_text(encoding="utf-8").splitlines()
    return done.returncode, [json.loads(line) for line in events]


def test_a_mistake_that_a_rank_meets_reaches_the_user_with_its_rank(arm_inputs, tmp_path: Path) -> None:
    (tmp_path / "selection").mkdir()
    choice = (arm_inputs["selection"] / "choice.json").read_bytes()
    (tmp_path / "selection" / "choice.json").write_bytes(choice)  # without graded.parquet
    inputs = {**arm_inputs, "selection": tmp_path / "selection"}
    code, events = told(arm_job(arm_config(), inputs, tmp_path / "arm", ranks=2), rank=1)
    assert code == 2
    assert [event["event"] for event in events] == ["error"]
    assert events[0]["text"].startswith("rank 1: ") and "graded.parquet" in events[0]["text"]


def test_a_failure_that_is_nobodys_mistake_is_told_with_its_rank_and_its_kind(arm_inputs, tmp_path: Path) -> None:
    inputs = {name: folder for name, folder in arm_inputs.items() if name != "selection"}
    code, events = told(arm_job(arm_config(), inputs, tmp_path / "arm", ranks=2), rank=1)
    assert code == 1
    assert [event["event"] for event in events] == ["failure"]
    assert events[0]["text"] == "rank 1: KeyError: 'selection'"
