"""Chunks that somebody answers, judged by processes of this machine as soon as they are answered: what every sampler does the same.

No more chunks are answered than the judges keep up with.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from stages.config import Runtime
from stages.sampling.judging import judge_chunk
from stages.sampling.requests import Chunk
from stages.sampling.sampler import Done
from stages.sampling.workers import Pool, result_of

_MOST_UNJUDGED = 2  # chunks per worker that wait for their verdicts
Answered = tuple[float, dict[str, int]]  # seconds that answering took, and what was counted meanwhile
Answer = Callable[[Chunk], Future[Answered]]  # begins to write a chunk's answers


class Judges:
    """At most `runtime.workers` processes that judge; used as a context. They start at first need and die with this one."""

    def __init__(self, runtime: Runtime, *, requires_thinking: bool = True) -> None:
        """`requires_thinking=False` judges responses without thinking tags as a whole (`data.domains.Judge`)."""
        self._workers = runtime.workers
        self._stack = ExitStack()
        pool = Pool(runtime, imports=judge_chunk.__module__, requires_thinking=requires_thinking)
        self._pool = self._stack.enter_context(pool)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def judged(self, chunks: Sequence[Chunk], *, answer: Answer, most_answering: int) -> Iterator[Done]:
        """Answer and judge the chunks that are missing, in their order, at most `most_answering` answered at a time.

        Yields them as they are done. `answer` sees no answer, test or solution. Chunks that were answered are only judged.
        Raises what answering raises, and RuntimeError when a process died.
        """
        missing = [chunk for chunk in chunks if not chunk.is_done]
        for chunk in missing:
            chunk.path.parent.mkdir(parents=True, exist_ok=True)
        waiting = deque(chunk for chunk in missing if not chunk.answers.exists())
        judging = {self._judge(chunk): chunk for chunk in missing if chunk.answers.exists()}
        answering: dict[Future[Answered], Chunk] = {}
        answered: dict[Path, Answered] = {}
        while waiting or answering or judging:
            while waiting and len(answering) < most_answering and self._keep_up_with(len(judging)):
                chunk = waiting.popleft()
                answering[answer(chunk.without_answers())] = chunk
            finished, _ = wait({**answering, **judging}, return_when=FIRST_COMPLETED)
            for future in finished & answering.keys():
                chunk = answering.pop(future)
                answered[chunk.path] = result_of(future)
                judging[self._judge(chunk)] = chunk
            for future in finished & judging.keys():
                chunk = judging.pop(future)
                yield _done(chunk, answered.pop(chunk.path, (0.0, {})), judged=result_of(future))

    def _judge(self, chunk: Chunk) -> Future[float]:
        return self._pool.submit(judge_chunk, chunk)

    def _keep_up_with(self, num_judging: int) -> bool:
        return num_judging < _MOST_UNJUDGED * self._workers


def _done(chunk: Chunk, answered: Answered, *, judged: float) -> Done:
    seconds, counts = answered
    return Done(chunk, {"generate": seconds, "judge": judged}, counts)
