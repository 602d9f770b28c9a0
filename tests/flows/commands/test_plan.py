"""`ring plan`: the tables fit 80 columns, and docs/scale.md shows what the command really prints."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^```\n\$ ring (plan [^\n]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def ring(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def test_the_page_shows_the_papers_cluster_eight_gpus_and_one_card() -> None:
    commands = [command for command, _ in SHOWN]
    for needed in (
        "plan ring-lite --gpus 256 --gpu H800",
        "plan ring-lite --gpus 8 --gpu H100",
        "--gpus 1 --gpu RTX4090",
    ):
        assert any(needed in command for command in commands)


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_documented_plan_is_what_the_command_prints(command: str, output: str) -> None:
    done = ring(*command.split())
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout) == lines(output)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json_holds_every_part_and_what_was_assumed() -> None:
    document = json.loads(ring("plan", "ring-lite", "--gpus", "256", "--gpu", "H800", "--price", "2", "--json").stdout)
    assert (document["recipe"], document["gpus"], document["precision"]) == ("ring-lite", 256, "bfloat16")
    assert round(document["model"]["parameters"] / 1e9, 1) == 16.8
    rl = document["memory"]["RL"]
    assert [len(rl["stages"]), rl["fits"]] == [4, False]
    stages = {stage["stage"]: stage for stage in document["stages"]}
    assert stages["rl phased"]["sampled_tokens"] == 400 * 104_857_600
    assert document["cost"] == pytest.approx(2 * document["gpu_hours"])
    assert {"name": "prompt tokens, mean", "value": 200, "why": "--prompt-tokens, ours"} in document["assumptions"]


def test_settings_that_are_advised_are_taken_by_the_command_and_then_it_fits() -> None:
    asked = ["plan", "ring-lite", "--gpus", "256", "--gpu", "H800"]
    change = json.loads(ring(*asked, "--json").stdout)["memory"]["RL"]["change"]
    stage = change.pop("runtime.zero_stage")
    options = [
        word
        for key, value in change.items()
        for word in ([key, str(value)] if key.startswith("--") else ["--set", f"{key}={value}"])
    ]
    again = json.loads(ring(*asked, "--zero-stage", str(stage), *options, "--json").stdout)
    assert [fit["fits"] for fit in again["memory"].values()] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "8", "--gpu", "H101"], "--gpu H101: did you mean H100? known are H800"),
        (["--gpus", "0", "--gpu", "H100"], "--gpus = 0 must be at least 1"),
        (["--gpus", "1", "--gpu", "H100", "--price", "-1"], "--price = -1 must be at least 0"),
        (["--gpus", "1", "--gpu", "H100", "--zero-stage", "5"], "--zero-stage = 5 must be 0 to 3"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    done = ring("plan", "ring-lite", *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())


def test_another_gpu_is_given_by_its_figures() -> None:
    figures = ["--gpu-memory", "192", "--gpu-tflops", "2250", "--gpu-bandwidth", "8000"]
    document = json.loads(ring("plan", "ring-lite", "--gpus", "8", "--gpu", "B200", *figures, "--json").stdout)
    assert document["gpu"] == {"name": "B200", "bytes": 192e9, "flops": 2250e12, "bandwidth": 8000e9}


def test_a_plan_is_made_without_torch() -> None:
    code = "import sys; import flows.commands.plan; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
