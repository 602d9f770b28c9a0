"""`ring up` as a person uses it: both servers, deployments run from another terminal, limits, schedules, retries, a clean stop."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.flows.conftest import ROOT, Ring, assert_all_ended
from tests.flows.servers import asked, awaited, free_port, up

LONG = 'overrides=["base.training.epochs=80"]'  # so that the base is at work for a minute


def prefect(ring, api: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **ring.environment,
        "PREFECT_API_URL": api,
        "PREFECT_HOME": str(ring.home / "prefect"),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "prefect", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240)


def test_up_serves_both_runs_a_single_stage_deployment_and_stops_cleanly(ring) -> None:
    ports = free_port(), free_port()
    api = f"http://127.0.0.1:{ports[0]}/api"
    process = ring.start("up", "--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1]))
    try:
        assert process.stdout is not None
        greeting = [process.stdout.readline() for _ in range(2)]
        assert f"127.0.0.1:{ports[0]}" in greeting[0]
        assert f"127.0.0.1:{ports[1]}" in greeting[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/health", timeout=10) as answer:
            assert answer.status == 200
        listed = prefect(ring, api, "deployment", "ls").stdout
        for name in ("full-chain/laptop", "full-chain/smoke", "stage/laptop", "stage/smoke"):
            assert name in listed
        done = prefect(ring, api, "deployment", "run", "stage/smoke", "-p", "stage=curation", "--watch")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(list(ring.home.glob("artifacts/curation/*/manifest.json"))) == 1
        artifacts = prefect(ring, api, "artifact", "ls").stdout
        assert "smoke-curation" in artifacts
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert_all_ended(ring.home)
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


# ---------------------------------------------------------------- as docs/browsing.md says


def run_in(ring: Ring, api: str, *arguments: str) -> str:
    """Start a deployment; returns the id of its flow run."""
    done = prefect(ring, api, "deployment", "run", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.search(r"UUID: (\S+)", done.stdout).group(1)


def chain_at_work(home: Path) -> int | None:
    """Process of a flow whose stage has a process, too."""
    commands, parents = {}, {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"RING_HOME={home}".encode() in (folder / "environ").read_bytes():
                commands[folder.name] = (folder / "cmdline").read_text()
                parents[folder.name] = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
    works = [parents[pid] for pid, command in commands.items() if "stages.worker" in command]
    return next((int(pid) for pid in works if "prefect.engine" in commands.get(pid, "")), None)


def test_a_second_training_waits_for_its_place_and_a_killed_one_is_run_again_under_its_name(ring) -> None:
    with up(ring) as servers:
        api = servers.api
        state = lambda run: asked(api, f"flow_runs/{run}")  # noqa: E731
        assert prefect(ring, api, "work-pool", "set-concurrency-limit", "local", "1").returncode == 0
        first = run_in(ring, api, "full-chain/smoke", "-p", "until=base", "-p", LONG)
        engine = awaited(lambda: chain_at_work(ring.home))
        second = run_in(ring, api, "stage/smoke", "-p", "stage=curation")
        time.sleep(15)  # the worker asks every 10 s
        assert state(second)["start_time"] is None
        os.kill(engine, signal.SIGKILL)
        crashed = awaited(lambda: (run := state(first))["state_type"] == "CRASHED" and run)
        assert crashed["run_count"] == 1
        ended = awaited(lambda: (run := state(second))["state_type"] == "COMPLETED" and run)
        assert ended["start_time"] >= crashed["end_time"]
        assert prefect(ring, api, "flow-run", "retry", first).returncode == 0
        assert awaited(lambda: (run := state(first))["state_type"] == "COMPLETED" and run)["run_count"] == 2
    assert {path.parts[-3] for path in ring.home.glob("artifacts/*/*/manifest.json")} == {"curation", "base"}
    assert_all_ended(ring.home)


def test_a_schedule_plans_runs_and_stays_with_the_limit_when_both_servers_start_again(ring) -> None:
    arguments = ("deployment", "schedule", "create", "full-chain/smoke", "--cron", "0 2 * * *", "-y")
    with up(ring) as servers:
        api = servers.api
        assert prefect(ring, api, *arguments, "--timezone", "Europe/Berlin").returncode == 0
        assert prefect(ring, api, "work-pool", "set-concurrency-limit", "local", "1").returncode == 0
        planned = awaited(
            lambda: asked(api, "flow_runs/filter", flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}})
        )
        assert all(run["auto_scheduled"] and run["parameters"] == {"recipe": "smoke"} for run in planned)
    with up(ring) as servers:
        api = servers.api
        assert asked(api, "work_pools/local")["concurrency_limit"] == 1
        assert "0 2 * * *" in prefect(ring, api, "deployment", "schedule", "ls", "full-chain/smoke").stdout
        assert prefect(ring, api, "deployment", "schedule", "clear", "full-chain/smoke", "-y").returncode == 0
        assert "0 2 * * *" not in prefect(ring, api, "deployment", "schedule", "ls", "full-chain/smoke").stdout
    assert_all_ended(ring.home)
