"""Judging by processes of this machine and by the workers of a Dask cluster on it, one and two of each.

The chunks are the same: answers to code in the sandbox, each another program, and formulas for Math-Verify. A pass before the measured
one starts every worker's sandbox and Math-Verify. Wall seconds say what a user waits and depend on the machine's other load; CPU
seconds are those of the processes that judge, with their children, and of this process, which reads answers and writes chunks.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from distributed import Client
from rich.console import Console

from benchmarks.process_tree import cpu_seconds
from data.schema import Problem
from flows.tables import rows_table
from stages.config import Runtime, Sampling
from stages.records.provenance import hardware
from stages.sampling.cluster import LOOPBACK
from stages.sampling.judges import Judges
from stages.sampling.judging import ANSWER_SCHEMA
from stages.sampling.requests import Chunk, Policy, write_chunk

ROOT = Path(__file__).resolve().parents[1]
NUM_CHUNKS, CHUNK_PROBLEMS, SAMPLES = 16, 8, 4
COUNTS = (1, 2, 1, 2)  # workers, twice each: the machine's load changes meanwhile
PROGRAM = "so </think>\n```python\ndef f(x):\n    return sum(i % {modulus} for i in range(20_000)) + x\n```"
FORMULA = "so </think> \\boxed{{\\frac{{{top}}}{{{bottom}}}}}"


def main() -> None:
    """Print one table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for turn, count in enumerate(COUNTS):
            rows.append(_row(f"{count} of this machine", Runtime(workers=count), Path(folder, f"here{turn}")))
            with _cluster(count) as address:
                there = Runtime(dask_address=address)
                rows.append(_row(f"{count} of a cluster", there, Path(folder, f"there{turn}")))
        written = {_bytes(path) for path in Path(folder).iterdir()}
    first = next(iter(rows))
    for row in rows:
        row["CPU, of the first"] = round(row["CPU s"] / first["CPU s"], 2)
        row["wall, of the first"] = round(row["wall s"] / first["wall s"], 2)
    title = f"judging {NUM_CHUNKS} chunks; {hardware(device='cpu')['processor']}; files equal: {len(written) == 1}"
    Console(width=140).print(rows_table(rows, title=title))


def _row(judges: str, runtime: Runtime, folder: Path) -> dict[str, Any]:
    with Judges(runtime) as pool:
        _judge(pool, _chunks(folder / "warm", count=4))
        chunks = _chunks(folder / "measured", count=NUM_CHUNKS)
        wall, cpu = time.perf_counter(), _cpu()
        _judge(pool, chunks)
        wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    answers = NUM_CHUNKS * CHUNK_PROBLEMS * SAMPLES
    return {"judges": judges, "answers": answers, "wall s": round(wall, 2), "CPU s": round(cpu, 2)}


def _cpu() -> float:
    """Of this process and all below it."""
    return time.process_time() + cpu_seconds(os.getpid())


def _judge(judges: Judges, chunks: Sequence[Chunk]) -> None:
    nobody: Callable[[Chunk], Future] = lambda _: Future()  # noqa: E731 - all are answered
    assert len(list(judges.judged(chunks, answer=nobody, most_answering=1))) == len(chunks)
    assert set(chunks[0].read()["status"].to_pylist()) == {"correct"}


def _chunks(folder: Path, *, count: int) -> list[Chunk]:
    """Answered ones: half code, half mathematics."""
    folder.mkdir(parents=True)
    return [_chunk(folder / f"{number}.arrow", number) for number in range(count)]


def _chunk(path: Path, number: int) -> Chunk:
    half = CHUNK_PROBLEMS // 2
    modulus = [2 + number * half + one for one in range(half)]
    code = [Problem(f"c{m}", "code", "rl", "", tests=_tests(m)) for m in modulus]
    maths = [Problem(f"m{m}", "math", "rl", "", answer=f"\\frac{{{m}}}{{{m + 1}}}") for m in modulus]
    responses = [PROGRAM.format(modulus=m) + f"\n{sample}" for m in modulus for sample in range(SAMPLES)]
    responses += [
        FORMULA.format(top=(sample + 1) * m, bottom=(sample + 1) * (m + 1))
        for m in modulus
        for sample in range(SAMPLES)
    ]
    samples = tuple(range(SAMPLES))
    policy, seeds = Policy.of(Path()), tuple(range(len(responses)))
    chunk = Chunk(path, policy, (*code, *maths), samples, seeds, Sampling(max_new_tokens=8))
    write_chunk(_answers(chunk, responses), chunk.answers)
    return chunk


def _tests(modulus: int) -> str:
    expected = sum(i % modulus for i in range(20_000))
    return json.dumps({"type": "call", "function": "f", "inputs": [[0], [1]], "outputs": [expected, expected + 1]})


def _answers(chunk: Chunk, responses: Sequence[str]) -> pa.Table:
    nothing: list[list[int]] = [[] for _ in responses]
    columns = {
        "problem_id": [problem.id for problem in chunk.asked],
        "domain": [problem.domain for problem in chunk.asked],
        "sample": [*chunk.samples] * len(chunk.problems),
        "prompt_ids": nothing,
        "response": list(responses),
        "token_ids": nothing,
        "logprobs": nothing,
        "seed": chunk.seeds,
        "entropy": [0.0] * len(responses),
        "num_tokens": [0] * len(responses),
        "truncated": [False] * len(responses),
    }
    return pa.table({name: columns[name] for name in ANSWER_SCHEMA.names}, schema=ANSWER_SCHEMA)


def _bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((folder / "measured").iterdir()))


@contextmanager
def _cluster(count: int) -> Iterator[str]:
    """Address of a scheduler with so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder, "scheduler.json")
        common = ["--scheduler-file", str(note), *LOOPBACK.split(), "--no-dashboard"]
        commands = [["scheduler", "--port", "0", *common]]
        commands += [["worker", *common, "--nthreads", "1", "--no-nanny"]] * count
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "dask", *command], env=environment, cwd=folder, stderr=subprocess.DEVNULL
            )
            for command in commands
        ]
        try:
            with Client(scheduler_file=str(note), timeout=120, set_as_default=False) as client:
                client.wait_for_workers(count, timeout=120)
            yield json.loads(note.read_text(encoding="utf-8"))["address"]
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(30)
