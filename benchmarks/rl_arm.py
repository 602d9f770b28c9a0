"""An arm of RL as a chain runs it against TRL's `GRPOTrainer`: CPU seconds of a step, peak memory, and the shares of judge and records.

Both start from one checkpoint of the laptop recipe's sizes, taught on generated traces for some seconds, and train by GRPO (eq. 1) with
a KL term to that checkpoint: the same prompts in the same order, as many samples of each, at most as many tokens, the same judge. Ours
runs in its own processes: trainer, sampler, judge, with journal, ledger and published weights. One thread a process; the allocator's
settings are those of a chain on both sides.

Both run for some steps, of which the first ones, with what comes before, do not count; a figure is the median of the others. CPU
seconds and memory are those of all processes of a side together, looked at from outside as each step ends; a page that several share
counts once. TRL is in the extra `bench`; without it its row is left out.
"""

import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median

import pyarrow as pa
import torch
from rich.console import Console

from benchmarks import references
from benchmarks.process_tree import Progress, cpu_seconds, watched
from benchmarks.throughput import patched_environment
from data.domains import DOMAINS, Judge
from data.schema import PROBLEM_SCHEMA, Problem, problems_from_table, read_table, table_from_problems, write_table
from data.sources.procedural import PHRASES, generate_problems, propose_trace
from flows.tables import rows_table
from flows.worker_process import worker_environment
from ring_model.checkpoint import save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import pack_rows, response_logprobs
from ring_model.tokenizer import Tokenizer, build_word_tokenizer
from stages.config import RlConfig, Runtime
from stages.recipe import load_recipe
from stages.rl.samples import Journal, with_choice
from stages.sampling.prompting import prompt_ids, prompt_text
from stages.sampling.scores import GRADED_SCHEMA
from stages.training.ledger import STEPS as STEPS_FILE

STEPS, UNCOUNTED = 14, 3
AGAIN = 5  # times that each step's verdicts, and its records, are made anew to be measured
TAUGHT, EPOCHS, BATCH_ROWS = 1000, 5, 16  # traces that the checkpoint has seen, and how
TRL_STEPS = "trl-steps.txt"  # a line a step
LEARNING_RATE = 1e-5  # of RL: so small that responses stay as long as they are


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        in_a_process(prepare, folder)
        with watched(folder / "arm" / STEPS_FILE) as ours:
            train_arm(folder)
        rows = [_row("our arm", ours, num_tokens=_tokens(folder))]
        for name, part in (("of it the judge", judge), ("of it the choice of tokens and the journal", keep_records)):
            seconds = in_a_process(part, folder)
            rows.append(
                {"what": name, "CPU s a step": round(seconds, 3), "share": f"{seconds / step_seconds(ours):.1%}"}
            )
        if importlib.util.find_spec("trl"):
            with watched(folder / TRL_STEPS) as trl:
                num_tokens = in_a_process(train_by_trl, folder)
            times = round(step_seconds(trl) / step_seconds(ours), 2)
            rows.append(_row("TRL GRPOTrainer", trl, num_tokens=num_tokens) | {"ours is times as fast": times})
        else:
            sys.stderr.write("TRL is not installed, so its row is left out; pip install -e '.[bench]'\n")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    whole = [{name: row.get(name, "") for name in columns} for row in rows]
    Console().print(rows_table(whole, title=f"a step of {_prompts_and_samples()}, one thread a process"))


def step_seconds(progress: Progress) -> float:
    """CPU seconds of a step."""
    return median(end - start for start, end in pairwise(progress.seconds[UNCOUNTED - 1 :]))


def _row(name: str, progress: Progress, *, num_tokens: int) -> dict:
    seconds, tokens = round(step_seconds(progress), 3), round(num_tokens / STEPS)
    return {"what": name, "CPU s a step": seconds, "tokens a step": tokens, "MB": progress.megabytes}


def _prompts_and_samples() -> str:
    config = arm_config()
    return f"{config.prompts_per_step} prompts x {config.samples_per_prompt} samples"


