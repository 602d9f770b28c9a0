"""Which configurations an arm of RL is run with."""

import io
from pathlib import Path
from typing import Any

import pytest

from stages.config import RlConfig, Runtime
from stages.rl.run import run
from stages.stage import StageLog
from tests.stages.conftest import arm_config

RL: dict[str, Any] = {"kind": "rl", "phases": ({"name": "p", "steps": 1, "mixture": {"math": 1.0}},)}
SFT: dict[str, Any] = {"kind": "sft", "name": "sft", "training": {}}


@pytest.mark.parametrize(
    "arms", [({**RL, "name": "a"}, {**RL, "name": "b"}), ({**RL, "name": "a"}, SFT), (SFT,), (SFT, {**RL, "name": "a"})]
)
def test_it_takes_exactly_one_arm_of_rl(arms: tuple[dict[str, Any], ...], tmp_path: Path) -> None:
    config: RlConfig = arm_config(arms=arms)
    with pytest.raises(ValueError, match=r"exactly one arm of kind 'rl'; got \[\("):
        run(config, inputs={}, runtime=Runtime(), out=tmp_path, log=StageLog(io.StringIO()))


def test_with_one_arm_it_looks_for_its_inputs(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="selection"):
        run(arm_config(), inputs={}, runtime=Runtime(), out=tmp_path, log=StageLog(io.StringIO()))
