"""`PYTHON benchmarks/vllm_worker.py REQUEST.json RESULT.json`, run by `benchmarks.vllm_export` with vLLM's own python.

Opens a model folder in vLLM and decodes prompts of token ids greedily. Imports nothing of this project.
"""

import json
import os
import resource
import sys
import time
from importlib.metadata import distributions
from pathlib import Path

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # one process: the configuration class is registered in it
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB

from transformers import AutoConfig, PreTrainedConfig
from vllm import LLM, SamplingParams


class BailingMoeConfig(PreTrainedConfig):
    """vLLM has the model but not its configuration class; every key of config.json becomes an attribute."""

    model_type = "bailing_moe"
    default_theta = 600000.0
    head_dim: int | None = None
    rope_parameters: dict | None = None


def decode(request: dict) -> dict:
    started = time.perf_counter()
    engine = LLM(
        request["folder"], skip_tokenizer_init=True, dtype="float32", enforce_eager=True,
        max_model_len=request["max_total_tokens"], seed=0,
    )  # fmt: skip
    opened = time.perf_counter()
    settings = SamplingParams(temperature=0.0, max_tokens=request["max_new_tokens"], logprobs=0, detokenize=False)
    outputs = engine.generate([{"prompt_token_ids": prompt} for prompt in request["prompts"]], settings)
    rows = [output.outputs[0] for output in outputs]
    return {
        "vllm": next(d.version for d in distributions() if d.metadata["Name"] in ("vllm", "vllm-cpu")),
        "token_ids": [list(row.token_ids) for row in rows],
        "logprobs": [
            [step[token].logprob for step, token in zip(row.logprobs, row.token_ids, strict=True)] for row in rows
        ],
        "open_seconds": opened - started,
        "decode_seconds": time.perf_counter() - opened,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    AutoConfig.register("bailing_moe", BailingMoeConfig)
    Path(sys.argv[2]).write_text(json.dumps(decode(json.loads(Path(sys.argv[1]).read_text()))))
