"""`ring up` as a person uses it: both servers, a deployment run from another terminal, a clean stop."""

import signal
import socket
import subprocess
import sys
import urllib.request

from tests.flows.conftest import ROOT, assert_all_ended


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
