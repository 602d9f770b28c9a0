"""Curation on a Dask cluster: a real scheduler, two real workers, and the bytes that one machine makes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from data.schema import Problem, table_from_problems, write_table
from flows import shards
from flows.shards import _next
from tests.flows.conftest import ROOT, Ring, by_key, content
from tests.flows.servers import free_port

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

from stages.sampling.cluster import LOOPBACK  # noqa: E402 - imports distributed

RECIPE = """
name = "sharded"
until = "curation"
[curation]
[[curation.sources]]
kind = "parquet"
folder = "data-dir"
"""
ROWS = 4000  # four batches
THINGS = ("apples", "stamps", "marbles", "coins", "books")


def _problem(number: int) -> Problem:
    one, other = number % 97, number // 3  # a third of the answers wrong in the solution
    thing = THINGS[number % len(THINGS)]
    solution = rf"{one} + {other} = \boxed{{{one + other + (number % 3 == 0)}}}"
    prompt = f"Row {number // 2}: a child has {one} {thing} and is given {other} more of them. How many are there now?"
    return Problem(
        id=f"p/{number}", domain="math", split="sft", source="made", licence="CC0-1.0",
        prompt=prompt, answer=str(one + other), solution=solution,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sharded") / "rows"
    folder.mkdir()
    write_table(table_from_problems(map(_problem, range(ROWS))), folder / "made.parquet")
    (folder.parent / "sharded.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory, folder) -> tuple[Ring, dict[str, Any]]:
    """A home in which one process has made the curation, and what it made; the tests make it again."""
    ring = Ring(tmp_path_factory.mktemp("alone") / "home")
    document = ring.json(*_arguments(folder, "--set", "runtime.workers=1"))
    assert document["stages"][0]["status"] == "ran"
    return ring, document


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Address of a scheduler with two workers; they work in a folder that is not the project's."""
    address = f"tcp://127.0.0.1:{free_port()}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"env": environment, "cwd": tmp_path_factory.mktemp("cluster"), "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    port = address.rpartition(":")[2]
    loopback = ["--no-dashboard", *LOOPBACK.split()]
    processes = [
        subprocess.Popen([*dask, "scheduler", "--port", port, *loopback], **options),
        subprocess.Popen(
            [*dask, "worker", address, "--nworkers", "2", "--nthreads", "1", *loopback],
            **options,
        ),
    ]
    try:
        with distributed.Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def _arguments(folder: Path, *more: str) -> tuple[str, ...]:
    return ("run", str(folder.parent / "sharded.toml"), "--data-dir", str(folder), *more)


def _served() -> tuple[int, str]:
    """Process and the run that it has worked for; executed by a Dask worker."""
    from stages.sampling.workers import _process

    return os.getpid(), _process.run


def _made(document) -> str:
    return content(by_key(document)["curation"])


def _again(folder: Path, cluster: str) -> tuple[str, ...]:
    return _arguments(folder, "--set", f'runtime.dask_address="{cluster}"', "--rerun", "curation", "--json")


def test_two_dask_workers_and_one_process_make_the_same_bytes(alone, cluster, folder) -> None:
    ring, document = alone
    made = _made(document)
    spread = json.loads(ring(*_again(folder, cluster)).stdout)
    with distributed.Client(cluster, set_as_default=False) as client:
        served = client.run(_served)
    assert len({run for _, run in served.values()}) == 1 and all(run for _, run in served.values())
    assert spread["stages"][0]["status"] == "ran"
    assert _made(spread) == made
    assert spread["stages"][0]["metrics"] == document["stages"][0]["metrics"]
    assert 0 < spread["stages"][0]["metrics"]["curation/rows_kept"] < ROWS


def test_a_dask_worker_that_is_killed_changes_nothing(alone, cluster, folder) -> None:
    ring, document = alone
    made = _made(document)
    run = ring.start(*_again(folder, cluster))
    deadline = time.monotonic() + 240
    while not list(ring.home.glob("artifacts/curation/*/.state/curation/sketches/*.parquet")):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    with distributed.Client(cluster, set_as_default=False) as client:
        os.kill(next(iter(client.run(_served).values()))[0], signal.SIGKILL)
    out, error = run.communicate(timeout=120)
    assert run.returncode == 0, error
    assert _made(json.loads(out)) == made


def test_a_scheduler_that_does_not_answer_is_named(ring, folder) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    done = ring(*_arguments(folder, "--set", f'runtime.dask_address="{address}"'), code=2)
    assert address in done.stderr and "no Dask scheduler answered" in done.stderr and "Traceback" not in done.stderr


def test_an_address_without_a_port_is_refused_before_anything_runs(ring, folder) -> None:
    done = ring(*_arguments(folder, "--set", 'runtime.dask_address="somewhere"'), code=2)
    assert "runtime.dask_address" in done.stderr


def test_a_cluster_that_all_workers_have_left_stops_the_chain(monkeypatch) -> None:
    monkeypatch.setattr(shards, "NO_WORKER_SECONDS", 2)
    monkeypatch.setattr(shards, "_LOOK_SECONDS", 1)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as empty,
        distributed.Client(empty, set_as_default=False) as client,
        pytest.raises(ValueError, match="no worker for 2 s; start it and run again"),
    ):
        _next(SimpleQueue(), client)
