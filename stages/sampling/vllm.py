"""A sampler that asks vLLM, in an environment and a process of its own (`vllm_server`); responses are judged here.

It draws by its own random numbers, from seeds of ours, so that a sample is another one than our workers draw from the same weights; which
engine draws is therefore part of what a result is (`rl.sampling.engine`), and where it runs is not. It tells no entropy (NaN).

Every response is kept in a journal beside its chunk as it comes. Whatever happens to the server, responses that came are not asked for
again, those that did not are, and each counts once.
"""

import hashlib
import json
import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from ring_model.generation import Completion
from ring_model.policy import Scorer
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime
from stages.sampling.answering import answers_table, with_reference
from stages.sampling.journal import TokenLine, append_line, journal_path, read_lines
from stages.sampling.judges import Answered, Judges
from stages.sampling.pacing import Limits, backoff
from stages.sampling.prompting import prompt_ids
from stages.sampling.published import Published
from stages.sampling.requests import Begun, Chunk, Policy, write_chunk
from stages.sampling.sampler import Done
from stages.sampling.vllm_client import PassingError, Place, Request, VllmClient, Wanted, python_of
from stages.sampling.workers import Pool, result_of
from stages.seeds import derive_seed

_AT_ONCE = 16  # chunks that are asked for at a time
_MOST_SEED = 2**63  # torch reads a seed as a signed number of 64 bits
_LOG = logging.getLogger(__name__)


class VllmSampler:
    """A `PublishingSampler`; used as a context. The server starts at first need and dies with this process.

    One policy is asked at a time: who asks for another one waits until all chunks of the first are drawn.
    """

    check_every = 1  # versions: an engine may take weights quietly and wrongly

    def __init__(
        self,
        runtime: Runtime,
        *,
        published: Path,
        tokenizer: Path,
        max_rows: int,
        limits: Limits | None = None,
        place: Place | None = None,
    ) -> None:
        """`tokenizer`: folder of its files. Raises ValueError where no vLLM is named; nothing is started yet."""
        self._published, self._tokenizer = Published(published), tokenizer
        self._limits = limits or Limits()
        self._client = VllmClient(place or _place(runtime, published), self._limits, max_rows=max_rows)
        self._lock, self._is_over = threading.Lock(), threading.Event()
        self._stack = ExitStack()
        self._stack.callback(self._client.close)
        self._judges = self._stack.enter_context(Judges(runtime))
        self._references = self._stack.enter_context(Pool(runtime, imports=with_reference.__module__))
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="vllm")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._stack.__exit__(kind, error, trace)

    def publish(self, scorer: Scorer, *, version: int, oldest: int) -> Policy:
        """Write the weights in the released layout to a folder of their own; the server opens it when they are asked."""
        folder = self._published.write(version, oldest=oldest, save=partial(scorer.save, end_ids=()))
        return Policy(folder, self._tokenizer)

    def check(self, policy: Policy, tokens: Sequence[int]) -> list[float]:
        """What the server computes in the pass over a prompt."""
        with self._lock:
            for attempt in range(1, self._limits.max_attempts + 1):
                try:
                    return self._client.logprobs(policy.weights, tokens)
                except PassingError as error:
                    self._wait(error, attempt, what="the fixed prompt", seed=0)
        raise AssertionError  # the last attempt returned or raised

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        """See `Sampler.sample`; the chunks are of one policy. Raises ConnectionError where the server gives no response any more.

        Of a chunk the counts are its tokens, the responses that were `kept` from before, the `requests`, and what happened to the server
        meanwhile (`VllmClient.take_tally`).
        """
        for chunk in chunks:
            if chunk.is_done or chunk.answers.exists():
                journal_path(chunk).unlink(missing_ok=True)  # a kill came before it went
        with self._lock:
            yield from self._judges.judged(chunks, answer=self._begin, most_answering=_AT_ONCE)

    def _begin(self, chunk: Chunk) -> Future[Answered]:
        return self._threads.submit(self._answer, chunk)

    def _answer(self, chunk: Chunk) -> Answered:
        """Write the chunk's answers; the journal goes then. The seconds pass while other chunks are asked, too."""
        started = time.monotonic()
        tokenizer, room = Tokenizer.from_folder(chunk.policy.tokenizer), _room(chunk)
        prompts = [ids for problem in chunk.problems for ids in [prompt_ids(tokenizer, problem)] * len(chunk.samples)]
        request = _request(chunk, prompts, end_ids=tokenizer.end_ids, room=room)
        lines, counts = self._lines(chunk, request)
        completions = [_completion(line) for line in lines]
        answers = answers_table(chunk, prompts, completions, tokenizer, room=room)
        if chunk.reference is not None:
            answers = result_of(self._references.submit(with_reference, (chunk, answers)))
        write_chunk(answers, chunk.answers)
        journal_path(chunk).unlink(missing_ok=True)
        tokens = sum(len(made.token_ids) for made in completions)
        return time.monotonic() - started, {"tokens": tokens, "slots": tokens, **counts, **self._client.take_tally()}

    def _lines(self, chunk: Chunk, request: Request) -> tuple[list[TokenLine], dict[str, int]]:
        """All responses of the chunk, those that the journal has and those that the server gives, attempt after attempt."""
        path, digests = journal_path(chunk), _digests(request)
        numbers = [*chunk.samples] * len(chunk.problems)
        found = read_lines(path, TokenLine, digests)
        counts, failed = {"kept": len(found), "requests": 0}, 0
        while missing := [place for place, digest in enumerate(digests) if digest not in found]:
            counts["requests"] += 1
            before = len(found)
            asked = Request(
                request.weights, tuple(request.rows[place] for place in missing), request.temperature, request.top_p, request.end_ids
            )  # fmt: skip
            try:
                for row in self._client.rows(asked):
                    place = missing[row.row]
                    line = TokenLine(
                        problem_id=chunk.asked[place].id, sample=numbers[place], question=digests[place], token_ids=row.token_ids,
                        logprobs=row.logprobs, finished=row.finished,
                    )  # fmt: skip
                    append_line(path, line)
                    found[digests[place]] = line
            except PassingError as error:
                failed = 1 if len(found) > before else failed + 1
                self._wait(error, failed, what=f"{len(missing)} responses of {chunk.title}", seed=chunk.seeds[0])
        return [found[digest] for digest in digests], counts

    def _wait(self, error: PassingError, attempt: int, *, what: str, seed: int) -> None:
        """Until the next attempt. Raises ConnectionError where there is none."""
        if attempt >= self._limits.max_attempts:
            raise ConnectionError(
                f"vLLM did not give {what} in {attempt} attempts, none of which brought any; the last failed with: {error}; the responses"
                " that came are kept: see to the server and run again for the rest"
            ) from error
        seconds = backoff(attempt, first=self._limits.backoff_seconds, seed=derive_seed(seed, attempt))
        _LOG.warning("attempt %d at %s failed: %s; again in %.1f s", attempt, what, error, seconds)
        if self._is_over.wait(seconds):
            raise error


