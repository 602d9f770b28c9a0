"""Chunks that somebody answers, judged as soon as they are answered: what every sampler does the same.

Processes of this machine judge, or the workers of a Dask cluster (`runtime.dask_address`). No more chunks are answered than they keep
up with.
"""

import importlib.util
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from stages.config import Runtime
from stages.imports import heavy_imports
from stages.sampling.judging import judge_chunk
from stages.sampling.requests import Chunk
from stages.sampling.sampler import Done
from stages.sampling.workers import Pool, result_of

if TYPE_CHECKING:
    from stages.sampling.cluster import ClusterPool

_MOST_UNJUDGED = 2  # chunks per worker that wait for their verdicts
_LOOK_SECONDS = 5.0  # between two looks at the pool, while nothing is done
Answered = tuple[float, dict[str, int]]  # seconds that answering took, and what was counted meanwhile
Judged = tuple[float, dict[str, int]]  # seconds that judging took, and what was counted meanwhile
Answer = Callable[[Chunk], Future[Answered]]  # begins to write a chunk's answers


class JudgingPool(Protocol):
    """Who judges."""

    @property
    def places(self) -> int:
        """Chunks that it judges at a time."""

    def look(self) -> None:
        """See that somebody is there to judge. Raises ValueError where nobody is."""

    def begin(self, chunk: Chunk) -> Future[Any]:
        """Begin to judge a chunk that is answered."""

    def end(self, chunk: Chunk, future: Future[Any]) -> Judged:
        """Make sure that the file of a chunk is there, which `begin` gave this finished future for. Raises what judging raises."""


class LocalPool:
    """A `JudgingPool` of at most `runtime.workers` processes of this machine. They start at first need and die with this one."""

    def __init__(self, runtime: Runtime, *, requires_thinking: bool) -> None:
        self.places = runtime.workers
        self._pool = Pool(runtime, imports=judge_chunk.__module__, requires_thinking=requires_thinking)

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, trace)

    def look(self) -> None:
        """A process that dies says so by itself."""

    def begin(self, chunk: Chunk) -> Future[float]:
        """Hand the chunk to a process, which writes its file."""
        return self._pool.submit(judge_chunk, chunk)

    def end(self, chunk: Chunk, future: Future[float]) -> Judged:
        """See `JudgingPool.end`. Raises RuntimeError when a process died."""
        return result_of(future), {}


def judging_pool(runtime: Runtime, *, requires_thinking: bool) -> "LocalPool | ClusterPool":
    """The pool, a context, that `runtime` names: a cluster's, or this machine's. Raises ValueError where the cluster cannot be used."""
    if not runtime.dask_address:
        return LocalPool(runtime, requires_thinking=requires_thinking)
    if importlib.util.find_spec("distributed") is None:
        raise ValueError(
            "runtime.dask_address needs the extra `cluster`: pip install -e '.[cluster]' -c constraints.txt"
        )
    with heavy_imports():
        from stages.sampling.cluster import ClusterPool

    return ClusterPool(runtime, requires_thinking=requires_thinking)


class Judges:
    """Who answers and who judges, one beside the other; used as a context."""

    def __init__(self, runtime: Runtime, *, requires_thinking: bool = True) -> None:
        """`requires_thinking=False` judges responses without thinking tags as a whole (`data.domains.Judge`).

        Raises ValueError as `judging_pool`.
        """
        self._stack = ExitStack()
        self._pool: JudgingPool = self._stack.enter_context(judging_pool(runtime, requires_thinking=requires_thinking))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def judged(self, chunks: Sequence[Chunk], *, answer: Answer, most_answering: int) -> Iterator[Done]:
        """Answer and judge the chunks that are missing, in their order, at most `most_answering` answered at a time.

        Yields them as they are done. `answer` sees no answer, test or solution. Chunks that were answered are only judged.
        Raises what answering raises, RuntimeError when a process died, and ValueError when a cluster is lost.
        """
        missing = [chunk for chunk in chunks if not chunk.is_done]
        for chunk in missing:
            chunk.path.parent.mkdir(parents=True, exist_ok=True)
        waiting = deque(chunk for chunk in missing if not chunk.answers.exists())
        ready = deque(chunk for chunk in missing if chunk.answers.exists())
        answering: dict[Future[Answered], Chunk] = {}
        judging: dict[Future[Any], Chunk] = {}
        answered: dict[Path, Answered] = {}
        while waiting or answering or ready or judging:
            for _ in range(min(len(ready), self._most_unjudged() - len(judging))):
                chunk = ready.popleft()
                judging[self._pool.begin(chunk)] = chunk
            while waiting and len(answering) < most_answering and len(ready) + len(judging) < self._most_unjudged():
                chunk = waiting.popleft()
                answering[answer(chunk.without_answers())] = chunk
            finished, _ = wait({**answering, **judging}, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
            if not finished:
                self._pool.look()
            for future in finished & answering.keys():
                chunk = answering.pop(future)
                answered[chunk.path] = result_of(future)
                ready.append(chunk)
            for future in finished & judging.keys():
                chunk = judging.pop(future)
                yield _done(chunk, answered.pop(chunk.path, (0.0, {})), judged=self._pool.end(chunk, future))

    def _most_unjudged(self) -> int:
        """Chunks that wait for their verdicts, so that nobody who judges is idle."""
        return _MOST_UNJUDGED * max(1, self._pool.places)


def _done(chunk: Chunk, answered: Answered, *, judged: Judged) -> Done:
    seconds, counts = answered
    seconds_judged, counts_judged = judged
    return Done(chunk, {"generate": seconds, "judge": seconds_judged}, {**counts, **counts_judged})
