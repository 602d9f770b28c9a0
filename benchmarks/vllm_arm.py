"""`python -m benchmarks vllm_arm --vllm-python PATH [--steps N]`: one arm of the smoke recipe, drawn by each engine of rl.sampling.

The chain of the recipe is run up to the choice of the checkpoint, with sizes that vLLM's kernels for CPUs take (heads of 32 columns). Then
its arm `mixed` is trained as a chain trains it, once by each engine, from that checkpoint over the same problems. A row an engine: seconds
of a step's sampling, the largest and the mean difference between the log-probabilities in the journal and those of the trainer on the
same weights, and the memory of vLLM's process beside the others. vLLM lives in an environment of its own (docs/rollouts.md).

Exit code 1 where an arm did not end well, or a log-probability in a journal is more than 1e-3 from the trainer's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

from rich.console import Console

from benchmarks.process_tree import watched
from flows.tables import rows_table
from flows.worker_process import worker_environment
from stages.config import RlConfig, Runtime
from stages.recipe import load_recipe
from stages.training.ledger import STEPS as STEPS_FILE

SIZES = ("base.model.num_attention_heads=2", "base.model.num_key_value_heads=1")
ENGINES = ("workers", "transformers", "vllm")
ARM = "mixed"
LIMIT = 1e-3


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("VLLM_PYTHON", "")
    parser.add_argument("--vllm-python", default=default, required=not default, help="or set VLLM_PYTHON")
    parser.add_argument("--steps", type=int, help="of the arm; default: the recipe's")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--home", type=Path, help="folder that keeps the chain and the arms; default: one that goes")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        home = asked.home or Path(scratch)
        inputs = run_chain(home)
        rows = [run_arm(engine, inputs, home, python=asked.vllm_python, steps=asked.steps) for engine in asked.engines]
    title = f"arm {ARM} of the smoke recipe, by the engine that draws its rollouts"
    Console(width=160).print(rows_table(rows, title=title))
    return 0 if all(row["as asked"] for row in rows) else 1


def run_chain(home: Path) -> dict[str, Path]:
    """The results that an arm takes, by stage."""
    overrides = [word for value in SIZES for word in ("--set", value)]
    command = [sys.executable, "-m", "flows.cli", "run", "smoke", "--until", "selection", "--json", *overrides]
    environment = {**os.environ, "RING_HOME": str(home / "ring")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    document = json.loads(done.stdout)
    return {one["stage"]: Path(one["artifact"]) for one in document["stages"]}


def arm_config(engine: str, *, steps: int | None) -> RlConfig:
    """The recipe's, with one engine."""
    resolved = load_recipe("smoke", overrides=(*SIZES, f"rl.sampling.engine={engine}"))
    config = resolved.recipe.rl.for_arm(ARM)
    if steps is None:
        return config
    arm = config.arms[0]
    phase = arm.phases[0].model_copy(update={"steps": steps})
    return config.model_copy(update={"arms": (arm.model_copy(update={"phases": (phase,)}),)})


def run_arm(engine: str, inputs: dict[str, Path], home: Path, *, python: str, steps: int | None) -> dict:
    """Train the arm in its own process, as a chain starts it; returns the engine's row of the table."""
    out = home / f"arm-{engine}"
    (out / ".state").mkdir(parents=True)
    events = out.with_suffix(".jsonl")
    events.touch()
    runtime, config = Runtime(vllm_python=python, checkpoint_seconds=3600), arm_config(engine, steps=steps)
    job = {
        "stage": "rl",
        "module": "stages.rl",
        "config": config.model_dump(mode="json"),
        "inputs": {name: str(inputs[name]) for name in ("curation", "sft", "selection")},
        "runtime": runtime.model_dump(mode="json"),
        "ranks": 1,
        "out": str(out),
        "events": str(events),
        "parent": os.getpid(),
    }
    path = out.with_suffix(".job")
    path.write_text(json.dumps(job), encoding="utf-8")
    started = time.monotonic()
    with watched(out / STEPS_FILE) as progress:
        done = subprocess.run(
            [sys.executable, "-m", "stages.worker", str(path)],
            stdout=subprocess.DEVNULL,
            env=worker_environment(runtime),
        )
    seconds = round(time.monotonic() - started, 1)
    if done.returncode:
        sys.stderr.write(f"{engine}: exit code {done.returncode}; {_error(events)}\n")
        return {"engine": engine, "as asked": False}
    cpu_seconds = median(end - start for start, end in pairwise(progress.seconds))
    whole = {"CPU s a step": round(cpu_seconds, 2), "MB": progress.megabytes, "arm s": seconds}
    return {"engine": engine, **_figures(out, events), **whole}


def _figures(out: Path, events: Path) -> dict:
    """What the arm's ledger and events say."""
    ledger = [json.loads(line) for line in (out / STEPS_FILE).read_text().splitlines()]
    steps = [line["values"] for line in _events(events, "metrics") if "response/new_tokens" in line["values"]]
    furthest = max(row["mismatch/max_abs_difference"] for row in ledger)
    opened = [step["sampler/open_ms"] / 1e3 for step in steps if "sampler/open_ms" in step]
    return {
        "steps": len(ledger),
        "tokens a step": round(mean(step["response/new_tokens"] for step in steps)),
        "draw s": round(median(step["time/generate_seconds"] for step in steps), 2),
        "weights s": round(median(opened), 2) if opened else "",
        "step s": round(median(step["time/wait_seconds"] + step["time/train_seconds"] for step in steps), 2),
        "max dlogp": f"{furthest:.1e}",
        "mean dlogp": f"{mean(row['mismatch/mean_abs_difference'] for row in ledger):.1e}",
        "reward": round(mean(step["reward/mean"] for step in steps), 3),
        "as asked": furthest < LIMIT,
    }


def _error(events: Path) -> str:
    return "; ".join(line["text"] for kind in ("error", "failure") for line in _events(events, kind))


def _events(path: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]
