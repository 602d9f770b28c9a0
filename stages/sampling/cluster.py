"""Judging on the workers of a Dask cluster: verdicts are made on other machines than tokens and gradients.

What goes to a worker is a chunk's responses with their problems, what comes back its verdicts. A worker reads and writes no file of the
run, so it needs no folder, server or record of it: only this project, of the same version, and a sandbox where responses hold code.
Plain Dask, and no tasks of Prefect's as curation has: RL judges many small chunks, and a worker need not reach Prefect's server. Dask
speaks pickle: its ports belong on loopback (`LOOPBACK`), on a network of your own, or behind its TLS (`tls://`).
"""

import hashlib
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow.feather as feather
from distributed import Client, KilledWorker, Security, get_worker
from distributed.client import ClosedClientError

from data.domain_names import VARIABLE, own_domain_files
from data.domains import Verdict
from data.sandbox import SandboxError
from data.schema import Problem
from stages.config import Runtime
from stages.records.code_digest import code_digest, file_digest
from stages.sampling import judging
from stages.sampling.requests import Chunk
from stages.sampling.workers import borrowed_worker

CONNECT_SECONDS = 5
NO_WORKER_SECONDS = 60.0
LOOPBACK = "--host 127.0.0.1 --dashboard-address 127.0.0.1:0"  # the second is for the pages, which else listen on every interface
GO_ON = "start it and run again: what is done is kept"
JUDGED_AGAIN = "judged_again"  # among a chunk's counts: how often a worker that it was given to was lost
_CERTIFICATES = tuple(f"DASK_DISTRIBUTED__COMM__TLS__{name}" for name in ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY"))
_LOST = "remove-worker"  # as the scheduler tells it


# ---------------------------------------------------------------- on a worker of the cluster


@dataclass(frozen=True, slots=True)
class Asked:
    """A chunk as a worker sees it."""

    pairs: tuple[tuple[str, Problem], ...]
    runtime: Runtime
    requires_thinking: bool
    code: str  # digest of the code that judges, where the run is


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker says of it: the verdicts in the order of the pairs, and the seconds that they took."""

    verdicts: tuple[Verdict, ...]
    seconds: float


def judge(asked: Asked) -> Told:
    """Judge on this worker.

    Raises ValueError where it runs another version of the code, and SandboxError, with its name, where code cannot be run safely.
    """
    started = time.monotonic()
    name = f"judging, requires_thinking={asked.requires_thinking}, unsafe={asked.runtime.unsafe_local_execution}"
    with borrowed_worker(asked.runtime, run=name, requires_thinking=asked.requires_thinking) as borrowed:
        require_same_code(borrowed.kept, judging.__name__, asked.code)
        try:
            verdicts = borrowed.judge.verify(asked.pairs)
        except SandboxError as error:
            raise SandboxError(f"the Dask worker {get_worker().name} does not judge: {error}") from error
    return Told(tuple(verdicts), time.monotonic() - started)


def require_same_code(kept: dict[str, Any], module: str, code: str) -> None:
    """Other code would make other bytes under the same fingerprint. `kept` is what the worker keeps. Raises ValueError."""
    if "code" not in kept:
        kept["code"] = code_of(module)
    if kept["code"] != code:
        raise ValueError(
            f"a Dask worker runs version {kept['code'][:12]} of {module}, the chain {code[:12]}: "
            f"install the same version on every worker, with the same {VARIABLE}, and start them again"
        )


def code_of(module: str) -> str:
    """sha256 of a module with all that it reaches, and of the domains of one's own."""
    parts = [code_digest(module), *(f"{name} {file_digest(path)}" for name, path in sorted(own_domain_files().items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


# ---------------------------------------------------------------- where the run is


def connected(address: str) -> Client:
    """A client of the cluster. Raises ValueError where no scheduler answers, it has no worker, or `tls://` has no certificates."""
    if address.startswith("tls://"):
        _require_certificates(address)
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise ValueError(
            f"runtime.dask_address {address}: no Dask scheduler answered within {CONNECT_SECONDS} s ({error}); "
            f"start one with `dask scheduler {LOOPBACK}` (docs/pools.md), or leave runtime.dask_address out to work on this machine"
        ) from error
    if not client.nthreads():
        client.close()
        raise ValueError(
            f"runtime.dask_address {address}: the scheduler has no worker; start some with `dask worker {address} "
            f"--nthreads 1 {LOOPBACK}`, on another machine with its own address in place of 127.0.0.1"
        )
    return client


def _require_certificates(address: str) -> None:
    """Without them Dask ends with a TypeError, and leaves a client that cannot be closed."""
    try:
        is_set = Security().get_connection_args("client")["ssl_context"] is not None
        why = "there are none"
    except OSError as error:  # of a file that is not there, or holds none
        is_set, why = False, str(error)
    if not is_set:
        raise ValueError(
            f"runtime.dask_address {address}: TLS needs certificates ({why}); set {', '.join(_CERTIFICATES)} to files that the cluster's CA"
            " signed (or distributed.comm.tls in Dask's configuration), here as on the scheduler and the workers, or use tcp:// on loopback"
        )


class ClusterPool:
    """A `JudgingPool` of a cluster's workers; used as a context. A chunk whose worker is lost goes to another one, and is counted."""

    def __init__(self, runtime: Runtime, *, requires_thinking: bool) -> None:
        """Raises ValueError as `connected`."""
        self._runtime, self._requires_thinking = runtime, requires_thinking
        self._code = code_of(judging.__name__)
        self._client = connected(runtime.dask_address)
        self._client.subscribe_topic("all", self._hear)
        self._executor = self._client.get_executor(pure=False)
        self._keys: dict[Path, str] = {}  # of the chunks that are judged
        self._lost: Counter[str] = Counter()  # key -> workers that were lost with it
        self._lock = threading.Lock()
        self._deserted: float | None = None  # since when there has been no worker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ClosedClientError):  # where the cluster is lost
            self._executor.shutdown(wait=False)
        self._client.close()

    @property
    def places(self) -> int:
        """Threads of the workers that there are. Raises ValueError where the cluster is lost."""
        try:
            places = sum(self._client.nthreads().values())
        except (OSError, ClosedClientError) as error:
            raise _lost(error) from error
        if places:
            self._deserted = None
        return places

    def look(self) -> None:
        """Workers may come and go, but not stay away. Raises ValueError where there has been none for a minute."""
        if self.places:
            return
        self._deserted = self._deserted or time.monotonic()
        if time.monotonic() - self._deserted >= NO_WORKER_SECONDS:
            raise ValueError(f"the Dask cluster has had no worker for {NO_WORKER_SECONDS:g} s; {GO_ON}")

    def begin(self, chunk: Chunk) -> Future[Told]:
        """Hand a chunk's responses to a worker. Raises ValueError where the cluster is lost."""
        answers = feather.read_table(chunk.answers, memory_map=False)
        pairs = tuple(judging.to_judge(chunk, answers))
        key = self._keys[chunk.path] = f"judge-{uuid.uuid4().hex}"
        asked = Asked(pairs, self._runtime, self._requires_thinking, self._code)
        try:
            future: Future[Told] = self._executor.submit(judge, asked, key=key)
        except ClosedClientError as error:
            raise _lost(error) from error
        return future

    def end(self, chunk: Chunk, future: Future[Told]) -> tuple[float, dict[str, int]]:
        """Write the verdicts; returns the seconds that they took, and how often the chunk's worker was lost, if it was.

        Raises ValueError where the cluster is lost, RuntimeError where one worker after the other died of the chunk, and as `judge`.
        """
        try:
            told = future.result()
        except CancelledError as error:
            raise _lost(error) from error
        except KilledWorker as error:
            raise RuntimeError(f"{chunk.title}: the workers that judge {chunk.path.name} die: {error}") from error
        answers = feather.read_table(chunk.answers, memory_map=False)
        judging.write_verdicts(chunk, answers, told.verdicts)
        with self._lock:
            lost = self._lost.pop(self._keys.pop(chunk.path), 0)
        return told.seconds, {JUDGED_AGAIN: lost} if lost else {}

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """What the scheduler tells all: of a worker that goes, which chunks it had."""
        _, told = event
        if told.get("action") == _LOST:
            with self._lock:
                self._lost.update(set(told["processing-tasks"]) & set(self._keys.values()))


def _lost(error: BaseException) -> ValueError:
    return ValueError(f"the Dask cluster is lost ({str(error) or type(error).__name__}); {GO_ON}")
