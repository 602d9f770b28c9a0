"""A tiny model that answers real problems, and an arm of RL over it: what the tests of sampling, training and RL share."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.domains import DOMAINS
from data.schema import Problem, table_from_problems, write_table
from data.sources.procedural import PHRASES, generate_problems, propose_trace
from ring_model.checkpoint import save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from ring_model.tokenizer import build_word_tokenizer
from stages.config import Objective, RlConfig, Runtime
from stages.sampling.scores import GRADED_SCHEMA

ROOT = Path(__file__).resolve().parents[2]
PROBLEMS = tuple(
    generate_problems(name="t", split="rl", num_problems=24, kinds={"chain": 0.4, "fit": 0.6}, levels={1: 1.0}, seed=0)
)
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_shared_experts": 1,
    "moe_intermediate_size": 8,
    "max_position_embeddings": 128,
}

MORE = {
    "num_hidden_layers": 2,
    "first_k_dense_replace": 1,
    "intermediate_size": 20,
    "use_qkv_bias": True,
    "use_bias": True,
    "tie_word_embeddings": True,
}
"""What others of the family have: a dense layer before the one with experts, biases, one matrix that embeds and gives logits."""


def save_tiny_model(folder: Path, problems: tuple[Problem, ...] = PROBLEMS, **sizes: int) -> Path:
    """A model that has learnt nothing, with a tokenizer of the problems' words."""
    texts = [propose_trace(row, styles={"long": 1.0}, slips={"long": 0.0}, seed=0) for row in problems]
    suffixes = [domain.prompt_suffix for domain in DOMAINS.values()]
    tokenizer = build_word_tokenizer([*texts, *(row.prompt for row in problems)], phrases=[*suffixes, *PHRASES])
    ids = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    save_model(initialise(BailingMoe(BailingMoeConfig(**{**SIZES, **sizes}, **ids)), seed=0), folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


# ---------------------------------------------------------------- an arm of RL


@pytest.fixture(scope="session")
def arm_inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What an arm takes: curation, sft and selection, as small as can be; every problem of the pool may be asked."""
    root = tmp_path_factory.mktemp("arm")
    write_table(table_from_problems(PROBLEMS), root / "curation" / "rl.parquet")
    write_table(table_from_problems(PROBLEMS[:4]), root / "curation" / "probe.parquet")
    (root / "sft").mkdir()
    (root / "sft" / "epoch-01").symlink_to(tiny_model)
    write_table(graded_rows({row.id: (1, 4) for row in PROBLEMS}), root / "selection" / "graded.parquet")
    (root / "selection" / "choice.json").write_text(json.dumps({"checkpoint": "epoch-01"}))
    return {name: root / name for name in ("curation", "sft", "selection")}


def graded_rows(
    solved: Mapping[str, tuple[int, int]], stronger: Mapping[str, tuple[int, int]] | None = None
) -> pa.Table:
    """graded.parquet of problems: id -> (correct, judged)."""
    asked = stronger or {}
    return pa.table(
        {
            "problem_id": list(solved),
            "num_correct": [correct for correct, _ in solved.values()],
            "num_samples": [judged for _, judged in solved.values()],
            "failures": [0] * len(solved),
            "stronger_correct": [asked[name][0] if name in asked else None for name in solved],
            "stronger_samples": [asked[name][1] if name in asked else None for name in solved],
        },
        schema=GRADED_SCHEMA,
    )


def arm_config(**values: Any) -> RlConfig:
    """One arm of two phases over the tiny model: five steps, four prompts of four samples, Phi = 40 tokens."""
    phases = (
        {"name": "one", "steps": 2, "mixture": {"math": 1.0}, "max_total_tokens": 64},
        {"name": "two", "steps": 3, "mixture": {"math": 0.5, "code": 0.5}, "max_total_tokens": 64},
    )
    defaults: dict[str, Any] = {
        "arms": ({"kind": "rl", "name": "arm", "phases": phases},),
        "prompts_per_step": 4,
        "samples_per_prompt": 4,
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 1},
        "sampling": {"max_new_tokens": 12, "chunk_problems": 2, "max_rows": 4},
    }
    return RlConfig(**{**defaults, **_with_objective(values)})


def _with_objective(values: dict[str, Any]) -> dict[str, Any]:
    """Parts of the objective may be given by themselves."""
    base = values.get("objective", Objective(token_budget=40, budget_scope="global"))
    own = {name: value for name, value in values.items() if name in Objective.model_fields}
    shares = {"entropy_coefficient": 1e-2, "kl_coefficient": 1e-2, "balance_coefficient": 1e-2, "z_coefficient": 1e-3}
    rest = {name: value for name, value in values.items() if name not in own}
    return {**rest, "objective": {**shares, **base.stated, **own}}


@dataclass(frozen=True)
class Ended:
    """An arm's process that ended."""

    code: int
    out: Path
    events: list[dict[str, Any]]
    errors: str

    @property
    def error(self) -> str:
        return next((event["text"] for event in self.events if event["event"] == "error"), "")


def arm_job(config: RlConfig, inputs: Mapping[str, Path], out: Path, *, ranks: int = 1, **runtime: Any) -> Path:
    """The job file of an arm, as a chain writes it."""
    (out / ".state").mkdir(parents=True, exist_ok=True)
    events = out.with_name(f"{out.name}.events.jsonl")
    events.touch()
    job = {
        "stage": "rl",
        "module": "stages.rl",
        "config": config.model_dump(mode="json"),
        "inputs": {name: str(folder) for name, folder in inputs.items()},
        "runtime": Runtime(**{"workers": 1, "checkpoint_seconds": 0, **runtime}).model_dump(mode="json"),
        "ranks": ranks,
        "out": str(out),
        "events": str(events),
        "parent": os.getpid(),
    }
    path = out.with_name(f"{out.name}.job.json")
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


def start_arm(job: Path, errors: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    """The process of a stage, as a chain starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "stages.worker", str(job)]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=job.parent,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        text=True,
        start_new_session=True,
    )


def run_arm(config: RlConfig, inputs: Mapping[str, Path], out: Path, *, ranks: int = 1, **runtime: Any) -> Ended:
    """An arm from where it stands to its end, in processes of its own."""
    job = arm_job(config, inputs, out, ranks=ranks, **runtime)
    process = start_arm(job)
    _, errors = process.communicate(timeout=300)
    return ended(process.returncode, out, errors)


def ended(code: int, out: Path, errors: str) -> Ended:
    lines = out.with_name(f"{out.name}.events.jsonl").read_text(encoding="utf-8").splitlines()
    return Ended(code, out, [json.loads(line) for line in lines], errors)


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    """Events that a `StageLog` wrote."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]
