"""Worker processes of a stage: chunks of work go in, results come out as they finish.

Each process keeps a judge, and what its function wants to keep between chunks. It dies with the stage. A chunk must be a pure
function of its contents, so that results do not depend on the number of processes.
"""

import ctypes
import multiprocessing
import multiprocessing.util
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from data.domains import Judge
from stages.config import Runtime

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")
_IN_FLIGHT = 4  # chunks handed out per process
WorkThrough = Callable[..., Iterator[tuple[int, Any]]]  # `work_through`, or what does the same on other machines


@dataclass(slots=True)
class Worker:
    """What a process keeps between chunks."""

    runtime: Runtime
    judge: Judge
    kept: dict[str, Any] = field(default_factory=dict)  # any: each function keeps what it needs, such as the last model


def work_through(
    function: Callable[[Worker, Chunk], Result], chunks: Iterable[Chunk], *, runtime: Runtime
) -> Iterator[tuple[int, Result]]:
    """Yield (position of the chunk, its result) in the order in which chunks finish. `function` is a module's own, to be pickled.

    Chunks are taken no faster than they are worked through, so a stream of them does not fill the memory.
    Raises RuntimeError when a process dies.
    """
    waiting = enumerate(chunks)
    futures: dict[Future[Any], int] = {}
    with _pool(runtime.workers, runtime) as pool:
        try:
            while True:
                for position, chunk in islice(waiting, _IN_FLIGHT * runtime.workers - len(futures)):
                    futures[pool.submit(_call, function, chunk)] = position
                if not futures:
                    return
                finished, _ = wait(futures, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield futures.pop(future), _result(future)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _pool(num_workers: int, runtime: Runtime) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start, initargs=(runtime, os.getpid()))


def _result(future: Future[Any]) -> Any:  # noqa: ANN401 - what the function returns
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process died; if memory ran out, lower runtime.workers (where a model answers: runtime.max_rows) and run again"
        ) from error


# ---------------------------------------------------------------- inside a worker


@dataclass(slots=True)
class _Process:
    """The one mutable global of a worker process."""

    worker: Worker | None = None
    run: str = ""
    stack: ExitStack = field(default_factory=ExitStack)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, runtime: Runtime, *, run: str = "") -> None:
        """Make a worker; what an earlier run kept is let go."""
        self.stack.close()
        self.worker, self.run = None, run
        judge = self.stack.enter_context(Judge(unsafe_local_execution=runtime.unsafe_local_execution))
        self.worker = Worker(runtime, judge)


_process = _Process()


def _start(runtime: Runtime, parent: int) -> None:
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != parent:  # the parent died before the line above
        os._exit(1)
    _process.open(runtime)
    multiprocessing.util.Finalize(None, _process.stack.close, exitpriority=100)


def _call(function: Callable[[Worker, Chunk], Result], chunk: Chunk) -> Result:
    assert _process.worker is not None
    return function(_process.worker, chunk)


@contextmanager
def borrowed_worker(runtime: Runtime, *, run: str) -> Generator[Worker]:
    """The worker of a process that serves one run after the other, such as one of a cluster; one thread at a time has it."""
    with _process.lock:
        if _process.worker is None or _process.run != run:
            _process.open(runtime, run=run)
        assert _process.worker is not None
        yield _process.worker
