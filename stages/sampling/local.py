"""Answers of models to problems, sampled and judged by worker processes; shared by selection and evaluation.

In: jobs (a model, problems, greedy or K samples each). Out: one table of `SAMPLE_SCHEMA` rows per job, in the order of the
problems, then of the samples.

A job is cut into chunks of a fixed number of problems. A chunk is a pure function of the model, its problems and seeds, so the
result does not depend on the number of workers; it is written to `state` when done, so after a kill only missing ones run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from data.schema import SAMPLE_SCHEMA, Problem, read_table, write_table
from ring_model.checkpoint import load_model
from ring_model.modelling import BailingMoe
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime, Sampling
from stages.sampling.answering import GREEDY, Asked, answer
from stages.sampling.workers import Worker, work_through
from stages.seeds import derive_seed
from stages.stage import StageLog


@dataclass(frozen=True, slots=True)
class SamplingJob:
    """One model answers a list of problems."""

    name: str  # folder of its chunks; unique among the jobs of a stage
    model: Path  # model folder
    problems: tuple[Problem, ...]
    num_samples: int  # per problem; 0 means one greedy response
    sampling: Sampling
    seed: int  # with the problem's id and the sample's number it seeds a response

    @property
    def samples(self) -> tuple[int, ...]:
        """The `sample` numbers of each problem."""
        return tuple(range(self.num_samples)) or (GREEDY,)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A unit of work: consecutive problems of a job, and the file that holds the result."""

    job: SamplingJob
    part: Path

    @property
    def num_responses(self) -> int:
        """Rows of the result."""
        return len(self.job.problems) * len(self.job.samples)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Tables by job, and how long the workers took for what was not there yet."""

    tables: dict[str, pa.Table]
    timings: dict[str, float]  # seconds summed over workers: generate, judge


def sample_and_judge(jobs: Sequence[SamplingJob], *, state: Path, runtime: Runtime, log: StageLog) -> Sampled:
    """Answer and judge every job with `runtime.workers` processes. `state` keeps finished chunks until the stage is sealed."""
    chunks = [chunk for job in jobs for chunk in _chunks(job, state / "samples" / job.name)]
    missing = [chunk for chunk in chunks if not chunk.part.exists()]
    if len(missing) < len(chunks):
        log.resumed(f"{len(chunks) - len(missing)} of {len(chunks)} chunks of responses are there")
    timings = _run_chunks(missing, chunks, runtime=runtime, log=log)
    tables = {job.name: _joined(job, chunks) for job in jobs}
    return Sampled(tables, timings)


def _chunks(job: SamplingJob, folder: Path) -> Iterator[Chunk]:
    size = job.sampling.chunk_problems
    for start in range(0, len(job.problems), size):
        problems = job.problems[start : start + size]
        part = SamplingJob(job.name, job.model, problems, job.num_samples, job.sampling, job.seed)
        yield Chunk(part, folder / f"{start:07d}.parquet")


def _joined(job: SamplingJob, chunks: Sequence[Chunk]) -> pa.Table:
    parts = [read_table(chunk.part, SAMPLE_SCHEMA) for chunk in chunks if chunk.job.name == job.name]
    return pa.concat_tables(parts).combine_chunks() if parts else SAMPLE_SCHEMA.empty_table()


def _run_chunks(
    missing: Sequence[Chunk], chunks: Sequence[Chunk], *, runtime: Runtime, log: StageLog
) -> dict[str, float]:
    total = sum(chunk.num_responses for chunk in chunks)
    done = total - sum(chunk.num_responses for chunk in missing)
    seconds = {"generate": 0.0, "judge": 0.0}
    for chunk in missing:
        chunk.part.parent.mkdir(parents=True, exist_ok=True)
    for position, spent in work_through(_answer, missing, runtime=runtime):
        for activity, value in spent.items():
            seconds[activity] += value
        done += missing[position].num_responses
        log.progress(done, total, unit="responses", detail=missing[position].job.name)
    return seconds


# ---------------------------------------------------------------- inside a worker


def _answer(worker: Worker, chunk: Chunk) -> dict[str, float]:
    """Write the chunk's part; returns the seconds spent."""
    job = chunk.job
    model, tokenizer = _load(worker, job.model)
    asked = [
        Asked(problem, sample, seed=derive_seed(job.seed, problem.id, sample))
        for problem in job.problems
        for sample in job.samples
    ]
    answers = answer(
        model, asked, tokenizer=tokenizer, judge=worker.judge, sampling=job.sampling, max_rows=worker.runtime.max_rows
    )
    write_table(answers.table(), chunk.part)
    return answers.seconds


def _load(worker: Worker, folder: Path) -> tuple[BailingMoe, Tokenizer]:
    """The model and tokenizer of a folder; the process keeps the last ones."""
    if worker.kept.get("folder") != folder:
        torch.set_num_threads(worker.runtime.threads)
        model, tokenizer = load_model(folder, device=worker.runtime.device), Tokenizer.from_folder(folder)
        worker.kept.update(folder=folder, model=model, tokenizer=tokenizer)
    return worker.kept["model"], worker.kept["tokenizer"]
