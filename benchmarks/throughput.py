"""Training and decoding against transformers, and the engine against a bare loop; RL against TRL is in `rl_arm`.

Every figure is made in a process of its own with one thread: CPU seconds, so that another process on the machine hardly changes
them, and peak memory. The sides of a comparison take turns, and the ratio is that of their medians. Our side multiplies by the
library that `ring_model.products.matmul_kernel` takes; a second table has our figures by each library, so that a wrong rule is
seen. Models are those of `references.SIZES`, untrained.

Decoding: an untrained model at a high temperature ends with chance 1/60 at each token, so response lengths are exponential with
mean 60, cut at 200.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import get_args

import torch
from rich.console import Console

from benchmarks import references
from benchmarks.peak import peak_megabytes
from benchmarks.random_prompts import random_prompts
from flows.tables import rows_table
from ring_model.checkpoint import save_model
from ring_model.engine import Engine, OptimizerSettings
from ring_model.generation import generate
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import BailingScorer, pack_rows, response_logprobs
from ring_model.products import FORCED, Kernel, matmul_kernel, product

ROUNDS = 2
ROW_LENGTHS = {"equal": (128, 128), "uneven": (40, 88)}  # least and most tokens of a row
BATCH_TOKENS = 2048  # about so many in a training step
DECODED_PROMPTS = {"d128": 512, "d256": 256}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a process reports."""

    seconds: float  # CPU seconds of one unit: a step, or a token
    megabytes: int  # its peak


def main() -> None:
    rows = []
    for pair in comparisons():
        rows.append(_compared(pair))
        sys.stderr.write(f"{pair[0]}: {rows[-1]['times as fast']} times as fast as {pair[1]}\n")
    console = Console()
    console.print(rows_table(rows, title=f"one thread, CPU seconds; ours by {matmul_kernel()}"))
    console.print(rows_table(kernel_rows(), title=f"by each library of products; the rule takes {matmul_kernel()}"))


def comparisons() -> list[tuple[str, str, Callable, Callable, tuple]]:
    """What, against what, ours, theirs, arguments of both."""
    pairs = []
    for size in references.SIZES:
        for rows in ROW_LENGTHS:
            pairs.append((f"trained token {size}, {rows} rows", "Qwen2Moe", train, train_qwen2_moe, (size, rows)))
        pairs.append((f"decoded token {size}", "transformers.generate", decode, decode_transformers, (size,)))
    pairs.append(("token of an engine step d128", "bare torch loop", train_engine, train, ("d128", "equal")))
    return pairs


def _compared(pair: tuple[str, str, Callable, Callable, tuple]) -> dict:
    what, reference, ours, theirs, arguments = pair
    rounds = [(_measure(ours, arguments), _measure(theirs, arguments)) for _ in range(ROUNDS)]
    mine, other = ([sides[index] for sides in rounds] for index in (0, 1))
    seconds, reference_seconds = (median(measured.seconds for measured in side) for side in (mine, other))
    return {
        "what": what,
        "ms": round(1e3 * seconds, 3),
        "MB": max(measured.megabytes for measured in mine),
        "reference": reference,
        "its ms": round(1e3 * reference_seconds, 3),
        "its MB": max(measured.megabytes for measured in other),
        "times as fast": round(reference_seconds / seconds, 2),
        "GFLOP/s": round(training_flops(*arguments) / seconds / 1e9, 1) if ours is train else "",
    }


def _measure(side: Callable[..., float], arguments: tuple, *, kernel: Kernel | None = None) -> Measured:
    """Run a side in a process of its own, by the kernel of the rule or the one that is named."""
    environment = {FORCED: kernel} if kernel else {}
    with patched_environment(environment), multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (side, arguments))


def _measured(side: Callable[..., float], arguments: tuple) -> Measured:
    torch.set_num_threads(1)
    return Measured(side(*arguments), peak_megabytes())


def _step_seconds(step: Callable[[], object]) -> float:
    return references.step_seconds(step, repeats=9)


# ---------------------------------------------------------------- both kernels


