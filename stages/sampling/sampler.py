"""Who answers: the one interface through which selection, RL and evaluation ask models, whatever engine stands behind it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from data.schema import SAMPLE_SCHEMA
from ring_model.policy import Scorer
from stages.sampling.requests import Chunk, Policy, SamplingJob
from stages.stage import StageLog


@dataclass(frozen=True, slots=True)
class Done:
    """A chunk whose file is there now, and what it took."""

    chunk: Chunk
    seconds: dict[str, float] = field(default_factory=dict)  # generate, judge; of the workers
    counts: dict[str, int] = field(default_factory=dict)  # tokens, and slots (`generate`)


class Sampler(Protocol):
    """Chunks go in and come back judged; nothing of a model or a judge lives where it is called."""

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        """Sample and judge the chunks whose files are not there, each as soon as it can be; yields them as they are done.

        Raises:
            RuntimeError: a worker died.
            FloatingPointError: the weights give no finite log-probabilities.
            ValueError: the model cannot be asked so: a prompt leaves no room, a server refuses.
            ConnectionError: a server does not answer.

        """


class PublishingSampler(Sampler, Protocol):
    """A sampler whose weights change while it is used, as RL needs: those of a version go out, and chunks name them."""

    check_every: int  # versions between two comparisons of `check` with the trainer's own log-probabilities

    def publish(self, scorer: Scorer, *, version: int, oldest: int) -> Policy:
        """Make weights known, so that chunks can name them; those of versions before `oldest` may be forgotten."""

    def check(self, policy: Policy, tokens: Sequence[int]) -> list[float]:
        """Log-probability of every token but the first, as the sampler computes it: to be compared with one's own."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """Tables by job, and how long the workers took for what was not there yet."""

    tables: dict[str, pa.Table]  # SAMPLE_SCHEMA, in the order of the problems, then of the samples
    timings: dict[str, float]  # seconds summed over workers: generate, judge


def sample_and_judge(jobs: Sequence[SamplingJob], *, sampler: Sampler, folder: Path, log: StageLog) -> Sampled:
    """Answer and judge every job; `folder` keeps the chunks until the stage is sealed."""
    chunks = {job.name: list(job.chunks(folder)) for job in jobs}
    every = [chunk for parts in chunks.values() for chunk in parts]
    there = [chunk for chunk in every if chunk.is_done]
    if there:
        log.resumed(f"{len(there)} of {len(every)} chunks of responses are there")
    total, done = (sum(len(chunk.seeds) for chunk in some) for some in (every, there))
    seconds = {"generate": 0.0, "judge": 0.0}
    for one in sampler.sample(every):
        for activity, spent in one.seconds.items():
            seconds[activity] += spent
        done += len(one.chunk.seeds)
        log.progress(done, total, unit="responses", detail=one.chunk.title)
    return Sampled({name: joined(parts) for name, parts in chunks.items()}, seconds)


def joined(chunks: Sequence[Chunk]) -> pa.Table:
    """The rows of chunks that are done, one after the other."""
    parts = [chunk.read() for chunk in chunks]
    return pa.concat_tables(parts).combine_chunks() if parts else SAMPLE_SCHEMA.empty_table()
