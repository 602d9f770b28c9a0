"""A user's mistake is one message that says what, where and what to do; exit code 2, no traceback, nothing half-written."""

import importlib
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cyclopts import App

from flows.cli import COMMANDS
from flows.console import waiting
from stages.records.artifact import FORMAT

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "lap-top"], "did you mean 'laptop'"),
        (["run", "nowhere.toml"], "no recipe"),
        (["run", "smoke", "--set", "rl.sample_per_prompt=3"], "did you mean 'samples_per_prompt'"),
        (["run", "smoke", "--set", "rl.samples_per_prompt=1"], "greater than or equal to 2"),
        (["run", "smoke", "--set", "rl.arms.mixed.phases.0.steps=6"], "equal total token budgets"),
        (["run", "smoke", "--set", "seed"], "KEY=VALUE"),
        (["run", "smoke", "--until", "nothing"], "nothing"),
        (["run", "smoke", "--data-dir", "no/such/folder"], "no such folder"),
        (["run", "smoke", "--columns", "prompt"], "'prompt' is no pair"),
        (["run", "smoke", "--columns", "prompt=question"], "none was given"),
        (["new", "my.toml", "--from", "lap-top"], "did you mean 'laptop'"),
        (["run", "smoke", "--rerun", "rl", "--arm", "mixd"], "did you mean 'mixed'"),
        (["run", "smoke", "--arm", "mixed"], "--rerun rl"),
        (["run", "smoke", "--rerun", "evaluation", "--until", "rl"], "the chain ends with rl"),
        (["run", "curate-public", "--until", "rl"], "has no [rl]"),
        (["run", "smoke", "--set", "sft.training.learning_rate=inf"], "finite"),
        (["run", "smoke", "--set", "rl.samples_per_prompt=1"], "ring: --set: rl.samples_per_prompt"),
        (["lineage", "0123"], "ring ls"),
        (["rollouts", "0123", "--step", "1"], "no result begins with '0123'"),
        (["judge", "--domain", "math", "nofile.jsonl"], "nofile.jsonl: no such file or directory (looked for /"),
        (["show", "nope"], "no recipe 'nope'; known: "),
        (["show", "smoke", "rll"], "has no section 'rll'; did you mean 'rl'?"),
        (["model", "info", "nothing-here"], "an id of `ring ls`"),
        (["show", "smok"], "did you mean 'smoke'"),
    ],
)
def test_a_mistake_is_one_message_and_code_two(ring, arguments: list[str], expected: str) -> None:
    done = ring(*arguments, code=2)
    assert expected in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list(ring.home.glob("artifacts/*/*"))


def test_a_data_folder_without_parquet_is_refused(ring, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no *.parquet" in ring("run", "smoke", "--data-dir", str(tmp_path / "empty"), code=2).stderr


def test_a_data_folder_that_lacks_a_column_is_refused_by_name(ring, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "prompt": ["b"]}), tmp_path / "bad.parquet")
    done = ring("run", "smoke", "--until", "curation", "--data-dir", str(tmp_path), code=2)
    assert "bad.parquet" in done.stderr
    assert "answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(ring.home.glob("artifacts/*/*/manifest.json"))


def test_a_recipe_of_ones_own_with_files_of_ones_own_runs_from_any_folder(ring, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "quiz.csv").write_text("text,answer\nWhat is 6 times 7?,42\nWhat is 6 times 8?,\n")
    (tmp_path / "mine" / "quiz-only.toml").write_text(
        'from = "curate-public"\nwithout = ["curation.sources"]\n[[curation.sources]]\nkind = "files"\nname = "mine"\n'
        'folder = "quiz.csv"\ncolumns = { prompt = "text", split = "heldout" }\n'
    )
    done = ring.json("run", "mine/quiz-only.toml")
    metrics = done["stages"][0]["metrics"]
    assert done["recipe"] == "quiz-only"
    assert (metrics["curation/heldout_rows"], metrics["curation/dropped_by_cleansing"]) == (1, 1)


def test_an_artifact_of_a_newer_format_is_refused(ring) -> None:
    folder = ring.home / "artifacts" / "sft" / ("0" * 32)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"format": FORMAT + 1}), encoding="utf-8")
    assert "update" in ring("ls", code=2).stderr


def test_a_damaged_manifest_is_broken_and_stops_nothing(ring) -> None:
    folder = ring.home / "artifacts" / "sft" / ("0" * 32)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"format": 1', encoding="utf-8")
    assert json.loads(ring("verify", "--json", code=1).stdout)["problems"].keys() == {"0" * 32}
    assert "BROKEN sft" in ring("verify", "0000", code=1).stdout
    listed = ring("ls", "--json")
    assert json.loads(listed.stdout) == {"artifacts": []}
    assert "1 results are left out" in listed.stderr


def test_status_takes_the_same_changes_as_run(ring) -> None:
    plain, changed = (ring("status", "smoke", *more).stdout for more in ((), ("--set", "rl.seed=1")))
    assert plain.count("to be made") == changed.count("to be made") == 9
    assert plain != changed


def test_a_home_that_cannot_be_written_is_named(ring) -> None:
    ring.home.parent.mkdir(exist_ok=True)
    ring.home.write_text("a file where a folder should be", encoding="utf-8")
    done = ring("run", "smoke", code=2)
    assert str(ring.home) in done.stderr.replace("\n", "")
    assert "RING_HOME" in done.stderr


def test_a_port_in_use_is_named_before_anything_starts(ring) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = ring("up", "--prefect-port", str(port), code=2)
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--prefect-port" in done.stderr


def _can_mount() -> bool:
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="needs user namespaces to mount a small file system")
def test_a_full_disk_stops_the_chain_with_a_message_and_seals_nothing(ring) -> None:
    ring.home.mkdir(parents=True)
    script = f'mount -t tmpfs -o size=1500k none {ring.home} && exec "$@" ; '
    command = ["unshare", "-rm", "sh", "-c", script, "sh", *ring.command("run", "smoke")]
    done = subprocess.run(command, env=ring.environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "disk" in done.stderr or "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_show_says_where_each_value_comes_from(ring) -> None:
    shown = ring("show", "smoke", "--set", "seed=3", env={"COLUMNS": "220"}).stdout
    lines = {line.partition(" = ")[0]: line for line in shown.splitlines()}
    assert "--set" in lines["seed"] and "--set" in lines["sft.seed"]
    assert "paper 3.2" in lines["rl.objective.clip_low"]
    assert "smoke.toml:" in lines["rl.samples_per_prompt"]
    assert "class default" in lines["rl.objective.advantage_epsilon"]


@pytest.mark.parametrize("command", ["run", "show", "ls", "lineage", "verify", "status", "up"])
def test_every_command_explains_itself(ring, command: str) -> None:
    assert len(ring(command, "--help").stdout.split()) > 25


def test_version_is_the_packages(ring) -> None:
    assert "0.1.0" in ring("--version").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_imported_when_it_is_called_says_of_itself_what_the_list_says(name):
    place, text = COMMANDS[name]
    module, _, attribute = place.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    assert text == (found.help if isinstance(found, App) else found.__doc__.splitlines()[0])


def test_only_what_takes_long_is_announced(capsys):
    with waiting("reading"):
        pass
    with waiting("counting", after_seconds=0.01):
        time.sleep(0.2)
    assert capsys.readouterr().err == "counting ...\n"
