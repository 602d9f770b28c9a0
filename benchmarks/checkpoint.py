"""Peak memory of writing and of loading a model folder of 2 GiB, each in a process of its own: the model and one tensor."""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.peak import peak_megabytes
from flows.tables import rows_table
from ring_model.checkpoint import load_model, save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe

SHARD_BYTES = 700_000_000
CONFIG = BailingMoeConfig(
    vocab_size=20_480,
    hidden_size=1024,
    num_hidden_layers=9,
    num_attention_heads=16,
    num_key_value_heads=4,
    num_experts=16,
    num_experts_per_tok=2,
    num_shared_experts=1,
    moe_intermediate_size=1024,
    eos_token_id=0,
    pad_token_id=0,
)
"""0.54 billion parameters, 2.02 GiB in float32, of a few hundred tensors in three shards."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [_row(what, side, folder) for what, side in (("write", write), ("load", load))]
    Console().print(rows_table(rows, title=f"{4 * CONFIG.num_parameters / 2**20:.0f} MiB of float32 in shards"))


def _row(what: str, side: Callable[[str], dict], folder: str) -> dict:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return {"what": what, **pool.apply(side, (folder,))}


def write(folder: str) -> dict:
    model = BailingMoe(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    before, started = peak_megabytes(), time.perf_counter()
    save_model(model, Path(folder), max_shard_bytes=SHARD_BYTES)
    return {"s": round(time.perf_counter() - started, 1), "peak MiB beyond the model": peak_megabytes() - before}


def load(folder: str) -> dict:
    before, started = peak_megabytes(), time.perf_counter()
    model = load_model(folder)
    size = sum(parameter.nbytes for parameter in model.parameters()) // 2**20
    return {"s": round(time.perf_counter() - started, 1), "peak MiB beyond the model": peak_megabytes() - before - size}
