"""A tracking server that somebody else runs keeps the records and the files, and a deleted experiment comes back."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.flows.conftest import Ring
from tests.flows.servers import free_port

START_SECONDS = 180.0


def wait_until_it_answers(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"{address} did not answer within {START_SECONDS} s")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """Address of a real MLflow server on loopback, and its folder."""
    folder = tmp_path_factory.mktemp("server")
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/records.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    variables = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log)
    try:
        wait_until_it_answers(address, process)
        yield address, folder
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_chain_is_recorded_on_a_server_and_a_deleted_experiment_is_restored(server, tmp_path) -> None:
    address, folder = server
    ring, variables = Ring(tmp_path / "home"), {"MLFLOW_TRACKING_URI": address}
    ring("run", "smoke", "--until", "curation", env=variables)
    client = MlflowClient(tracking_uri=address)
    (experiment,) = [one for one in client.search_experiments() if one.name == "ring/smoke"]
    runs = {run.info.run_name.split()[0]: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {"smoke", "curation"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {one.dataset.name for one in runs["smoke"].inputs.dataset_inputs} >= {"curation/sft", "curation/heldout"}
    assert runs["curation"].data.params["curation.seed"] == "0"
    assert client.download_artifacts(runs["curation"].info.run_id, "funnel.json", str(tmp_path))
    assert [*(folder / "files").rglob("funnel.json")]
    assert not (ring.home / "mlflow.db").exists() and not (ring.home / "mlruns").exists()
    client.delete_experiment(experiment.experiment_id)
    again = ring("run", "smoke", "--until", "curation", env=variables)
    assert "had been deleted in MLflow and is restored" in again.stderr
    assert client.get_experiment(experiment.experiment_id).lifecycle_stage == "active"
    assert len(client.search_runs([experiment.experiment_id])) == 3
    found = ring("verify", "--json", env=variables)
    assert '"problems": {}' in found.stdout
