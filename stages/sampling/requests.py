"""What is asked of a model, in chunks of a fixed composition.

A chunk is a pure function of the weights, its questions and their seeds: who works on it, and beside what, changes no bit of it. It
is written to its own file when it is judged, and a file that is there is never made again. So a stage that was killed goes on with the
chunks that are missing, and the number of workers is nobody's business.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data.schema import Problem
from stages.config import Sampling
from stages.seeds import derive_seed

GREEDY = -1


@dataclass(frozen=True, slots=True)
class Policy:
    """The weights that answer."""

    weights: Path  # model folder
    tokenizer: Path  # folder of the tokenizer's files

    @classmethod
    def of(cls, model: Path) -> "Policy":
        """A model folder that holds both."""
        return cls(model, model)


@dataclass(frozen=True, slots=True)
class Question:
    """One response that is wanted."""

    problem: Problem
    sample: int  # GREEDY, or 0, 1, ...
    seed: int  # of the response's random numbers


@dataclass(frozen=True, slots=True)
class Chunk:
    """A unit of work and the file that holds its result, a table of SAMPLE_SCHEMA in the order of the questions."""

    path: Path
    policy: Policy
    questions: tuple[Question, ...]  # all greedy, or none
    sampling: Sampling
    max_total_tokens: int | None = None  # of prompt and response; None: the model's positions
    title: str = ""  # for people

    @property
    def answers(self) -> Path:
        """The file of what was sampled and is not judged yet; it goes when the verdicts are there."""
        return self.path.with_suffix(".answers")

    @property
    def is_done(self) -> bool:
        """Whether it was sampled and judged."""
        return self.path.exists()

    def without_answers(self) -> "Chunk":
        """What a sampler may see of it: no answer, no test, no solution."""
        bare = {question.problem.id: question.problem for question in self.questions}
        bare = {name: replace(problem, answer="", tests="", solution="") for name, problem in bare.items()}
        return replace(
            self, questions=tuple(replace(question, problem=bare[question.problem.id]) for question in self.questions)
        )


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
            questions = tuple(
                Question(problem, sample, seed=derive_seed(self.seed, problem.id, sample))
                for problem in self.problems[start : start + self.sampling.chunk_problems]
                for sample in samples
            )
            path = folder / self.name / f"{start:07d}.parquet"
            yield Chunk(path, self.policy, questions, self.sampling, title=self.name)
