"""Ranks on one host and on several: started, named when they die or hang, and ended together."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from stages.config import Runtime
from stages.ranks import BEATS, Host, Place, hosts_of
from tests.stages.conftest import arm_config, arm_job, ended, run_arm, start_arm

SLOW = arm_config(prompts_per_step=8, samples_per_prompt=8)


# ---------------------------------------------------------------- which hosts


def test_without_a_file_all_ranks_are_here() -> None:
    (host,) = hosts_of(Runtime(), ranks=4)
    assert host.slots == 4


def test_a_file_names_hosts_and_their_ranks(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# two machines\nnode-1 slots=8\n\nnode-2 slots=4  # half of it\n")
    assert hosts_of(Runtime(hosts=str(path)), ranks=12) == [Host("node-1", 8), Host("node-2", 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node-1", r"hosts:1: 'node-1' must be a host and its ranks"),
        ("-oProxyCommand=x slots=4", "must be a host and its ranks"),
        ("\nnode-1 slots=0", r"hosts:2: 'node-1 slots=0' must be"),
        ("# nobody", "names no host"),
        ("node-1 slots=3", "has 3 slots, and the stage 4 ranks: make them equal"),
    ],
)
def test_a_file_that_does_not_fit_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        hosts_of(Runtime(hosts=str(path)), ranks=4)


def test_a_file_that_is_missing_is_told() -> None:
    with pytest.raises(ValueError, match=r"runtime\.hosts = 'nowhere' is no file"):
        hosts_of(Runtime(hosts="nowhere"), ranks=2)


def test_slurms_nodes_share_the_ranks_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    assert [host.slots for host in hosts_of(Runtime(), ranks=16)] == [8, 8]
    with pytest.raises(ValueError, match="5 ranks cannot be shared evenly by SLURM's 2 nodes"):
        hosts_of(Runtime(), ranks=5)


def test_a_place_is_what_was_written_of_it() -> None:
    place = Place(1, (2, 3, 4), "node-1:2900")
    assert Place.parse(str(place)) == place
    assert place.first_rank == 2


# ---------------------------------------------------------------- ranks that die or hang


def pid_of(out: Path, rank: int) -> int:
    """The process of a rank, as soon as it has joined the others."""
    path = out / ".state" / BEATS / f"rank-{rank:05d}.json"
    for _ in range(1200):
        if path.exists() and (beat := json.loads(path.read_text()))["doing"] != "starting":
            return beat["pid"]
        time.sleep(0.05)
    raise AssertionError(f"rank {rank} never joined")


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blow", "told"),
    [
        (signal.SIGKILL, "rank 1 (on {host}) was killed by SIGKILL"),
        (signal.SIGSTOP, "rank 1 (on {host}) stood still for"),
    ],
)
def test_a_rank_that_dies_or_stands_still_is_named_and_ends_the_others(arm_inputs, tmp_path, blow, told) -> None:
    out = tmp_path / "arm"
    process = start_arm(arm_job(SLOW, arm_inputs, out, ranks=2, rank_seconds=20.0))
    first, second = pid_of(out, 0), pid_of(out, 1)
    os.kill(second, blow)
    struck = time.monotonic()
    _, errors = process.communicate(timeout=120)
    took = time.monotonic() - struck
    found = ended(process.returncode, out, errors)
    reasons = [event["text"] for event in found.events if event["event"] == "failure"]
    assert found.code == 1
    assert reasons[0].startswith(told.format(host=os.uname().nodename)), reasons
    assert took < 60
    assert not lives(first) and not lives(second)


# ---------------------------------------------------------------- several hosts


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    """In place of ssh: runs the command of any host here, in a session of its own, and notes the host."""
    path = tmp_path / "shell"
    path.write_text(
        f'#!/bin/sh\necho "$1" >> {tmp_path}/asked\necho "$2" >> {tmp_path}/lines\nexec setsid sh -c "$2"\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_two_hosts_end_with_the_bytes_of_one_and_no_command_line_holds_a_key(
    arm_inputs, tmp_path: Path, shell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RING_API_KEY", "a-secret")
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=1\n127.0.0.1 slots=1\n")
    apart = run_arm(arm_config(), arm_inputs, tmp_path / "apart", ranks=2, hosts=str(hosts), remote_shell=str(shell))
    assert apart.code == 0, apart.errors
    assert sorted((tmp_path / "asked").read_text().split()) == ["127.0.0.1", "localhost"]
    assert "a-secret" not in (tmp_path / "lines").read_text()
    together = run_arm(arm_config(), arm_inputs, tmp_path / "together", ranks=2)
    assert together.code == 0, together.errors
    name = "model/model.safetensors"
    assert (apart.out / name).read_bytes() == (together.out / name).read_bytes()


@pytest.mark.slow
def test_a_host_that_dies_ends_the_other(arm_inputs, tmp_path: Path, shell: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=1\n127.0.0.1 slots=1\n")
    out = tmp_path / "arm"
    process = start_arm(arm_job(SLOW, arm_inputs, out, ranks=2, hosts=str(hosts), remote_shell=str(shell)))
    first, second = pid_of(out, 0), pid_of(out, 1)
    os.killpg(os.getpgid(second), signal.SIGKILL)  # the launcher there, and its rank
    process.communicate(timeout=120)
    assert process.returncode == 1
    for _ in range(100):
        if not lives(first):
            break
        time.sleep(0.1)
    assert not lives(first)
