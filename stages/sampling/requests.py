"""What is asked of a model, in chunks of a fixed composition.

A chunk is a pure function of the weights, its questions and their seeds: who works on it, and beside what, changes no bit of it. It
is written to its own file when it is judged, and a file that is there is never made again. So a stage that was killed goes on with the
chunks that are missing, and the number of workers is nobody's business.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather

from data.schema import Problem
from stages.config import Sampling
from stages.seeds import derive_seed

GREEDY = -1
UNFINISHED = "unfinished"  # status of a response that goes on, in place of a verdict
EXPIRED = "expired"  # status of a response that was given up before it was finished


@dataclass(frozen=True, slots=True)
class Policy:
    """The weights that answer."""

    weights: Path  # model folder; of a model that a server answers for, its name there
    tokenizer: Path  # folder of the tokenizer's files

    @classmethod
    def of(cls, model: Path) -> "Policy":
        """A model folder that holds both."""
        return cls(model, model)


@dataclass(frozen=True, slots=True)
class Begun:
    """A response that is not finished."""

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()  # of each, by whoever drew it
    entropy: float = 0.0  # mean over its tokens, nats


@dataclass(frozen=True, slots=True)
class Chunk:
    """A unit of work and the file that holds its result, a table of SAMPLE_SCHEMA: problem after problem, the samples of each in turn.

    With a reference the table has a column `reference_logprobs`, too; with `most_more` a response may have the status `UNFINISHED`. The
    file is Arrow's own format, not compressed: it lies under the resume state, is read once, and goes.
    """

    path: Path
    policy: Policy
    problems: tuple[Problem, ...]
    samples: tuple[int, ...]  # numbers of the responses to each: GREEDY alone, or 0, 1, ...
    seeds: tuple[int, ...]  # of each response's random numbers
    sampling: Sampling
    max_total_tokens: int | None = None  # of prompt and response; None: the model's positions
    title: str = ""  # for people
    reference: Policy | None = None  # whose log-probabilities of every token are asked, too; None: none
    begun: tuple[Begun, ...] = ()  # of each response, where they go on; empty: all begin
    most_more: int | None = None  # tokens, after which a response that goes on is left unfinished

    @property
    def answers(self) -> Path:
        """The file of what was sampled and is not judged yet; it goes when the verdicts are there."""
        return answers_path(self.path)

    @property
    def is_done(self) -> bool:
        """Whether it was sampled and judged."""
        return self.path.exists()

    def read(self) -> pa.Table:
        """The rows of a chunk that is done."""
        return feather.read_table(self.path, memory_map=False)

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable tokens are taken."""
        return self.samples == (GREEDY,)

    @property
    def asked(self) -> list[Problem]:
        """The problem of every row."""
        return [problem for problem in self.problems for _ in self.samples]

    def without_answers(self) -> "Chunk":
        """What a sampler may see of it: no answer, no test, no solution."""
        bare = tuple(replace(problem, answer="", tests="", solution="") for problem in self.problems)
        return replace(self, problems=bare)


def answers_path(chunk: Path) -> Path:
    """The file of what was sampled of a chunk, beside the one that it has when it is judged."""
    return chunk.with_suffix(".answers")


def write_chunk(table: pa.Table, path: Path) -> None:
    """Beside, then rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    feather.write_feather(table, str(beside), compression="uncompressed")
    beside.replace(path)


@dataclass(frozen=True, slots=True)
class SamplingJob:
    """One model answers a list of problems."""

    name: str  # folder of its chunks; unique among the jobs of a stage
    policy: Policy
    problems: tuple[Problem, ...]
    num_samples: int  # per problem; 0 means one greedy response
    sampling: Sampling
    seed: int  # with the problem's id and the sample's number it seeds a response

    def chunks(self, folder: Path) -> Iterator[Chunk]:
        """Its problems in order, `chunk_problems` at a time."""
        samples = tuple(range(self.num_samples)) or (GREEDY,)
        for start in range(0, len(self.problems), self.sampling.chunk_problems):
            problems = self.problems[start : start + self.sampling.chunk_problems]
            seeds = tuple(derive_seed(self.seed, problem.id, sample) for problem in problems for sample in samples)
            path = folder / self.name / f"{start:07d}.arrow"
            yield Chunk(path, self.policy, problems, samples, seeds, self.sampling, title=self.name)
