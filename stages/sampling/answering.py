"""A model answers problems and the judge says whether it is right: the one way in which selection, RL and evaluation ask.

In: pairs of a problem and a sample number, a seed each. Out: completions and verdicts in that order, as a table of
`SAMPLE_SCHEMA` where wanted. A greedy response has the sample number `GREEDY`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from data.domains import Judge, Verdict
from data.schema import SAMPLE_SCHEMA, Problem
from ring_model.generation import Completion, generate
from ring_model.modelling import BailingMoe
from ring_model.tokenizer import Tokenizer
from stages.config import Sampling
from stages.sampling.prompting import prompt_ids

GREEDY = -1


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to a model."""

    problem: Problem
    sample: int  # GREEDY, or 0, 1, ...
    seed: int  # of the response's random numbers


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back, in the order of the questions, and how long it took."""

    asked: Sequence[Asked]
    prompts: Sequence[Sequence[int]]  # token ids
    completions: Sequence[Completion]
    responses: Sequence[str]
    verdicts: Sequence[Verdict]
    seconds: dict[str, float]  # generate, judge

    def table(self) -> pa.Table:
        """Rows of SAMPLE_SCHEMA."""
        columns = {
            "problem_id": [asked.problem.id for asked in self.asked],
            "sample": [asked.sample for asked in self.asked],
            "response": self.responses,
            "token_ids": [completion.token_ids for completion in self.completions],
            "logprobs": [completion.logprobs for completion in self.completions],
            "status": [verdict.status for verdict in self.verdicts],
            "score": [verdict.score for verdict in self.verdicts],
            "checker_failed": [verdict.checker_failed for verdict in self.verdicts],
            "weak": [verdict.weak for verdict in self.verdicts],
            "extracted": [verdict.extracted for verdict in self.verdicts],
            "seed": [asked.seed for asked in self.asked],
            "entropy": [float(completion.entropies.mean()) for completion in self.completions],
            "num_tokens": [len(completion.token_ids) for completion in self.completions],
            "truncated": [not completion.finished for completion in self.completions],
        }
        return pa.table({name: columns[name] for name in SAMPLE_SCHEMA.names}, schema=SAMPLE_SCHEMA)


def answer(
    model: BailingMoe,
    asked: Sequence[Asked],
    *,
    tokenizer: Tokenizer,
    judge: Judge,
    sampling: Sampling,
    max_rows: int,
    max_total_tokens: int | None = None,
) -> Answers:
    """Sample (or decode greedily, when the questions say so) and judge. All questions must be of one of the two kinds.

    `max_total_tokens` bounds prompt and response together, row by row.
    """
    started = time.monotonic()
    greedy = bool(asked) and asked[0].sample == GREEDY
    ids = {question.problem.id: prompt_ids(tokenizer, question.problem) for question in asked}
    prompts = [ids[question.problem.id] for question in asked]
    completions = generate(
        model,
        prompts,
        seeds=[question.seed for question in asked],
        max_new_tokens=sampling.max_new_tokens,
        temperature=0.0 if greedy else sampling.temperature,
        top_p=1.0 if greedy else sampling.top_p,
        eos_id=tokenizer.eos_id,
        max_rows=max_rows,
        max_total_tokens=max_total_tokens,
    )
    responses = [response_text(tokenizer, completion) for completion in completions]
    generated = time.monotonic()
    verdicts = judge.verify(list(zip(responses, [question.problem for question in asked], strict=True)))
    seconds = {"generate": generated - started, "judge": time.monotonic() - generated}
    return Answers(asked, prompts, completions, responses, verdicts, seconds)


def response_text(tokenizer: Tokenizer, completion: Completion) -> str:
    """The response as the judge reads it: without the closing eos."""
    ids = completion.token_ids
    return tokenizer.decode(ids[:-1] if completion.finished else ids)
