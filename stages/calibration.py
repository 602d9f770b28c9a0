"""How fast this machine trains and decodes a model of a recipe's size: `python -m stages.calibration SIZES`.

SIZES is the JSON of `base.model`. Prints {"train": seconds, "decode": seconds}: CPU seconds of one training step of 8 rows of
88 tokens, and of one decoding step of 64 rows, each the median of as many as fit into a second and a half of one core. CPU
seconds, so that what else the machine does changes them little.
"""

import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

from ring_model.configuration import BailingMoeConfig
from ring_model.engine import die_with_parent
from ring_model.generation import generate
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import pack_rows, response_logprobs

SECONDS = 1.5  # of each kind of step
VOCABULARY = 512
ROWS, PROMPT_TOKENS, RESPONSE_TOKENS = 8, 24, 64
DECODED_ROWS, DECODED_TOKENS = 64, 16


def calibrate(sizes: dict[str, Any]) -> dict[str, float]:
    """CPU seconds of a step of training and of decoding, with one thread."""
    torch.set_num_threads(1)
    config = BailingMoeConfig(**sizes, vocab_size=VOCABULARY, eos_token_id=0, pad_token_id=0)
    model = initialise(BailingMoe(config), seed=0)
    return {
        "train": _median_seconds(_training_step(model)),
        "decode": _median_seconds(_decoding(model)) / DECODED_TOKENS,
    }


def _median_seconds(work: Callable[[], object]) -> float:
    work()  # the first call allocates
    seconds: list[float] = []
    while sum(seconds) < SECONDS:
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return median(seconds)


def _texts(rows: int, tokens: int) -> list[list[int]]:
    return np.random.default_rng(0).integers(1, VOCABULARY, size=(rows, tokens)).tolist()


def _training_step(model: BailingMoe) -> Callable[[], None]:
    rows = pack_rows(_texts(ROWS, PROMPT_TOKENS), _texts(ROWS, RESPONSE_TOKENS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        (-response_logprobs(model, rows, entropy="none").logprobs_M.mean()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _decoding(model: BailingMoe) -> Callable[[], object]:
    prompts = _texts(DECODED_ROWS, PROMPT_TOKENS)
    seeds = range(DECODED_ROWS)
    return lambda: generate(model, prompts, seeds=seeds, max_new_tokens=DECODED_TOKENS, temperature=1.0, eos_id=0)


if __name__ == "__main__":
    die_with_parent()
    sys.stdout.write(json.dumps(calibrate(json.loads(sys.argv[1]))) + "\n")
