"""A sampler that asks a server, one request a response, many at a time.

In: chunks. Out: their files, as of every sampler, without what a server does not tell: no token ids and log-probabilities, an entropy of
nan, and a length (`num_tokens`) where it counts one, else null. Each response is in the chunk's journal (`stages.sampling.journal`)
before it counts, so nothing is lost with a run or asked twice, and an answer that comes after its request was given up finds nobody.
"""

import asyncio
import hashlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

import pyarrow as pa

from stages.config import Runtime
from stages.sampling.address import Address
from stages.sampling.client import Client, Question
from stages.sampling.completions import Reply, request_body
from stages.sampling.journal import Line, append_line, journal_path, read_replies
from stages.sampling.judges import Answered, Judges
from stages.sampling.judging import ANSWER_SCHEMA
from stages.sampling.pacing import Limits
from stages.sampling.requests import Chunk, write_chunk
from stages.sampling.sampler import Done

Result = TypeVar("Result")


class ServerSampler:
    """A `Sampler` that asks the model of an address; used as a context."""

    def __init__(self, address: str, runtime: Runtime, *, limits: Limits | None = None) -> None:
        """Raises ValueError for an address or a key that cannot be one; nothing is asked yet."""
        self._address, self._limits = Address.parse(address), limits or Limits()
        self._client = Client(self._address, self._limits)
        self._stack = ExitStack()
        self._judges = self._stack.enter_context(Judges(runtime, requires_thinking=False))
        self._requests = self._stack.enter_context(_Background())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requests.cancel()
        self._requests.start(self._client.close()).result()
        self._stack.__exit__(kind, error, trace)

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        """See `Sampler.sample`; `chunk.policy` says nothing here. Raises what `Client.ask` does, and ValueError for a damaged journal.

        Of a chunk the counts are the responses that were kept, the requests for others, and the tokens that the server counts.
        """
        for chunk in chunks:
            assert not (chunk.begun or chunk.most_more or chunk.reference or chunk.max_total_tokens)  # RL's
            if chunk.is_done or chunk.answers.exists():
                journal_path(chunk).unlink(missing_ok=True)  # a kill came before it went
        return self._judges.judged(chunks, answer=self._begin, most_answering=self._limits.concurrency)

    def _begin(self, chunk: Chunk) -> Future[Answered]:
        return self._requests.start(self._answer(chunk))

    async def _answer(self, chunk: Chunk) -> Answered:
        """Write the chunk's answers; the journal goes then. The seconds pass while other chunks are asked, too."""
        started = time.monotonic()
        path, questions = journal_path(chunk), _questions(chunk, self._address)
        replies = read_replies(path, [question.digest for question in questions])
        counts = Counter(kept=len(replies), requests=0)

        async def ask(question: Question) -> None:
            reply = await self._client.ask(question, counts)
            append_line(path, _line(question, reply))
            replies[question.digest] = reply

        try:
            async with asyncio.TaskGroup() as group:
                for question in questions:
                    if question.digest not in replies:
                        group.create_task(ask(question))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        rows = [replies[question.digest] for question in questions]
        write_chunk(_answers(chunk, rows), chunk.answers)
        path.unlink(missing_ok=True)
        return time.monotonic() - started, {**counts, "tokens": sum(reply.num_tokens or 0 for reply in rows)}


def _questions(chunk: Chunk, address: Address) -> list[Question]:
    numbers = [*chunk.samples] * len(chunk.problems)
    found = []
    for problem, sample, seed in zip(chunk.asked, numbers, chunk.seeds, strict=True):
        body = request_body(address.model, problem, seed=seed, sampling=chunk.sampling, greedy=chunk.is_greedy)
        whole = json.dumps([address.base, problem.id, sample, body], sort_keys=True)
        found.append(Question(problem.id, sample, seed, body, hashlib.sha256(whole.encode()).hexdigest()))
    return found


def _line(question: Question, reply: Reply) -> Line:
    return Line(
        problem_id=question.problem_id,
        sample=question.sample,
        question=question.digest,
        response=reply.response,
        truncated=reply.truncated,
        num_tokens=reply.num_tokens,
    )


def _answers(chunk: Chunk, replies: Sequence[Reply]) -> pa.Table:
    nothing: list[list[float]] = [[] for _ in replies]
    columns = {
        "problem_id": [problem.id for problem in chunk.asked],
        "domain": [problem.domain for problem in chunk.asked],
        "sample": [*chunk.samples] * len(chunk.problems),
        "prompt_ids": nothing,
        "response": [reply.response for reply in replies],
        "token_ids": nothing,
        "logprobs": nothing,
        "seed": chunk.seeds,
        "entropy": [math.nan] * len(replies),
        "num_tokens": [reply.num_tokens for reply in replies],
        "truncated": [reply.truncated for reply in replies],
    }
    return pa.table({name: columns[name] for name in ANSWER_SCHEMA.names}, schema=ANSWER_SCHEMA)


class _Background:
    """A thread in which requests wait for their responses; used as a context."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="requests", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Begin a piece of work."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def cancel(self) -> None:
        """Give up all work that is under way, and wait until it is."""
        self.start(_cancel_others()).result()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
