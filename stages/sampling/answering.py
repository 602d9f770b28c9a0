"""Responses of a model to a chunk's questions, before anybody judges them: the half of sampling that needs the model."""

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from ring_model.checkpoint import load_model, refill
from ring_model.configuration import BailingMoeConfig
from ring_model.generation import Completion, generate
from ring_model.modelling import BailingMoe
from ring_model.policy import micro_batches, pack_rows, response_logprobs
from ring_model.tokenizer import Tokenizer
from stages.sampling.judging import ANSWER_SCHEMA
from stages.sampling.prompting import prompt_ids
from stages.sampling.requests import UNFINISHED, Begun, Chunk, Policy, write_chunk
from stages.sampling.workers import Worker

UNFINISHED_FIELD = pa.field(UNFINISHED, pa.bool_())
REFERENCE_FIELD = pa.field("reference_logprobs", pa.list_(pa.float32()))
_SCORED_AT_ONCE = 4096  # places of a rectangle; fixed, since the last bits depend on it


def answer_chunk(worker: Worker, chunk: Chunk) -> tuple[float, dict[str, int]]:
    """Write the chunk's answers; returns the seconds that it took, and how full the rows were (`generate`)."""
    started = time.monotonic()
    model, tokenizer = _policy(worker, chunk.policy)
    prompts = [ids for problem in chunk.problems for ids in [prompt_ids(tokenizer, problem)] * len(chunk.samples)]
    begun = chunk.begun or (Begun(),) * len(prompts)
    tally: Counter[str] = Counter()
    completions = generate(
        model,
        [[*prompt, *before.token_ids] for prompt, before in zip(prompts, begun, strict=True)],
        seeds=chunk.seeds,
        max_new_tokens=chunk.sampling.max_new_tokens,
        temperature=0.0 if chunk.is_greedy else chunk.sampling.temperature,
        top_p=1.0 if chunk.is_greedy else chunk.sampling.top_p,
        eos_id=tokenizer.end_ids,
        max_rows=chunk.sampling.max_rows,
        max_total_tokens=chunk.max_total_tokens,
        num_begun=[len(before.token_ids) for before in begun],
        most_more=chunk.most_more,
        tally=tally,
    )
    room = chunk.max_total_tokens or model.config.max_position_embeddings
    answers = answers_table(chunk, prompts, completions, tokenizer, room=room)
    if chunk.reference is not None:
        answers = with_reference(worker, (chunk, answers))
    write_chunk(answers, chunk.answers)
    return time.monotonic() - started, dict(tally)


def answers_table(
    chunk: Chunk,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Completion],
    tokenizer: Tokenizer,
    *,
    room: int,
) -> pa.Table:
    """ANSWER_SCHEMA of what was drawn behind what the chunk's responses began with; in rounds with a column `unfinished`.

    `room`: most tokens of prompt and response.
    """
    begun = chunk.begun or (Begun(),) * len(prompts)
    whole = [_joined(before, completion) for before, completion in zip(begun, completions, strict=True)]
    answers = _answers(chunk, prompts, whole, tokenizer)
    if chunk.most_more is None:
        return answers
    goes_on = [
        not made.finished and len(made.token_ids) < min(chunk.sampling.max_new_tokens, room - len(prompt))
        for prompt, made in zip(prompts, whole, strict=True)
    ]
    return answers.append_column(UNFINISHED_FIELD, pa.array(goes_on))


def with_reference(worker: Worker, work: tuple[Chunk, pa.Table]) -> pa.Table:
    """The answers to a chunk with the log-probabilities that its reference gives their tokens; none of a response that goes on."""
    chunk, answers = work
    assert chunk.reference is not None
    columns = [answers[name].to_pylist() for name in ("prompt_ids", "token_ids")]
    waits = answers[UNFINISHED].to_pylist() if chunk.most_more is not None else [False] * len(answers)
    responses = [[] if goes_on else tokens for goes_on, tokens in zip(waits, columns[1], strict=True)]
    reference = _reference(worker, chunk.reference)
    values = response_logprobs_of(reference, columns[0], responses, chunk.sampling.temperature)
    return answers.append_column(REFERENCE_FIELD, pa.array(values, REFERENCE_FIELD.type))


def _joined(before: Begun, completion: Completion) -> Completion:
    """The whole response."""
    if not before.token_ids:
        return completion
    entropies = np.concatenate([np.full(len(before.token_ids), before.entropy, np.float32), completion.entropies])
    return Completion(
        token_ids=[*before.token_ids, *completion.token_ids],
        logprobs=np.concatenate([np.array(before.logprobs, np.float32), completion.logprobs]),
        entropies=entropies,
        finished=completion.finished,
    )


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


@torch.no_grad()
def response_logprobs_of(
    model: BailingMoe, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float
) -> list[np.ndarray]:
    """Of every response the log-probabilities of its tokens, float32; of an empty one none."""
    found: list[np.ndarray] = [np.empty(0, np.float32)] * len(responses)
    asked = [index for index, response in enumerate(responses) if response]
    lengths = [len(prompts[index]) + len(responses[index]) for index in asked]
    for positions in micro_batches(lengths, token_budget=_SCORED_AT_ONCE):
        batch = [asked[position] for position in positions]
        rows = pack_rows(
            *zip(*((prompts[index], responses[index]) for index in batch), strict=True), device=model.device
        )
        scored = response_logprobs(model, rows, entropy="none", temperature=temperature).logprobs_M.cpu()
        pieces = scored.split([len(responses[index]) for index in batch])
        for index, piece in zip(batch, pieces, strict=True):
            found[index] = piece.numpy()
    return found


def response_text(tokenizer: Tokenizer, completion: Completion) -> str:
    """The response as the judge reads it: without the end token that closed it."""
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


def _reference(worker: Worker, policy: Policy) -> BailingMoe:
    """The model of a policy that stays the same for long; kept beside the one that answers."""
    kept = worker.kept
    if kept.get("reference_policy") != policy:
        torch.set_num_threads(worker.runtime.threads)
        kept.update(reference=load_model(policy.weights, device=worker.device), reference_policy=policy)
    return kept["reference"]


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
