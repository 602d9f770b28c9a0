"""Sampling by other models than ours: the same bytes for any number of workers, after a kill only what is missing."""

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from data.schema import SAMPLE_SCHEMA, Problem
from stages.config import Runtime, Sampling
from stages.sampling.causal_lm import CausalLmSampler, answer_chunk
from stages.sampling.judging import judge_chunk
from stages.sampling.prompting import prompt_text
from stages.sampling.requests import Chunk, Policy, SamplingJob
from stages.sampling.sampler import sample_and_judge
from stages.sampling.workers import Worker
from stages.stage import StageLog
from tests.ring_model.tiny_causal_lm import save_causal_lm
from tests.stages.conftest import PROBLEMS

MATH = tuple(Problem(f"p{n}", "math", "eval", f"what is {n}?" + " and" * n, answer=str(n)) for n in range(4))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: save_causal_lm(root / kind, kind, positions=512) for kind in ("llama", "qwen2")}


def chunk_of(folder: Path, path: Path, *, samples: Sequence[int] = (0, 1), problems: Sequence[Problem] = MATH) -> Chunk:
    seeds = tuple(range(len(problems) * len(samples)))
    sampling = Sampling(max_new_tokens=8, max_rows=3, temperature=0.8)
    return Chunk(path, Policy.of(folder), tuple(problems), tuple(samples), seeds, sampling)


def answered(worker: Worker, chunk: Chunk) -> pa.Table:
    seconds, counts = answer_chunk(worker, chunk.without_answers())
    judge_chunk(worker, chunk)
    rows = chunk.read()
    assert seconds > 0 and counts == {"tokens": sum(rows["num_tokens"].to_pylist())}
    return rows


def test_rows_say_what_was_asked_and_said(worker: Worker, folders: dict[str, Path], tmp_path: Path) -> None:
    rows = answered(worker, chunk_of(folders["llama"], tmp_path / "a.arrow"))
    tokenizer = AutoTokenizer.from_pretrained(folders["llama"])
    assert rows.schema == SAMPLE_SCHEMA
    assert rows["problem_id"].to_pylist() == [problem.id for problem in MATH for _ in range(2)]
    assert rows["sample"].to_pylist() == [0, 1] * 4 and rows["seed"].to_pylist() == list(range(8))
    for row, problem in zip(rows.to_pylist(), [problem for problem in MATH for _ in range(2)], strict=True):
        assert prompt_text(problem) in tokenizer.decode(row["prompt_ids"])
        said = row["token_ids"] if row["truncated"] else row["token_ids"][:-1]
        assert row["response"] == tokenizer.decode(said)
        assert row["truncated"] == (row["token_ids"][-1] != tokenizer.eos_token_id)
        assert len(row["logprobs"]) == len(row["token_ids"]) == row["num_tokens"] <= 8
        assert row["entropy"] > 0


def test_greedy_and_other_models_answer_otherwise(worker: Worker, folders: dict[str, Path], tmp_path: Path) -> None:
    tables = [
        answered(worker, chunk_of(folders[kind], tmp_path / f"{kind}{samples[0]}.arrow", samples=samples))
        for kind, samples in (("llama", (-1,)), ("qwen2", (-1,)), ("llama", (0,)))
    ]
    responses = [tuple(table["response"].to_pylist()) for table in tables]
    assert len(set(responses)) == 3
    again = answered(worker, chunk_of(folders["llama"], tmp_path / "again.arrow", samples=(-1,)))
    assert again == tables[0]


def sampled(model: Path, out: Path, *, workers: int) -> tuple[dict[str, pa.Table], str]:
    sampling = Sampling(max_new_tokens=8, chunk_problems=3, max_rows=4)
    jobs = [
        SamplingJob(name, Policy.of(model), PROBLEMS[:6], n, sampling, seed=3)
        for name, n in (("greedy", 0), ("many", 2))
    ]
    events = io.StringIO()
    with CausalLmSampler(Runtime(workers=workers)) as sampler:
        found = sample_and_judge(jobs, sampler=sampler, folder=out, log=StageLog(events))
    return found.tables, events.getvalue()


@pytest.mark.slow
def test_the_number_of_workers_changes_no_bit_and_finished_chunks_are_kept(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    one, _ = sampled(folders["llama"], tmp_path / "one", workers=1)
    two, _ = sampled(folders["llama"], tmp_path / "two", workers=2)
    assert one == two
    chunks = sorted((tmp_path / "two").rglob("*.arrow"))
    assert len(chunks) == 4
    chunks[2].unlink()  # as if the stage had been killed before this one
    before = {path: path.stat().st_mtime_ns for path in chunks if path.exists()}
    again, events = sampled(folders["llama"], tmp_path / "two", workers=2)
    assert again == one and "3 of 4 chunks of responses are there" in events
    assert {path: path.stat().st_mtime_ns for path in before} == before
