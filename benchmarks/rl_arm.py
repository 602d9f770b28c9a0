"""An arm of RL as a chain runs it against TRL's `GRPOTrainer`: CPU seconds of a step, peak memory, and the shares of judge and records.

Both start from one checkpoint of the laptop recipe's sizes, taught on generated traces for some seconds, and train by GRPO (eq. 1) with
a KL term to that checkpoint: the same prompts in the same order, as many samples of each, at most as many tokens, the same judge. Ours
runs in its own processes: trainer, sampler, judge, with journal, ledger and published weights. One thread a process; the allocator's
settings are those of a chain on both sides.

A side runs for N and for 2 N steps; the difference, which leaves out start and end, is N steps. Memory is that of all processes of a
side together, shared pages once. TRL is in the extra `bench`; without it its row is left out.
"""

import importlib.util
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pyarrow as pa
import torch
from rich.console import Console

from benchmarks import references
from benchmarks.peak import PeakOfTree
from benchmarks.throughput import patched_environment
from data.domains import DOMAINS, Judge
from data.schema import PROBLEM_SCHEMA, Problem, problems_from_table, read_table, table_from_problems, write_table
from data.sources.procedural import PHRASES, generate_problems, propose_trace
from flows.launch import worker_environment
from flows.tables import rows_table
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

STEPS = 8  # N
AGAIN = 20  # times that a step's verdicts, and its records, are made anew to be measured
TAUGHT, EPOCHS, BATCH_ROWS = 1000, 5, 16  # traces that the checkpoint has seen, and how
LEARNING_RATE = 1e-5  # of RL: so small that responses stay as long as they are


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _in_a_process(prepare, folder)
        ours = measured(lambda num_steps: train_arm(folder, num_steps))
        rows = [_row("our arm", ours)]
        for name, part in (("of it the judge", judge), ("of it the choice of tokens and the journal", keep_records)):
            seconds = measured(lambda num_steps, part=part: _in_a_process(part, folder, num_steps)).seconds / AGAIN
            rows.append({"what": name, "CPU s a step": round(seconds, 3), "share": f"{seconds / ours.seconds:.1%}"})
        if importlib.util.find_spec("trl"):
            trl = measured(lambda num_steps: _in_a_process(train_by_trl, folder, num_steps))
            rows.append(_row("TRL GRPOTrainer", trl) | {"ours is times as fast": round(trl.seconds / ours.seconds, 2)})
        else:
            sys.stderr.write("TRL is not installed, so its row is left out; pip install -e '.[bench]'\n")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    whole = [{name: row.get(name, "") for name in columns} for row in rows]
    Console().print(rows_table(whole, title=f"a step of {_prompts_and_samples()}, one thread a process"))


def _row(name: str, side: "Measured") -> dict:
    seconds, tokens = round(side.seconds, 3), round(side.tokens)
    return {"what": name, "CPU s a step": seconds, "tokens a step": tokens, "MB": side.megabytes}


def _prompts_and_samples() -> str:
    config = arm_config(STEPS)
    return f"{config.prompts_per_step} prompts x {config.samples_per_prompt} samples"


# ---------------------------------------------------------------- measuring


@dataclass(frozen=True, slots=True)
class Measured:
    """A side."""

    seconds: float  # CPU seconds of a step
    tokens: float  # generated in a step; 0 where it generates none
    megabytes: int  # its peak


def measured(side: Callable[[int], float]) -> Measured:
    """Run a side, which returns the tokens that it generated in so many steps, for N and for 2 N steps."""
    fewer, more = (_run(side, num_steps) for num_steps in (STEPS, 2 * STEPS))
    seconds, tokens = more.seconds - fewer.seconds, more.tokens - fewer.tokens
    return Measured(seconds / STEPS, tokens / STEPS, max(more.megabytes, fewer.megabytes))


def _run(side: Callable[[int], float], num_steps: int) -> Measured:
    before = _seconds_of_children()
    with PeakOfTree() as peak:
        tokens = side(num_steps)
    return Measured(_seconds_of_children() - before, tokens, peak.megabytes)


def _seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _in_a_process(function: Callable, *arguments: object):
    """What a function returns in a process of its own, in the environment of a chain's stages."""
    context = multiprocessing.get_context("spawn")
    with patched_environment(worker_environment(Runtime())), ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


# ---------------------------------------------------------------- what both sides start from


