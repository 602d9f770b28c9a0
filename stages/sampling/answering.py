"""Responses of a model to a chunk's questions, before anybody judges them: the half of sampling that needs the model."""

import time
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import torch

from ring_model.checkpoint import load_model, refill
from ring_model.configuration import BailingMoeConfig
from ring_model.generation import Completion, generate
from ring_model.modelling import BailingMoe
from ring_model.policy import pack_rows, response_logprobs
from ring_model.tokenizer import Tokenizer
from stages.sampling.judging import ANSWER_SCHEMA
from stages.sampling.prompting import prompt_ids
from stages.sampling.requests import Chunk, Policy, write_chunk
from stages.sampling.workers import Worker


def answer_chunk(worker: Worker, chunk: Chunk) -> tuple[float, dict[str, int]]:
    """Write the chunk's answers; returns the seconds that it took, and how full the rows were (`generate`)."""
    started = time.monotonic()
    model, tokenizer = _policy(worker, chunk.policy)
    prompts = [ids for problem in chunk.problems for ids in [prompt_ids(tokenizer, problem)] * len(chunk.samples)]
    tally: Counter[str] = Counter()
    completions = generate(
        model,
        prompts,
        seeds=chunk.seeds,
        max_new_tokens=chunk.sampling.max_new_tokens,
        temperature=0.0 if chunk.is_greedy else chunk.sampling.temperature,
        top_p=1.0 if chunk.is_greedy else chunk.sampling.top_p,
        eos_id=tokenizer.eos_id,
        max_rows=chunk.sampling.max_rows,
        max_total_tokens=chunk.max_total_tokens,
        tally=tally,
    )
    write_chunk(_answers(chunk, prompts, completions, tokenizer), chunk.answers)
    return time.monotonic() - started, dict(tally)


def token_logprobs(worker: Worker, question: tuple[Policy, Sequence[int]]) -> list[float]:
    """Log-probability of every token but the first under a policy."""
    policy, tokens = question
    model, _ = _policy(worker, policy)
    return next_token_logprobs(model, tokens)


@torch.no_grad()
def next_token_logprobs(model: BailingMoe, tokens: Sequence[int]) -> list[float]:
    """Log-probability of every token but the first."""
    rows = pack_rows([tokens[:1]], [tokens[1:]], device=model.device)
    return response_logprobs(model, rows, entropy="none").logprobs_M.tolist()


def response_text(tokenizer: Tokenizer, completion: Completion) -> str:
    """The response as the judge reads it: without the closing eos."""
    ids = completion.token_ids
    return tokenizer.decode(ids[:-1] if completion.finished else ids)


def _answers(
    chunk: Chunk, prompts: Sequence[Sequence[int]], completions: Sequence[Completion], tokenizer: Tokenizer
) -> pa.Table:
    columns = {
        "problem_id": [problem.id for problem in chunk.asked],
        "domain": [problem.domain for problem in chunk.asked],
        "sample": [*chunk.samples] * len(chunk.problems),
        "prompt_ids": prompts,
        "response": [response_text(tokenizer, completion) for completion in completions],
        "token_ids": [completion.token_ids for completion in completions],
        "logprobs": [completion.logprobs for completion in completions],
        "seed": chunk.seeds,
        "entropy": [float(completion.entropies.mean()) for completion in completions],
        "num_tokens": [len(completion.token_ids) for completion in completions],
        "truncated": [not completion.finished for completion in completions],
    }
    return pa.table({name: columns[name] for name in ANSWER_SCHEMA.names}, schema=ANSWER_SCHEMA)


def _policy(worker: Worker, policy: Policy) -> tuple[BailingMoe, Tokenizer]:
    """Model and tokenizer of a policy; the process keeps the last ones, and reads other weights of the same sizes into them."""
    kept = worker.kept
    if kept.get("policy") != policy:
        torch.set_num_threads(worker.runtime.threads)
        config = BailingMoeConfig.from_folder(policy.weights)
        kept.pop("policy", None)  # what follows may fail half-way
        if "model" in kept and kept["model"].config == config:
            refill(kept["model"], policy.weights)
        else:
            kept["model"] = load_model(policy.weights, device=worker.device)
        if kept.get("tokenizer_folder") != policy.tokenizer:
            kept.update(tokenizer_folder=policy.tokenizer, tokenizer=Tokenizer.from_folder(policy.tokenizer))
        kept["policy"] = policy
    return kept["model"], kept["tokenizer"]
