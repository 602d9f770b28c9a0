"""A worker of this process, and chunks for it: sampling and judging without starting what they are done in."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.schema import Problem
from ring_model.checkpoint import load_model, save_model
from ring_model.modelling import initialise
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime, Sampling
from stages.sampling.judging import ANSWER_SCHEMA
from stages.sampling.prompting import prompt_ids
from stages.sampling.requests import Chunk, Policy
from stages.sampling.workers import Worker, borrowed_worker
from tests.stages.conftest import PROBLEMS

MATH = tuple(problem for problem in PROBLEMS if problem.domain == "math")


@pytest.fixture
def worker() -> Iterator[Worker]:
    with borrowed_worker(Runtime(), run="") as one:
        one.kept.clear()
        yield one


@pytest.fixture(scope="session")
def other_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other weights of the tiny model's sizes."""
    folder = tmp_path_factory.mktemp("other") / "model"
    save_model(initialise(load_model(tiny_model), seed=1), folder)
    Tokenizer.from_folder(tiny_model).save(folder)
    return folder


def chunk_of(
    folder: Path, model: Path, problems: Sequence[Problem] = PROBLEMS[:3], *, num_samples: int = 2, **values: Any
) -> Chunk:
    """A chunk under `folder`, with seeds that nobody else uses."""
    samples = tuple(range(num_samples)) or (-1,)
    defaults: dict[str, Any] = {
        "path": folder / "0000.arrow",
        "policy": Policy.of(model),
        "problems": tuple(problems),
        "samples": samples,
        "seeds": tuple(range(100, 100 + len(problems) * len(samples))),
        "sampling": Sampling(max_new_tokens=8, max_rows=4),
    }
    return Chunk(**{**defaults, **values})


def answers_of(chunk: Chunk, responses: Sequence[str], tokenizer: Tokenizer) -> pa.Table:
    """What a model would have written that said these."""
    ids = [tokenizer.encode_response(response) for response in responses]
    columns: dict[str, Any] = {
        "problem_id": [problem.id for problem in chunk.asked],
        "domain": [problem.domain for problem in chunk.asked],
        "sample": [*chunk.samples] * len(chunk.problems),
        "prompt_ids": [prompt_ids(tokenizer, problem) for problem in chunk.asked],
        "response": list(responses),
        "token_ids": ids,
        "logprobs": [[-0.5] * len(tokens) for tokens in ids],
        "seed": list(chunk.seeds),
        "entropy": [0.25] * len(ids),
        "num_tokens": [len(tokens) for tokens in ids],
        "truncated": [False] * len(ids),
    }
    return pa.table({name: columns[name] for name in ANSWER_SCHEMA.names}, schema=ANSWER_SCHEMA)