def in_a_process(function: Callable, *arguments: object):
    """What a function returns in a process of its own, in the environment of a chain's stages."""
    context = multiprocessing.get_context("spawn")
    with patched_environment(worker_environment(Runtime())), ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


# ---------------------------------------------------------------- what both sides start from


def arm_config() -> RlConfig:
    """The laptop recipe's arm `mixed` with GRPO in place of C3PO, so that both sides train on every response."""
    stated = load_recipe("laptop").recipe.rl.for_arm("mixed").model_dump(mode="json", exclude_unset=True)
    phase = stated["arms"][0]["phases"][0] | {"steps": STEPS}
    return RlConfig(
        **stated
        | {
            "objective": {"kind": "grpo", "entropy_coefficient": 0.0, "balance_coefficient": 0.0, "z_coefficient": 0.0},
            "optimizer": {"learning_rate": LEARNING_RATE, "warmup_steps": 0},
            "min_solve_rate": 0.0,
            "probe_every": 0,
            "arms": [stated["arms"][0] | {"phases": [phase]}],
        }
    )


def prepare(folder: Path) -> None:
    """The folders that an arm reads: problems, and a checkpoint that has learnt how an answer looks."""
    torch.set_num_threads(1)
    problems = generate_problems(
        name="pool", split="rl", num_problems=TAUGHT, kinds={"chain": 0.24, "lin": 0.16, "list": 0.24, "fit": 0.16, "science": 0.2},
        levels={2: 0.4, 3: 0.6}, seed=0,
    )  # fmt: skip
    traces = [propose_trace(row, styles={"long": 1.0}, slips={"long": 0.0}, seed=0) for row in problems]
    suffixes = [domain.prompt_suffix for domain in DOMAINS.values()]
    tokenizer = build_word_tokenizer([*traces, *(row.prompt for row in problems)], phrases=[*suffixes, *PHRASES])
    model = _taught(tokenizer, problems, traces)
    checkpoint = folder / "sft" / "epoch-01"
    save_model(model, checkpoint)
    tokenizer.save(checkpoint)
    write_table(table_from_problems(problems), folder / "curation" / "rl.parquet")
    write_table(_half_solved(problems), folder / "selection" / "graded.parquet")
    (folder / "selection" / "choice.json").write_text(json.dumps({"checkpoint": "epoch-01"}))