def kernel_rows() -> list[dict]:
    """Our figures by each kernel of this torch."""
    kernels = [kernel for kernel in get_args(Kernel) if kernel == "mkl" or torch.backends.mkldnn.is_available()]
    sides = [("trained token", train, (size, "equal")) for size in references.SIZES]
    sides += [("decoded token", decode, (size,)) for size in references.SIZES]
    rows = [{"what": "float32 product of 1024 x 1024", **{f"{k} ms": _figure(gemm, (), k) for k in kernels}}]
    for what, side, arguments in sides:
        figures = {f"{kernel} ms": _figure(side, arguments, kernel) for kernel in kernels}
        rows.append({"what": f"{what} {arguments[0]}", **figures})
    return rows


def _figure(side: Callable[..., float], arguments: tuple, kernel: Kernel) -> float:
    return round(1e3 * _measure(side, arguments, kernel=kernel).seconds, 3)


@contextmanager
def patched_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that start inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def gemm(size: int = 1024) -> float:
    """Least CPU seconds of a square float32 product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return min(references.step_seconds(lambda: product(a, b.t()), repeats=5) for _ in range(3))


def training_flops(size: str, rows: str) -> float:
    """Floating-point operations of a trained token: 6 per active parameter (no embedding), and those of attention."""
    config = references.config_of(size, vocab_size=512)
    products = config.num_active_parameters - config.vocab_size * config.hidden_size
    row_tokens = sum(ROW_LENGTHS[rows]) / 2
    return 6.0 * (products + config.num_hidden_layers * config.hidden_size * row_tokens)  # half of attention is masked


# ---------------------------------------------------------------- sides


def _rows(rows: str) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of one token, and responses."""
    least, most = ROW_LENGTHS[rows]
    count = 2 * BATCH_TOKENS // (least + most)
    prompts = random_prompts(count, vocab_size=512, min_tokens=1, max_tokens=1)
    return prompts, random_prompts(count, vocab_size=512, min_tokens=least - 1, max_tokens=most - 1, seed=1)


def _num_tokens(rows: str) -> int:
    return sum(sum(map(len, part)) for part in _rows(rows))


def _model(size: str, *, vocab_size: int = 512) -> BailingMoe:
    return initialise(BailingMoe(references.config_of(size, vocab_size=vocab_size)), seed=0)


def _adamw(model: torch.nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def train(size: str, rows: str) -> float:
    model, packed = _model(size), pack_rows(*_rows(rows))
    optimizer = _adamw(model)

    def step() -> None:
        (-response_logprobs(model, packed, entropy="none").logprobs_M.mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return _step_seconds(step) / _num_tokens(rows)


def train_engine(size: str, rows: str) -> float:
    model, packed = _model(size), pack_rows(*_rows(rows))
    engine = Engine.start(BailingScorer(model), optimizer=OptimizerSettings(learning_rate=1e-4))
    tokens = float(packed.num_response_tokens)

    def step() -> None:
        engine.backward(-engine.score(packed, entropy="none").logprobs_M.sum(), denominator=tokens)
        engine.step()

    return _step_seconds(step) / _num_tokens(rows)


def train_qwen2_moe(size: str, rows: str) -> float:
    """In the faster of its two layouts: padded rows, or all in one row told apart by position ids."""
    seconds = []
    for packed in (False, True):
        model = references.qwen2_moe(references.config_of(size, vocab_size=512))
        seconds.append(
            _step_seconds(references.training_step(model, *_rows(rows), optimizer=_adamw(model), packed=packed))
        )
    return min(seconds) / _num_tokens(rows)


def _decoded_prompts(size: str) -> list[list[int]]:
    return random_prompts(DECODED_PROMPTS[size], vocab_size=60, min_tokens=40, max_tokens=40)


def decode(size: str) -> float:
    model, prompts = _model(size, vocab_size=60), _decoded_prompts(size)
    settings = {"max_new_tokens": 200, "temperature": 20.0, "eos_id": 0, "max_rows": 128}
    generate(model, prompts[:128], seeds=range(128), **settings | {"max_new_tokens": 4})
    started = time.process_time()
    done = generate(model, prompts, seeds=range(len(prompts)), **settings)
    return (time.process_time() - started) / sum(len(completion.token_ids) for completion in done)


def decode_transformers(size: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        save_model(_model(size, vocab_size=60), folder)
        decoded = references.transformers_generate(
            folder, _decoded_prompts(size), max_new_tokens=200, temperature=20.0, eos_id=0
        )
    return decoded.seconds / decoded.useful_tokens
