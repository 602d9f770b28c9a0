"""Worker processes of a stage: chunks of work go in, results come out as they finish.

Each process keeps a judge, and what its function wants to keep between chunks. It dies with the stage. A chunk must be a pure
function of its contents, so that results do not depend on the number of processes.
"""

import ctypes
import importlib
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
from multiprocessing.sharedctypes import Synchronized
from types import TracebackType
from typing import Any, Self, TypeVar

from data.domains import Judge
from stages.config import Runtime
from stages.imports import heavy_imports

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")
IN_FLIGHT = 4  # chunks handed out per process
WorkThrough = Callable[..., Iterator[tuple[int, Any]]]  # `work_through`, or what does the same on other machines


@dataclass(slots=True)
class Worker:
    """What a process keeps between chunks."""

    runtime: Runtime
    judge: Judge
    number: int = 0  # among the processes of its pool
    kept: dict[str, Any] = field(default_factory=dict)  # any: each function keeps what it needs, such as the last model

    @property
    def device(self) -> str:
        """Where its models live: the processes of a pool take the GPUs in turn."""
        if self.runtime.device != "cuda":
            return self.runtime.device
        import torch

        return gpu_in_turn(self.number, num_gpus=torch.cuda.device_count())


def gpu_in_turn(number: int, *, num_gpus: int) -> str:
    """The GPU of the process with this number; the first, where none is seen."""
    return f"cuda:{number % max(1, num_gpus)}"


class Pool:
    """At most `runtime.workers` processes, each started when there is work that no other is free for; used as a context.

    `imports` is the module whose functions they run; without `requires_thinking` their judges take responses without thinking tags
    as a whole.
    """

    def __init__(self, runtime: Runtime, *, imports: str = __name__, requires_thinking: bool = True) -> None:
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(
            runtime.workers,
            mp_context=context,
            initializer=_start,
            initargs=(runtime, os.getpid(), context.Value("i", 0), imports, requires_thinking),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=kind is None, cancel_futures=True)
        del self._executor  # with the semaphore that its processes shared

    def submit(self, function: Callable[[Worker, Chunk], Result], chunk: Chunk) -> Future[Result]:
        """Hand out a piece of work. `function` is a module's own, to be pickled."""
        future: Future[Any] = self._executor.submit(_call, function, chunk)
        return future


def work_through(
    function: Callable[[Worker, Chunk], Result], chunks: Iterable[Chunk], *, runtime: Runtime
) -> Iterator[tuple[int, Result]]:
    """Yield (position of the chunk, its result) in the order in which chunks finish. `function` is a module's own, to be pickled.

    Chunks are taken no faster than they are worked through, so a stream of them does not fill the memory.
    Raises RuntimeError when a process dies.
    """
    waiting = enumerate(chunks)
    futures: dict[Future[Any], int] = {}
    with Pool(runtime, imports=function.__module__) as pool:
        while True:
            for position, chunk in islice(waiting, IN_FLIGHT * runtime.workers - len(futures)):
                futures[pool.submit(function, chunk)] = position
            if not futures:
                return
            finished, _ = wait(futures, return_when=FIRST_COMPLETED)
            for future in finished:
                yield futures.pop(future), result_of(future)


def result_of(future: Future[Result]) -> Result:
    """What a finished piece of work gave. Raises RuntimeError when its process died, and what the function raised."""
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process died; if memory ran out, lower runtime.workers (where a model answers: sampling.max_rows) and run again"
        ) from error


# ---------------------------------------------------------------- inside a worker


@dataclass(slots=True)
class _Process:
    """The one mutable global of a worker process."""

    worker: Worker | None = None
    run: str = ""
    stack: ExitStack = field(default_factory=ExitStack)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, runtime: Runtime, *, run: str = "", number: int = 0, requires_thinking: bool = True) -> None:
        """Make a worker; what an earlier run kept is let go."""
        self.stack.close()
        self.worker, self.run = None, run
        unsafe = runtime.unsafe_local_execution
        judge = self.stack.enter_context(Judge(unsafe_local_execution=unsafe, requires_thinking=requires_thinking))
        self.worker = Worker(runtime, judge, number=number)


_process = _Process()


def _start(runtime: Runtime, parent: int, started: "Synchronized[int]", imports: str, requires_thinking: bool) -> None:
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != parent:  # the parent died before the line above
        os._exit(1)
    with heavy_imports():
        importlib.import_module(imports)
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    _process.open(runtime, number=number, requires_thinking=requires_thinking)
    multiprocessing.util.Finalize(None, _process.stack.close, exitpriority=100)


def _call(function: Callable[[Worker, Chunk], Result], chunk: Chunk) -> Result:
    assert _process.worker is not None
    return function(_process.worker, chunk)


@contextmanager
def borrowed_worker(runtime: Runtime, *, run: str, requires_thinking: bool = True) -> Generator[Worker]:
    """The worker of a process that serves one run after the other, such as one of a cluster; one thread at a time has it."""
    with _process.lock:
        if _process.worker is None or _process.run != run:
            _process.open(runtime, run=run, requires_thinking=requires_thinking)
        assert _process.worker is not None
        yield _process.worker