def _taught(tokenizer: Tokenizer, problems: Sequence[Problem], traces: Sequence[str]) -> BailingMoe:
    sizes = load_recipe("laptop").recipe.base.model.model_dump()
    ids = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    model = initialise(BailingMoe(BailingMoeConfig(**sizes, **ids)), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), fused=True)
    for rows in _batches(len(problems)):
        prompts = [prompt_ids(tokenizer, problems[row]) for row in rows]
        responses = [[*tokenizer.encode(traces[row]), tokenizer.eos_id] for row in rows]
        (-response_logprobs(model, pack_rows(prompts, responses), entropy="none").logprobs_M.mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model


def _batches(num_rows: int) -> Iterator[list[int]]:
    for epoch in range(EPOCHS):
        order = list(range(num_rows))
        Random(epoch).shuffle(order)
        for start in range(0, num_rows, BATCH_ROWS):
            yield order[start : start + BATCH_ROWS]


def _half_solved(problems: Sequence[Problem]) -> pa.Table:
    """Grades with which the pool keeps every problem."""
    values = {"problem_id": [row.id for row in problems], "num_correct": 2, "num_samples": 4, "failures": 0}
    columns = {name: value if isinstance(value, list) else [value] * len(problems) for name, value in values.items()}
    missing = {name: [None] * len(problems) for name in GRADED_SCHEMA.names if name not in columns}
    return pa.table({**columns, **missing}, schema=GRADED_SCHEMA)


# ---------------------------------------------------------------- sides


def train_arm(folder: Path) -> None:
    """The arm in its own process, as a chain starts it."""
    out = folder / "arm"
    (out / ".state").mkdir(parents=True)
    events = out.with_suffix(".jsonl")
    events.touch()
    job = {
        "stage": "rl",
        "module": "stages.rl",
        "config": arm_config().model_dump(mode="json"),
        "inputs": {name: str(folder / name) for name in ("curation", "sft", "selection")},
        "runtime": Runtime(checkpoint_seconds=20.0).model_dump(mode="json"),
        "ranks": 1,
        "out": str(out),
        "events": str(events),
        "parent": os.getpid(),
    }
    path = out.with_suffix(".job")
    path.write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-m", "stages.worker", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=worker_environment(Runtime()))


def _steps(folder: Path) -> list[pa.Table]:
    """The arm's journal."""
    journal = Journal(folder / "arm")
    return [journal.read(step) for step in range(1, STEPS + 1)]


def _tokens(folder: Path) -> int:
    return sum(sum(table["num_tokens"].to_pylist()) for table in _steps(folder))


def _problems(folder: Path) -> dict[str, Problem]:
    table = read_table(folder / "curation" / "rl.parquet", PROBLEM_SCHEMA)
    return {problem.id: problem for problem in problems_from_table(table)}


def train_by_trl(folder: Path) -> int:
    """TRL on the prompts of our arm's journal, in their order; returns the tokens that it generated, and writes a line a step."""
    torch.set_num_threads(1)
    config, problems, checkpoint = arm_config(), _problems(folder), folder / "sft" / "epoch-01"
    tokenizer = Tokenizer.from_folder(checkpoint)
    asked = [id_ for table in _steps(folder) for id_ in table["problem_id"].to_pylist()][:: config.samples_per_prompt]
    num_tokens = 0
    with Judge() as judging, (folder / TRL_STEPS).open("w", encoding="utf-8") as lines:

        def reward(completion_ids: list[list[int]], problem_id: list[str], **_: object) -> list[float]:
            nonlocal num_tokens
            num_tokens += sum(map(len, completion_ids))
            texts = [tokenizer.decode(ids[:-1] if ids[-1] == tokenizer.eos_id else ids) for ids in completion_ids]
            asked_now = [problems[id_] for id_ in problem_id]
            return [verdict.score for verdict in judging.verify(list(zip(texts, asked_now, strict=True)))]

        references.train_by_trl(
            checkpoint,
            [{"prompt": _turn(problems[id_]), "problem_id": id_} for id_ in asked],
            reward=reward,
            num_samples=config.samples_per_prompt,
            num_prompts=config.prompts_per_step,
            max_new_tokens=config.sampling.max_new_tokens,
            num_steps=STEPS,
            learning_rate=LEARNING_RATE,
            beta=config.objective.kl_coefficient,
            loss_type="grpo",
            shuffle_dataset=False,
            callbacks=[references.AtEachStep(lambda: print(file=lines, flush=True))],
        )
    return num_tokens


def _turn(problem: Problem) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt_text(problem)}]


def judge(folder: Path) -> float:
    """CPU seconds of the verdicts on what a step of the arm sampled."""
    problems = _problems(folder)
    with Judge() as judging:
        answered = [
            [(text, problems[id_]) for text, id_ in zip(*_columns(table, "response", "problem_id"), strict=True)]
            for table in _steps(folder)
        ]
        judging.verify(answered[0])  # starts its processes
        return _seconds(lambda: [judging.verify(some) for some in answered])


def keep_records(folder: Path) -> float:
    """CPU seconds of the choice of tokens of a step, and of its journal, written and read."""
    journal, config, tables = Journal(folder / "again"), arm_config(), _steps(folder)

    def keep() -> None:
        for step, table in enumerate(tables, start=1):
            journal.write(step, with_choice(table, step=step, config=config))
            journal.read(step)

    keep()
    return _seconds(keep)


def _seconds(all_steps: Callable[[], object]) -> float:
    """CPU seconds a step, of this process and those below it."""
    before = time.process_time() + cpu_seconds(os.getpid())
    for _ in range(AGAIN):
        all_steps()
    return (time.process_time() + cpu_seconds(os.getpid()) - before) / AGAIN / STEPS


def _columns(table: pa.Table, *names: str) -> list[list]:
    return [table[name].to_pylist() for name in names]


if __name__ == "__main__":
    main()
