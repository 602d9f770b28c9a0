"""What an evaluation asks, part by part: the recipe's own held-out problems, and the rows of each benchmark.

A part is asked and scored as one: its problems, its number of samples, its groups. In: parts, and the responses of each model to them, by
`Part.job`. Out: jobs for a sampler, scores by problem, results with intervals.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from data.schema import Problem
from stages.config import Sampling
from stages.evaluation.groups import problem_clusters
from stages.evaluation.scores import Results, Scores, model_scores, score_results
from stages.sampling.requests import Policy, SamplingJob

GREEDY, SAMPLED = "greedy", "sampled"
Answers = Mapping[str, Mapping[str, pa.Table]]  # model -> job of a part -> its responses (SAMPLE_SCHEMA)


@dataclass(frozen=True, slots=True)
class Part:
    """Problems that are asked and scored alike."""

    name: str  # of the benchmark; empty: the recipe's own problems
    problems: tuple[Problem, ...]
    num_samples: int  # responses to each beside the greedy one
    groups: Mapping[str, Sequence[str]]  # what is averaged: name -> ids of problems

    def job(self, mode: str) -> str:
        """`math500.greedy`; of the recipe's own problems `greedy`."""
        return ".".join(filter(None, (self.name, mode)))


def part_jobs(
    parts: Iterable[Part], *, policy: Policy, sampling: Sampling, seed: int, prefix: str = ""
) -> list[SamplingJob]:
    """Every part asked of one model, greedily and sampled; `prefix` tells the jobs of several models apart."""
    return [
        SamplingJob(f"{prefix}{part.job(mode)}", policy, part.problems, count, sampling, seed)
        for part in parts
        for mode, count in ((GREEDY, 0), (SAMPLED, part.num_samples))
    ]


def part_scores(part: Part, answers: Answers) -> Scores:
    """The scores of every model on the problems of a part."""
    return {
        model: model_scores(tables[part.job(GREEDY)], tables[part.job(SAMPLED)], num_samples=part.num_samples)
        for model, tables in answers.items()
    }


def part_results(part: Part, scores: Scores, *, confidence: float) -> Results:
    """Each metric of each model over each group of a part, with its interval."""
    return score_results(scores, part.groups, problem_clusters(part.problems), confidence=confidence)
