"""Tokens/s of training and of decoding at the laptop recipe's sizes, one thread, with memory.

References in the same run: this core's float32 GEMM rate (training as a share of it), and decoding in batches that each wait for
their longest row (refilling as a ratio to it). An untrained model at a high temperature ends with chance 1/60 at each token, so
response lengths are exponential with mean 60, cut at 200.
"""

import random
import resource
import time

import torch
from rich.console import Console

from flows.terminal import rows_table
from ring_model.configuration import BailingMoeConfig
from ring_model.engine import Engine, OptimizerSettings
from ring_model.generation import generate
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import pack_rows, response_logprobs
from stages.recipe import load_recipe

BATCH_TOKENS = 1400
STEPS = 60
ROWS = 128


def main() -> None:
    torch.set_num_threads(1)
    model = initialise(BailingMoe(_config(vocab_size=280)), seed=0)
    rows = [_training_row(model), *_decoding_rows()]
    Console().print(rows_table(rows, title=f"{model.config.num_parameters:,} parameters, one thread"))


def _config(*, vocab_size: int) -> BailingMoeConfig:
    sizes = load_recipe("laptop").recipe.base.model.model_dump()
    return BailingMoeConfig(**sizes, vocab_size=vocab_size, eos_token_id=0, pad_token_id=0)


def _row(what: str, tokens: int, seconds: float, *, reference: str, ratio: float) -> dict:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "what": what,
        "tokens/s": round(tokens / seconds),
        "reference": reference,
        "ratio": round(ratio, 3),
        "peak MB": round(memory),
    }


def gemm_rate(size: int = 768, repeats: int = 30) -> float:
    """Floating-point operations per second of a square float32 product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    return 2 * size**3 * repeats / (time.perf_counter() - started)


def _training_row(model: BailingMoe) -> dict:
    generator = random.Random(0)
    engine = Engine.start(model, optimizer=OptimizerSettings(learning_rate=1e-4))
    lengths = [generator.randrange(40, 90) for _ in range(BATCH_TOKENS // 65)]
    token = lambda: generator.randrange(1, model.config.vocab_size)  # noqa: E731
    rows = pack_rows(
        [[token() for _ in range(15)] for _ in lengths], [[token() for _ in range(n - 15)] for n in lengths]
    )
    started = 0.0
    for step in range(STEPS + 5):
        started = time.perf_counter() if step == 5 else started
        engine.backward(-response_logprobs(model, rows, entropy="none").logprobs_M.sum(), denominator=1000.0)
        engine.step()
    seconds = time.perf_counter() - started
    tokens = sum(lengths) * STEPS
    embeddings = model.config.vocab_size * model.config.hidden_size  # a look-up costs no product
    operations = 6 * (model.config.num_active_parameters - embeddings) * tokens
    engine.close()
    share = operations / seconds / gemm_rate()
    return _row("train step", tokens, seconds, reference="float32 GEMM rate", ratio=share)


def _decoding_rows() -> list[dict]:
    model = initialise(BailingMoe(_config(vocab_size=60)), seed=0)
    generator = random.Random(1)
    prompts = [[generator.randrange(1, 60) for _ in range(40)] for _ in range(8 * ROWS)]
    refilled = _decode(model, [prompts])
    static = _decode(model, [prompts[start : start + ROWS] for start in range(0, len(prompts), ROWS)])
    ratio = (refilled[0] / refilled[1]) / (static[0] / static[1])
    return [
        _row("decode, refilled", *refilled, reference="decode, static batches", ratio=ratio),
        _row("decode, static batches", *static, reference="itself", ratio=1.0),
    ]


def _decode(model: BailingMoe, calls: list[list[list[int]]]) -> tuple[int, float]:
    """Tokens and seconds of one call of `generate` for each list of prompts."""
    started, tokens = time.perf_counter(), 0
    for prompts in calls:
        seeds = list(range(tokens, tokens + len(prompts)))
        done = generate(model, prompts, seeds=seeds, max_new_tokens=200, temperature=20.0, eos_id=0, max_rows=ROWS)
        tokens += sum(len(completion.token_ids) for completion in done)
    return tokens, time.perf_counter() - started
