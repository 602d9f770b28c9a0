"""Judging on a Dask cluster: a real scheduler and real workers, and the bytes that a process of this machine writes."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from data.sandbox import Sandbox, SandboxError
from data.schema import Problem
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime
from stages.sampling.judges import Judges
from stages.sampling.judging import to_judge
from stages.sampling.requests import UNFINISHED, Chunk, write_chunk
from stages.sampling.sampler import Done
from tests.flows.servers import free_port
from tests.stages.sampling.conftest import answers_of, chunk_of

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

import dask  # noqa: E402 - of the same extra

from stages.sampling import cluster as clusters  # noqa: E402 - imports distributed
from stages.sampling.cluster import JUDGED_AGAIN, Asked, ClusterPool, code_of, require_same_code  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
WAIT_SECONDS = 60.0
NUM_CHUNKS = 6
TESTS = json.dumps({"type": "call", "function": "double", "inputs": [[21]], "outputs": [42], "limits": {"time_s": 20}})
PROGRAM = "so </think>\n```python\ndef double(x):\n    {}\n    return {}\n```"
UNCONFINED = """
import sys
from data.sandbox import kernel, seccomp
tests = [operation for number in (272, 444) for operation in (seccomp._op(0x15, number, 0, 1), seccomp._op(0x06, 0x00050001))]
kernel.checked(kernel.libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
seccomp.restrict(b"".join([seccomp._op(0x20, 0), *tests, seccomp._op(0x06, 0x7FFF0000)]))
from dask.__main__ import main
main()
"""  # a Dask worker on a machine that refuses namespaces (unshare) and Landlock


def _start(command: Sequence[str], folder: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "0"}
    return subprocess.Popen(
        [sys.executable, *command, *clusters.LOOPBACK.split(), "--no-dashboard"],
        env=environment,
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def _cluster(
    folder: Path, *, program: Sequence[str] = ("-m", "dask"), num_workers: int = 2, protocol: str = "tcp"
) -> Iterator[str]:
    """Address of a scheduler with workers called one, two, ... that work in `folder`."""
    address = f"{protocol}://127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    processes = [_start(["-m", "dask", "scheduler", "--port", port, "--protocol", protocol], folder)]
    names = ("one", "two")[:num_workers]
    processes += [
        _start([*program, "worker", address, "--nthreads", "1", "--no-nanny", "--name", name], folder) for name in names
    ]
    try:
        with distributed.Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(num_workers, timeout=60)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _cluster(tmp_path_factory.mktemp("cluster")) as address:
        yield address


def _problems(number: int) -> list[Problem]:
    return [
        Problem(id=f"m{number}", domain="math", split="rl", prompt="compute 3 + 9", answer=str(number)),
        Problem(id=f"c{number}", domain="code", split="rl", prompt="double a number", tests=TESTS),
    ]


def _answered(folder: Path, model: Path, *, program: str = "pass") -> list[Chunk]:
    """Chunks of a right and a wrong response to each of two problems; of the last one a response goes on."""
    folder.mkdir()
    tokenizer, chunks = Tokenizer.from_folder(model), []
    for number in range(NUM_CHUNKS):
        chunk = chunk_of(folder, model, _problems(number), path=folder / f"{number}.arrow")
        right = [f"so </think> \\boxed{{{number}}}", f"</think> \\boxed{{{number + 1}}}"]
        answers = answers_of(
            chunk, [*right, PROGRAM.format(program, "2 * x"), PROGRAM.format(program, number)], tokenizer
        )
        if number == NUM_CHUNKS - 1:
            goes_on = pa.array([True, False, False, False])
            answers = answers.append_column(pa.field(UNFINISHED, pa.bool_()), goes_on)
        write_chunk(answers, chunk.answers)
        chunks.append(chunk)
    return chunks


def _judge(chunks: Sequence[Chunk], runtime: Runtime) -> list[Done]:
    with Judges(runtime) as judges:
        return list(judges.judged(chunks, answer=lambda _: Future(), most_answering=1))


def _bytes(chunks: Sequence[Chunk]) -> list[bytes]:
    return [chunk.path.read_bytes() for chunk in chunks]


@pytest.fixture(scope="module")
def confined() -> None:
    with Sandbox(rung="A") as sandbox:
        try:
            sandbox.start()
        except SandboxError as error:
            pytest.skip(str(error))


def test_two_workers_one_worker_and_a_process_of_this_machine_write_the_same_bytes(
    cluster: str, tiny_model: Path, tmp_path: Path
) -> None:
    here, both, alone = (_answered(tmp_path / name, tiny_model) for name in ("here", "both", "alone"))
    _judge(here, Runtime(workers=1))
    assert here[1].read()["status"].to_pylist() == ["correct", "wrong", "correct", "wrong"]
    assert here[-1].read()["status"].to_pylist() == [UNFINISHED, "wrong", "correct", "wrong"]

    done = _judge(both, Runtime(dask_address=cluster))
    assert _bytes(both) == _bytes(here)
    assert not any(chunk.answers.exists() for chunk in both)
    assert all(one.seconds["judge"] > 0 and JUDGED_AGAIN not in one.counts for one in done)

    with _cluster(tmp_path, num_workers=1) as address:
        _judge(alone, Runtime(dask_address=address))
    assert _bytes(alone) == _bytes(here)


def test_a_worker_that_is_killed_loses_no_chunk_and_what_it_had_is_counted(tiny_model: Path, tmp_path: Path) -> None:
    here, there = (_answered(tmp_path / name, tiny_model) for name in ("here", "there"))
    slow = _answered(tmp_path / "slow", tiny_model, program="import time; time.sleep(1)")
    _judge(here, Runtime(workers=1))
    done: list[Done] = []
    with _cluster(tmp_path) as address, distributed.Client(address, set_as_default=False) as client:
        chunks, runtime = [*slow, *there], Runtime(dask_address=address)
        thread = threading.Thread(target=lambda: done.extend(_judge(chunks, runtime)), daemon=True)
        thread.start()
        pids = client.run(os.getpid)
        until(lambda: all(client.processing().get(worker) for worker in pids))
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        thread.join(WAIT_SECONDS)
        assert len(client.nthreads()) == 1
    assert len(done) == 2 * NUM_CHUNKS
    assert _bytes(there) == _bytes(here)
    assert 1 <= sum(one.counts.get(JUDGED_AGAIN, 0) for one in done) <= 4  # of at most 2 x 2 that are handed out


def test_a_worker_without_isolation_refuses_by_its_name(confined: None, tiny_model: Path, tmp_path: Path) -> None:
    chunks = _answered(tmp_path / "chunks", tiny_model)
    with (
        _cluster(tmp_path, program=("-c", UNCONFINED), num_workers=1) as address,
        pytest.raises(SandboxError, match="Dask worker one does not judge: not running untrusted code"),
    ):
        _judge(chunks, Runtime(dask_address=address))
    assert all(chunk.answers.exists() and not chunk.is_done for chunk in chunks)


def test_a_worker_is_told_nothing_of_the_runs_files(tiny_model: Path, tmp_path: Path) -> None:
    chunk = _answered(tmp_path / "chunks", tiny_model)[0]
    import pyarrow.feather as feather

    pairs = tuple(to_judge(chunk, feather.read_table(chunk.answers)))
    message = pickle.dumps(Asked(pairs, Runtime(), requires_thinking=True, code="c"))
    assert str(tmp_path).encode() not in message and str(tiny_model).encode() not in message


def test_twice_as_many_chunks_are_handed_out_as_the_workers_have_threads(cluster: str) -> None:
    with Judges(Runtime(workers=7, dask_address=cluster)) as judges:
        assert judges._pool.places == 2 and judges._most_unjudged() == 4


def test_a_cluster_that_goes_away_ends_the_judging_and_loses_no_answer(tiny_model: Path, tmp_path: Path) -> None:
    chunks = _answered(tmp_path / "chunks", tiny_model, program="import time; time.sleep(1)")
    with _cluster(tmp_path) as address:
        runtime = Runtime(dask_address=address)
        with Judges(runtime) as judges:
            done = judges.judged(chunks, answer=lambda _: Future(), most_answering=1)
            next(done)
            with distributed.Client(address, set_as_default=False) as client:
                client.shutdown()
            with pytest.raises(ValueError, match=r"the Dask cluster is lost .* run again"):
                list(done)
    assert all(chunk.is_done != chunk.answers.exists() for chunk in chunks)
    with pytest.raises(ValueError, match="no Dask scheduler answered"):
        Judges(runtime)
    _judge(chunks, Runtime(workers=1))
    assert all(chunk.is_done for chunk in chunks)


def test_a_cluster_that_all_workers_have_left_ends_the_judging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "NO_WORKER_SECONDS", 0.5)
    cluster = distributed.LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0")
    with cluster, ClusterPool(Runtime(dask_address=cluster.scheduler_address), requires_thinking=True) as pool:
        pool.look()
        cluster.scale(0)
        until(lambda: not pool.places)
        pool.look()
        time.sleep(0.6)
        with pytest.raises(ValueError, match=r"no worker for 0\.5 s; start it and run again"):
            pool.look()


def test_tls_without_certificates_is_refused_by_what_to_set_and_leaves_no_client(tmp_path: Path) -> None:
    before = {*distributed.Client._instances}
    missing = {"distributed.comm.tls.ca-file": str(tmp_path / "ca.pem"), "distributed.comm.tls.client.cert": "cert.pem"}
    for settings, why in (({}, "there are none"), (missing, "No such file")):
        with (
            dask.config.set(settings),
            pytest.raises(
                ValueError, match=rf"TLS needs certificates \(.*{why}.*TLS__CA_FILE, .*CLIENT__CERT, .*CLIENT__KEY"
            ),
        ):
            Judges(Runtime(dask_address=f"tls://127.0.0.1:{free_port()}"))
    assert {*distributed.Client._instances} <= before


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make certificates")
def test_a_cluster_behind_tls_judges(monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=ring",
    ]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    settings = {"CA_FILE": certificate}
    for role in ("CLIENT", "SCHEDULER", "WORKER"):
        settings |= {f"{role}__CERT": certificate, f"{role}__KEY": key}
    for name, path in settings.items():
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{name}", str(path))
    dask.config.refresh()
    try:
        here, there = (_answered(tmp_path / name, tiny_model) for name in ("here", "there"))
        _judge(here, Runtime(workers=1))
        with _cluster(tmp_path, num_workers=1, protocol="tls") as address:
            _judge(there, Runtime(dask_address=address))
        assert _bytes(there) == _bytes(here)
    finally:
        monkeypatch.undo()
        dask.config.refresh()


def test_a_worker_that_was_there_between_two_looks_begins_the_minute_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "NO_WORKER_SECONDS", 3600.0)
    cluster = distributed.LocalCluster(n_workers=0, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0")
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        cluster.scale(1)
        client.wait_for_workers(1, timeout=WAIT_SECONDS)
        with ClusterPool(Runtime(dask_address=cluster.scheduler_address), requires_thinking=True) as pool:
            cluster.scale(0)
            until(lambda: not pool.places)
            pool.look()
            cluster.scale(1)
            until(lambda: pool.places)
            cluster.scale(0)
            until(lambda: not pool.places)
            monkeypatch.setattr(clusters, "NO_WORKER_SECONDS", 0.5)
            time.sleep(0.6)
            pool.look()
            time.sleep(0.6)
            with pytest.raises(ValueError, match="no worker for"):
                pool.look()


@pytest.mark.parametrize("page", ["pools.md", "curation.md"])
def test_the_documented_clusters_listen_on_loopback_alone(page: str, tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    lines = [line for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("dask ")]
    commands = [line.replace("8786", address.rpartition(":")[2]).split()[1:] for line in lines]
    processes = [
        subprocess.Popen([sys.executable, "-m", "dask", *command], cwd=tmp_path, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    try:
        with distributed.Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            pids = {*client.run(os.getpid).values()} | {process.pid for process in processes}
        ports = {pid: _listening(pid) for pid in pids}
        assert {host for found in ports.values() for host, _ in found} == {"127.0.0.1"}
        assert min(map(len, ports.values())) >= 1 and sum(map(len, ports.values())) >= 2 * 3  # messages and a page each
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def _listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports at which a process waits for connections."""
    connections = psutil.Process(pid).net_connections(kind="inet")
    return {(one.laddr.ip, one.laddr.port) for one in connections if one.status == psutil.CONN_LISTEN}


def test_a_worker_with_other_code_is_refused() -> None:
    kept: dict[str, Any] = {}
    require_same_code(kept, "stages.seeds", code_of("stages.seeds"))
    with pytest.raises(ValueError, match="install the same version on every worker"):
        require_same_code(kept, "stages.seeds", "b" * 64)


def test_other_domains_of_ones_own_are_other_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = set()
    for text in (None, "ONE = 1\n", "ONE = 2\n"):
        if text is not None:
            (tmp_path / "riddles.py").write_text(text)
            monkeypatch.setenv("RING_DOMAINS", str(tmp_path / "riddles.py"))
        found.add(code_of("stages.seeds"))
    assert len(found) == 3


def until(happened: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)
