"""A sampler of this machine for folders of any causal language model that transformers opens (`ring_model.causal_lm`).

Responses hold the `<think>` that a prompt opened, and are judged as a whole where they hold none: most such models do not think apart.
RL asks it, too (`rl.sampling.engine`): a version's weights are written to a folder, in the layout that transformers reads, and loaded anew.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import torch

import ring_model.huggingface  # noqa: F401 - transformers knows our own architecture, too, then
from ring_model.causal_lm import CausalLm, Prompt, load_causal_lm
from ring_model.generation import Completion
from ring_model.policy import Scorer
from stages.config import Runtime
from stages.sampling.answering import with_reference
from stages.sampling.judges import Answered, Judges
from stages.sampling.judging import ANSWER_SCHEMA
from stages.sampling.prompting import prompt_text
from stages.sampling.published import Published
from stages.sampling.requests import Chunk, Policy, write_chunk
from stages.sampling.sampler import Done
from stages.sampling.workers import IN_FLIGHT, Pool, Worker, result_of


class CausalLmSampler:
    """A `Sampler`, and a `PublishingSampler`; used as a context. Processes start at first need and die with this one."""

    check_every = 20  # versions, as with our own model: the files that are loaded are those that were written

    def __init__(
        self,
        runtime: Runtime,
        *,
        published: Path | None = None,
        tokenizer: Path | None = None,
        requires_thinking: bool = False,
    ) -> None:
        """`published` takes the folders of published weights, to which the tokenizer of a model folder belongs."""
        self._runtime, self._tokenizer = runtime, tokenizer
        self._published = Published(published) if published is not None else None
        self._stack = ExitStack()
        self._generators = self._stack.enter_context(Pool(runtime, imports=__name__))
        self._judges = self._stack.enter_context(Judges(runtime, requires_thinking=requires_thinking))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def publish(self, scorer: Scorer, *, version: int, oldest: int) -> Policy:
        """Write the weights to a folder of their own; those of versions before `oldest`, and after this one, go."""
        assert self._published is not None and self._tokenizer is not None
        folder = self._published.write(version, oldest=oldest, save=partial(scorer.save, end_ids=()))
        return Policy(folder, self._tokenizer)

    def check(self, policy: Policy, tokens: Sequence[int]) -> list[float]:
        """What one of the processes that generate computes."""
        return result_of(self._generators.submit(token_logprobs, (policy, tuple(tokens))))

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        """See `Sampler.sample`; chunks name the folder as `policy.weights`. Responses are drawn whole."""
        for chunk in chunks:
            assert not (chunk.begun or chunk.most_more)
        return self._judges.judged(chunks, answer=self._begin, most_answering=IN_FLIGHT * self._runtime.workers)

    def _begin(self, chunk: Chunk) -> Future[Answered]:
        return self._generators.submit(answer_chunk, chunk)


def answer_chunk(worker: Worker, chunk: Chunk) -> Answered:
    """Write the chunk's answers; returns the seconds that it took, and its tokens."""
    started = time.monotonic()
    model = _model(worker, chunk.policy)
    prompts = [
        prompt for problem in chunk.problems for prompt in [model.prompt(prompt_text(problem))] * len(chunk.samples)
    ]
    completions = model.respond(
        [prompt.token_ids for prompt in prompts],
        seeds=chunk.seeds,
        max_new_tokens=chunk.sampling.max_new_tokens,
        temperature=0.0 if chunk.is_greedy else chunk.sampling.temperature,
        top_p=1.0 if chunk.is_greedy else chunk.sampling.top_p,
        max_rows=chunk.sampling.max_rows,
        max_total_tokens=chunk.max_total_tokens,
    )
    answers = _answers(chunk, prompts, completions, model)
    if chunk.reference is not None:
        answers = with_reference(worker, (chunk, answers))
    write_chunk(answers, chunk.answers)
    return time.monotonic() - started, {"tokens": sum(len(made.token_ids) for made in completions)}


def token_logprobs(worker: Worker, question: tuple[Policy, Sequence[int]]) -> list[float]:
    """Log-probability of every token but the first under a policy."""
    policy, tokens = question
    return _model(worker, policy).token_logprobs(tokens)


def _model(worker: Worker, policy: Policy) -> CausalLm:
    """The model of a policy; the process keeps the last one."""
    if worker.kept.get("causal_lm_policy") != policy:
        worker.kept.pop("causal_lm", None)  # before the next one takes its memory
        torch.set_num_threads(worker.runtime.threads)
        model = load_causal_lm(policy.weights, worker.device, tokenizer_folder=policy.tokenizer)
        worker.kept.update(causal_lm=model, causal_lm_policy=policy)
    return worker.kept["causal_lm"]


def _answers(chunk: Chunk, prompts: Sequence[Prompt], completions: Sequence[Completion], model: CausalLm) -> pa.Table:
    columns = {
        "problem_id": [problem.id for problem in chunk.asked],
        "domain": [problem.domain for problem in chunk.asked],
        "sample": [*chunk.samples] * len(chunk.problems),
        "prompt_ids": [prompt.token_ids for prompt in prompts],
        "response": [model.text(made, prompt) for made, prompt in zip(completions, prompts, strict=True)],
        "token_ids": [made.token_ids for made in completions],
        "logprobs": [made.logprobs for made in completions],
        "seed": chunk.seeds,
        "entropy": [float(made.entropies.mean()) for made in completions],
        "num_tokens": [len(made.token_ids) for made in completions],
        "truncated": [not made.finished for made in completions],
    }
    return pa.table({name: columns[name] for name in ANSWER_SCHEMA.names}, schema=ANSWER_SCHEMA)
