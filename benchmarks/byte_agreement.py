"""How far the bytes of training agree between instruction sets, and what agreement costs: the laptop's model, one thread.

    python -m benchmarks byte_agreement

Three libraries compute: MKL or oneDNN the products, MKL those within attention, torch itself the rest. Each chooses its code by the
processor, and each can be told to use less of it, which emulates a lesser processor. With every line of `SETTINGS` a process of its own
trains the laptop recipe's model for `STEPS` steps from the same weights on the same rows; equal letters are equal weights, to the bit.
What this cannot show: libraries also look at the vendor and at the sizes of caches, which a ceiling leaves as they are.
"""

import hashlib
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from statistics import median

from rich.console import Console

from flows.tables import rows_table

ROUNDS = 2
STEPS = 50
BATCH_TOKENS = 1400  # of a step of the laptop's SFT
ROW_TOKENS = (30, 110)
VOCABULARY = 400
RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "laptop.toml"

_MKL = {"RING_MATMUL": "mkl"}
_ONEDNN = {"RING_MATMUL": "onednn"}
_ONEDNN_AVX2 = {**_ONEDNN, "ONEDNN_MAX_CPU_ISA": "AVX2"}
_TORCH_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2"}
_AVX512 = {
    "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
    "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    "ATEN_CPU_CAPABILITY": "avx512",
}
SETTINGS: dict[str, dict[str, str]] = {  # MKL_CBWR is overruled by MKL_ENABLE_INSTRUCTIONS (seen), so no line has both
    "MKL": _MKL,
    "MKL, all at most AVX-512": {**_MKL, **_AVX512},
    "MKL, all at most AVX2": {**_MKL, "MKL_ENABLE_INSTRUCTIONS": "AVX2", **_TORCH_AVX2},
    "MKL CBWR=AVX512": {**_MKL, "MKL_CBWR": "AVX512"},
    "MKL CBWR=AVX2": {**_MKL, "MKL_CBWR": "AVX2"},
    "MKL CBWR=AVX2, torch AVX2": {**_MKL, "MKL_CBWR": "AVX2", **_TORCH_AVX2},
    "MKL CBWR=COMPATIBLE, torch AVX2": {**_MKL, "MKL_CBWR": "COMPATIBLE", **_TORCH_AVX2},
    "MKL CBWR=COMPATIBLE, torch default": {**_MKL, "MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"},
    "oneDNN": _ONEDNN,
    "oneDNN, all at most AVX-512": {**_ONEDNN, **_AVX512},
    "oneDNN, all at most AVX2": {**_ONEDNN_AVX2, "MKL_ENABLE_INSTRUCTIONS": "AVX2", **_TORCH_AVX2},
    "oneDNN AVX2, MKL CBWR=AVX2, torch AVX2": {**_ONEDNN_AVX2, "MKL_CBWR": "AVX2", **_TORCH_AVX2},
    "oneDNN AVX2, MKL CBWR=COMPATIBLE, torch AVX2": {**_ONEDNN_AVX2, "MKL_CBWR": "COMPATIBLE", **_TORCH_AVX2},
}


def main() -> None:
    made: dict[str, list[tuple[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(ROUNDS):
        for name, settings in SETTINGS.items():
            made[name].append(_trained(name, settings))
    digests = dict.fromkeys(digest for runs in made.values() for digest, _ in runs)
    letters = {digest: chr(ord("A") + number) for number, digest in enumerate(digests)}
    rows = [
        {
            "setting": name,
            "weights": " ".join(dict.fromkeys(letters[digest] for digest, _ in runs)),
            "CPU ms a step": round(1e3 * median(seconds for _, seconds in runs), 1),
        }
        for name, runs in made.items()
    ]
    Console().print(rows_table(rows, title=f"weights after {STEPS} training steps: equal letters, equal bytes"))


def _trained(name: str, settings: dict[str, str]) -> tuple[str, float]:
    """Digest of the weights after training in a process of its own, and CPU seconds of a step."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.byte_agreement"],
        env={**os.environ, "OMP_NUM_THREADS": "1", **settings}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    digest, seconds = done.stdout.split()
    sys.stderr.write(f"{name}: {digest[:12]}, {1e3 * float(seconds):.1f} ms a step\n")
    return digest, float(seconds)


def train() -> tuple[str, float]:
    """Train the laptop's model on rows of random tokens; sha256 of its weights, and the median CPU seconds of a step."""
    import torch  # its settings are read when it is imported, and the process that starts the others needs none of it

    from benchmarks.random_prompts import random_prompts
    from ring_model.configuration import BailingMoeConfig
    from ring_model.modelling import BailingMoe, initialise
    from ring_model.policy import pack_rows, response_logprobs

    torch.set_num_threads(1)
    sizes = tomllib.loads(RECIPE.read_text(encoding="utf-8"))["base"]["model"]
    model = initialise(
        BailingMoe(BailingMoeConfig(**sizes, vocab_size=VOCABULARY, eos_token_id=0, pad_token_id=0)), seed=0
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2.5e-3)
    seconds = []
    for step in range(STEPS):
        started = time.process_time()
        count = 2 * BATCH_TOKENS // sum(ROW_TOKENS)
        least, most = ROW_TOKENS
        prompts = random_prompts(count, vocab_size=VOCABULARY, min_tokens=1, max_tokens=1, seed=2 * step)
        responses = random_prompts(count, vocab_size=VOCABULARY, min_tokens=least, max_tokens=most, seed=2 * step + 1)
        (-response_logprobs(model, pack_rows(prompts, responses), entropy="none").logprobs_M.mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - started)
    digest = hashlib.sha256()
    for weight in model.parameters():
        digest.update(weight.detach().contiguous().numpy().tobytes())
    return digest.hexdigest(), median(seconds)


if __name__ == "__main__":
    print(*train())