def arm_config(num_steps: int) -> RlConfig:
    """The laptop recipe's arm `mixed` with GRPO in place of C3PO, so that both sides train on every response."""
    stated = load_recipe("laptop").recipe.rl.for_arm("mixed").model_dump(mode="json", exclude_unset=True)
    phase = stated["arms"][0]["phases"][0] | {"steps": num_steps}
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


def train_arm(folder: Path, num_steps: int) -> float:
    """The arm in its own process, as a chain starts it."""
    out = _arm_folder(folder, num_steps)
    (out / ".state").mkdir(parents=True)
    events = out.with_suffix(".jsonl")
    events.touch()
    job = {
        "stage": "rl",
        "module": "stages.rl",
        "config": arm_config(num_steps).model_dump(mode="json"),
        "inputs": {name: str(folder / name) for name in ("curation", "sft", "selection")},
        "runtime": Runtime(checkpoint_seconds=20.0).model_dump(mode="json"),
        "ranks": 1,
        "out": str(out),
        "events": str(events),
        "parent": os.getpid(),
    }
    path = out.with_suffix(".job")
    path.write_text(json.dumps(job))
    command = [sys.executable, "-m", "stages.worker", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=worker_environment(Runtime()))
    return float(sum(sum(table["num_tokens"].to_pylist()) for table in _steps(folder, num_steps)))


def _arm_folder(folder: Path, num_steps: int) -> Path:
    return folder / f"arm-{num_steps}"


def _steps(folder: Path, num_steps: int) -> list[pa.Table]:
    """The first steps of the journal of the longer arm where that has run."""
    longer = Journal(_arm_folder(folder, 2 * STEPS))
    journal = longer if longer.has(num_steps) else Journal(_arm_folder(folder, num_steps))
    return [journal.read(step) for step in range(1, num_steps + 1)]


def _problems(folder: Path) -> dict[str, Problem]:
    table = read_table(folder / "curation" / "rl.parquet", PROBLEM_SCHEMA)
    return {problem.id: problem for problem in problems_from_table(table)}


def train_by_trl(folder: Path, num_steps: int) -> float:
    """TRL on the prompts of our arm's journal, in their order."""
    torch.set_num_threads(1)
    config, problems, checkpoint = arm_config(num_steps), _problems(folder), folder / "sft" / "epoch-01"
    tokenizer = Tokenizer.from_folder(checkpoint)
    asked = [id_ for table in _steps(folder, num_steps) for id_ in table["problem_id"].to_pylist()]
    asked = asked[:: config.samples_per_prompt]
    tokens = 0

    with Judge() as judging:

        def reward(completion_ids: list[list[int]], problem_id: list[str], **_: object) -> list[float]:
            nonlocal tokens
            tokens += sum(map(len, completion_ids))
            ended = [ids[:-1] if ids[-1] == tokenizer.eos_id else ids for ids in completion_ids]
            answered = [(tokenizer.decode(ids), problems[id_]) for ids, id_ in zip(ended, problem_id, strict=True)]
            return [verdict.score for verdict in judging.verify(answered)]

        references.train_by_trl(
            checkpoint,
            [{"prompt": _turn(problems[id_]), "problem_id": id_} for id_ in asked],
            reward=reward,
            num_samples=config.samples_per_prompt,
            num_prompts=config.prompts_per_step,
            max_new_tokens=config.sampling.max_new_tokens,
            num_steps=num_steps,
            learning_rate=LEARNING_RATE,
            beta=config.objective.kl_coefficient,
            loss_type="grpo",
            shuffle_dataset=False,
        )
    return float(tokens)


def _turn(problem: Problem) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt_text(problem)}]


def judge(folder: Path, num_steps: int) -> float:
    """The verdicts on what the arm sampled, made `AGAIN` times."""
    problems = _problems(folder)
    with Judge() as judging:
        for table in _steps(folder, num_steps) * AGAIN:
            texts, ids = _columns(table, "response", "problem_id")
            judging.verify([(text, problems[id_]) for text, id_ in zip(texts, ids, strict=True)])
    return 0.0


def keep_records(folder: Path, num_steps: int) -> float:
    """The choice of tokens, and the journal written and read, of what the arm sampled, made `AGAIN` times."""
    journal, config = Journal(folder / f"again-{num_steps}"), arm_config(num_steps)
    for step, table in enumerate(_steps(folder, num_steps) * AGAIN, start=1):
        journal.write(step, with_choice(table, step=step, config=config))
        journal.read(step)
    return 0.0


def _columns(table: pa.Table, *names: str) -> list[list]:
    return [table[name].to_pylist() for name in names]


if __name__ == "__main__":
    main()