def _place(runtime: Runtime, published: Path) -> Place:
    if runtime.vllm_address:
        return Place(address=runtime.vllm_address)
    log = published.with_name("vllm.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    return Place(python=python_of(runtime.vllm_python), log=log)


def _room(chunk: Chunk) -> int:
    """Most tokens of prompt and response."""
    values = json.loads((chunk.policy.weights / "config.json").read_text(encoding="utf-8"))
    positions = int(values["max_position_embeddings"])
    if chunk.max_total_tokens is not None and chunk.max_total_tokens > positions:
        raise ValueError(f"max_total_tokens = {chunk.max_total_tokens} is more than the model's {positions} positions")
    return chunk.max_total_tokens or positions


def _request(chunk: Chunk, prompts: Sequence[Sequence[int]], *, end_ids: Sequence[int], room: int) -> Request:
    """What is asked for the whole chunk. A response that goes on has a seed of its own for what is new.

    Raises ValueError where a prompt leaves no room.
    """
    longest = max(map(len, prompts))
    if longest >= room:
        raise ValueError(f"the longest prompt has {longest} tokens, prompt and response together may have {room}")
    rows = []
    for prompt, before, seed in zip(prompts, chunk.begun or (Begun(),) * len(prompts), chunk.seeds, strict=True):
        there = len(before.token_ids)
        limit = min(chunk.sampling.max_new_tokens - there, room - len(prompt) - there)
        limit = min(limit, chunk.most_more or limit)
        own = derive_seed(seed, "from", there) if there else seed
        rows.append(Wanted((*prompt, *before.token_ids), own % _MOST_SEED, limit))
    temperature, top_p = (0.0, 1.0) if chunk.is_greedy else (chunk.sampling.temperature, chunk.sampling.top_p)
    return Request(chunk.policy.weights, tuple(rows), temperature, top_p, tuple(end_ids))


def _digests(request: Request) -> list[str]:
    """Of every response all that determines it; of two that are wanted alike the places differ."""
    shared = [request.weights.name, request.temperature, request.top_p, request.end_ids]
    texts = [json.dumps([*shared, row.prompt, row.seed, row.limit, place]) for place, row in enumerate(request.rows)]
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def _completion(line: TokenLine) -> Completion:
    return Completion(
        token_ids=line.token_ids,
        logprobs=np.array(line.logprobs, np.float32),
        entropies=np.full(len(line.token_ids), math.nan, np.float32),
        finished=line.finished,
    )
