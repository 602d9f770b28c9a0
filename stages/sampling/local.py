"""A sampler of this machine for our own models: worker processes that generate, others that judge what is there while the first go on.

Each kind has at most `runtime.workers` processes.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from ring_model.policy import Scorer
from stages.config import Runtime
from stages.sampling.answering import answer_chunk, token_logprobs
from stages.sampling.judges import Answered, Judges
from stages.sampling.published import Published
from stages.sampling.requests import Chunk, Policy
from stages.sampling.sampler import Done
from stages.sampling.workers import IN_FLIGHT, Pool, result_of


class LocalSampler:
    """A `PublishingSampler`; used as a context. Processes start at first need and die with this one."""

    check_every = 20  # versions: the files that these processes read are those that were written

    def __init__(self, runtime: Runtime, *, published: Path, tokenizer: Path | None = None) -> None:
        """`published` takes the folders of published weights, to which the tokenizer of a model folder belongs."""
        self._runtime, self._published, self._tokenizer = runtime, Published(published), tokenizer
        self._stack = ExitStack()
        self._generators = self._stack.enter_context(Pool(runtime, imports=answer_chunk.__module__))
        self._judges = self._stack.enter_context(Judges(runtime))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def publish(self, scorer: Scorer, *, version: int, oldest: int) -> Policy:
        """Write the weights to a folder of their own; those of versions before `oldest`, and after this one, go."""
        assert self._tokenizer is not None
        folder = self._published.write(version, oldest=oldest, save=scorer.publish)
        return Policy(folder, self._tokenizer)

    def check(self, policy: Policy, tokens: Sequence[int]) -> list[float]:
        """What one of the processes that generate computes."""
        return result_of(self._generators.submit(token_logprobs, (policy, tuple(tokens))))

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        """See `Sampler.sample`. Chunks are handed out in their order."""
        return self._judges.judged(chunks, answer=self._answer, most_answering=IN_FLIGHT * self._runtime.workers)

    def _answer(self, chunk: Chunk) -> Future[Answered]:
        return self._generators.submit(answer_chunk, chunk)
