"""A sampler of this machine for folders of any causal language model that transformers opens (`ring_model.causal_lm`).

Responses hold the `<think>` that a prompt opened, and are judged as a whole where they hold none: most such models do not think apart.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import torch

from ring_model.causal_lm import CausalLm, Prompt, load_causal_lm
from ring_model.generation import Completion
from stages.config import Runtime
from stages.sampling.judges import Answered, Judges
from stages.sampling.judging import ANSWER_SCHEMA
from stages.sampling.prompting import prompt_text
from stages.sampling.requests import Chunk, write_chunk
from stages.sampling.sampler import Done
from stages.sampling.workers import IN_FLIGHT, Pool, Worker


class CausalLmSampler:
    """A `Sampler`; used as a context. Processes start at first need and die with this one."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stack = ExitStack()
        self._generators = self._stack.enter_context(Pool(runtime, imports=__name__))
        self._judges = self._stack.enter_context(Judges(runtime, requires_thinking=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        """See `Sampler.sample`; chunks name the folder as `policy.weights`."""
        for chunk in chunks:
            assert not (chunk.begun or chunk.most_more or chunk.reference or chunk.max_total_tokens)  # RL's
        return self._judges.judged(chunks, answer=self._begin, most_answering=IN_FLIGHT * self._runtime.workers)

    def _begin(self, chunk: Chunk) -> Future[Answered]:
        return self._generators.submit(answer_chunk, chunk)


def answer_chunk(worker: Worker, chunk: Chunk) -> Answered:
    """Write the chunk's answers; returns the seconds that it took, and its tokens."""
    started = time.monotonic()
    model = _model(worker, chunk.policy.weights)
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
    )
    write_chunk(_answers(chunk, prompts, completions, model), chunk.answers)
    return time.monotonic() - started, {"tokens": sum(len(made.token_ids) for made in completions)}


def _model(worker: Worker, folder: Path) -> CausalLm:
    """The model of a folder; the process keeps the last one."""
    if worker.kept.get("causal_lm_folder") != folder:
        worker.kept.pop("causal_lm", None)  # before the next one takes its memory
        torch.set_num_threads(worker.runtime.threads)
        worker.kept.update(causal_lm=load_causal_lm(folder, worker.device), causal_lm_folder=folder)
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
