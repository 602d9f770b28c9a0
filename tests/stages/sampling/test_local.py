"""Sampling by worker processes: the same bytes for any number of them, after a kill only what is missing, no answers beside a model."""

import io
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from data.schema import Problem, write_table
from ring_model.checkpoint import load_model
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import BailingScorer
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime, Sampling
from stages.sampling.answering import answer_chunk, next_token_logprobs
from stages.sampling.judging import judge_chunk
from stages.sampling.local import LocalSampler
from stages.sampling.requests import Chunk, Policy, SamplingJob, write_chunk
from stages.sampling.sampler import Done, sample_and_judge
from stages.sampling.workers import Worker
from stages.stage import StageLog
from tests.stages.conftest import PROBLEMS
from tests.stages.sampling.conftest import answers_of, chunk_of

TOKENS = (1, 5, 9, 2, 7)
LONGEST_SECONDS = 60.0  # that a test waits for processes


def model_of(folder: Path, seed: int) -> BailingMoe:
    return initialise(load_model(folder), seed=seed)


def state(path: Path) -> tuple[int, int, bytes]:
    return path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST_SECONDS
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


class Telltale(str):
    """A text that leaves a file, named by the process, wherever it arrives."""

    folder: str

    def __reduce__(self) -> tuple:
        return _arrived, (str(self), self.folder)


def _arrived(text: str, folder: str) -> str:
    (Path(folder) / str(os.getpid())).touch()
    return text


def watched(problem: Problem, folder: Path) -> Problem:
    """The problem with texts that tell where they arrive; `folder` gets the files."""
    texts = {}
    for name in ("answer", "tests", "solution"):
        texts[name] = Telltale(getattr(problem, name))
        texts[name].folder = str(folder)
    return replace(problem, **texts)


# ---------------------------------------------------------------- without a process


def test_published_weights_are_a_folder_of_their_version_and_older_ones_go(tiny_model: Path, tmp_path: Path) -> None:
    published = tmp_path / "of" / "an arm"
    with LocalSampler(Runtime(), published=published, tokenizer=tiny_model) as sampler:
        for version, seed in ((0, 4), (12, 5)):
            policy = sampler.publish(BailingScorer(model_of(tiny_model, seed)), version=version, oldest=version)
            assert policy == Policy(published / f"{version:06d}", tiny_model)
            assert [folder.name for folder in published.iterdir()] == [f"{version:06d}"]
            read = load_model(policy.weights)
            expected = model_of(tiny_model, seed).state_dict()
            assert all(torch.equal(tensor, expected[name]) for name, tensor in read.state_dict().items())
    with LocalSampler(Runtime(), published=published, tokenizer=tiny_model) as sampler:  # as after a kill
        sampler.publish(BailingScorer(model_of(tiny_model, 6)), version=12, oldest=12)
        assert [folder.name for folder in published.iterdir()] == ["000012"]


def test_chunks_that_are_there_start_no_process_and_are_not_touched(tiny_model: Path, tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, tiny_model)
    chunk.path.write_bytes(b"whatever it holds")
    before, processes = state(chunk.path), multiprocessing.active_children()
    with LocalSampler(Runtime(), published=tmp_path / "published") as sampler:
        assert list(sampler.sample([])) == list(sampler.sample([chunk, chunk])) == []
        assert multiprocessing.active_children() == processes
    assert state(chunk.path) == before


# ---------------------------------------------------------------- with one process of each kind


@dataclass(frozen=True)
class Running:
    """A sampler whose processes have been started."""

    sampler: LocalSampler
    generator: int  # process ids
    judge: int

    def sample(self, *chunks: Chunk) -> list[Done]:
        return list(self.sampler.sample(chunks))


@pytest.fixture(scope="module")
def running(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("running")
    (folder / "arrived").mkdir()
    before = {process.pid for process in multiprocessing.active_children()}
    with LocalSampler(Runtime(workers=1), published=folder / "published", tokenizer=tiny_model) as sampler:
        list(sampler.sample([chunk_of(folder, tiny_model, [watched(PROBLEMS[0], folder / "arrived")])]))
        mine = {process.pid for process in multiprocessing.active_children()} - before
        judges = {int(path.name) for path in (folder / "arrived").iterdir()}
        (generator,) = mine - judges
        (judge,) = mine & judges
        yield Running(sampler, generator, judge)


def test_a_version_that_is_published_again_has_another_folder(tiny_model: Path, tmp_path: Path) -> None:
    with LocalSampler(Runtime(), published=tmp_path, tokenizer=tiny_model) as sampler:
        versions = ((2, 2), (3, 2), (3, 2), (4, 3), (3, 2))
        policies = [
            sampler.publish(BailingScorer(model_of(tiny_model, 1)), version=one, oldest=oldest)
            for one, oldest in versions
        ]
    assert [policy.weights.name for policy in policies] == ["000002", "000003", "000003.1", "000004", "000003.2"]
    assert [folder.name for folder in tmp_path.iterdir()] == ["000003.2"]


@pytest.mark.slow
def test_published_weights_are_those_that_answer(
    running: Running, worker: Worker, tiny_model: Path, tmp_path: Path
) -> None:
    said = []
    for version, seed in ((1, 11), (2, 12)):
        model = model_of(tiny_model, seed)
        policy = running.sampler.publish(BailingScorer(model), version=version, oldest=version)
        assert running.sampler.check(policy, TOKENS) == pytest.approx(next_token_logprobs(model, TOKENS), abs=1e-6)
        chunk = chunk_of(tmp_path / str(version), tiny_model, policy=policy)
        (done,) = running.sample(chunk)
        assert done.chunk == chunk
        said.append(chunk.read())
        here = chunk_of(tmp_path / str(version), tiny_model, policy=policy, path=tmp_path / f"{version}.arrow")
        answer_chunk(worker, here)
        judge_chunk(worker, here)
        assert here.read() == said[-1]
    assert said[0]["token_ids"] != said[1]["token_ids"]
    assert running.sampler.check(policy, TOKENS) != pytest.approx(next_token_logprobs(model_of(tiny_model, 11), TOKENS))


@pytest.mark.slow
def test_a_chunk_is_done_with_what_it_took(running: Running, tiny_model: Path, tmp_path: Path) -> None:
    chunks = [
        chunk_of(tmp_path, tiny_model, PROBLEMS[n : n + 2], path=tmp_path / "a" / "b" / f"{n}.arrow") for n in range(3)
    ]
    done = running.sample(*chunks)
    assert sorted(one.chunk.path.name for one in done) == ["0.arrow", "1.arrow", "2.arrow"]
    for one in done:
        rows = one.chunk.read()
        assert list(one.seconds) == ["generate", "judge"]
        assert 0 < one.seconds["generate"] < LONGEST_SECONDS and 0 <= one.seconds["judge"] < LONGEST_SECONDS
        assert one.counts["tokens"] == sum(rows["num_tokens"].to_pylist()) <= one.counts["slots"]
        assert rows["problem_id"].to_pylist() == [problem.id for problem in one.chunk.asked]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["0.arrow", "1.arrow", "2.arrow"]


@pytest.mark.slow
def test_a_chunk_that_is_there_stays_and_one_that_was_answered_is_only_judged(
    running: Running, tiny_model: Path, tmp_path: Path
) -> None:
    there, answered, missing = (
        chunk_of(tmp_path, tiny_model, PROBLEMS[:1], path=tmp_path / f"{name}.arrow") for name in "abc"
    )
    running.sample(there)
    before = state(there.path)
    answers = answers_of(answered, ["</think> \\boxed{4}", "</think> \\boxed{5}"], Tokenizer.from_folder(tiny_model))
    write_chunk(answers, answered.answers)  # what no model said
    done = {one.chunk.path: one for one in running.sample(there, answered, missing)}
    assert set(done) == {answered.path, missing.path}
    assert done[answered.path].seconds["generate"] == 0.0 and done[answered.path].counts == {}
    assert done[missing.path].seconds["generate"] > 0.0
    assert answered.read().select(answers.column_names) == answers
    assert answered.read()["status"].to_pylist() == ["correct", "wrong"]
    assert state(there.path) == before
    assert running.sample(there, answered, missing) == []
    assert state(there.path) == before


@pytest.mark.slow
def test_answers_tests_and_solutions_reach_the_judge_and_no_process_with_a_model(
    running: Running, tiny_model: Path, tmp_path: Path
) -> None:
    arrived = tmp_path / "arrived"
    arrived.mkdir()
    problems = [watched(problem, arrived) for problem in PROBLEMS[:4]]
    running.sample(*(chunk_of(tmp_path, tiny_model, [one], path=tmp_path / f"{one.id}.arrow") for one in problems))
    assert [int(path.name) for path in arrived.iterdir()] == [running.judge]
    assert running.judge != running.generator


@pytest.mark.slow
def test_models_wait_for_judges_that_do_not_keep_up(running: Running, tiny_model: Path, tmp_path: Path) -> None:
    chunks = [
        chunk_of(tmp_path, tiny_model, PROBLEMS[:1], path=tmp_path / f"{number:02d}.arrow") for number in range(14)
    ]

    def unjudged() -> int:
        return len(list(tmp_path.glob("*.answers")))

    done: list[Done] = []
    sampling = threading.Thread(target=lambda: done.extend(running.sample(*chunks)))
    os.kill(running.judge, signal.SIGSTOP)
    try:
        sampling.start()
        until(lambda: unjudged() >= 2)
        counts = [unjudged()]
        end = time.monotonic() + LONGEST_SECONDS
        while counts[-30:] != [counts[-1]] * 30 and time.monotonic() < end:  # until nothing has come for 1.5 s
            time.sleep(0.05)
            counts.append(unjudged())
    finally:
        os.kill(running.judge, signal.SIGCONT)
        sampling.join(LONGEST_SECONDS)
    assert 2 <= counts[-1] <= 4 + 2 - 1  # of four under way while one waits, all may come to wait
    assert sorted(one.chunk.path.name for one in done) == [chunk.path.name for chunk in chunks]
    assert all(chunk.is_done for chunk in chunks) and unjudged() == 0


@pytest.mark.slow
def test_weights_that_are_not_finite_are_told_and_the_sampler_goes_on_with_others(
    running: Running, tiny_model: Path, tmp_path: Path
) -> None:
    broken = model_of(tiny_model, 1)
    with torch.no_grad():
        broken.norm.weight[0] = math.nan
    chunk = chunk_of(tmp_path, tiny_model, policy=running.sampler.publish(BailingScorer(broken), version=7, oldest=7))
    with pytest.raises(FloatingPointError, match="not finite"):
        running.sample(chunk)
    assert not chunk.is_done and not chunk.answers.exists()
    whole = running.sampler.publish(BailingScorer(model_of(tiny_model, 1)), version=8, oldest=8)
    assert len(running.sample(replace(chunk, policy=whole))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["generator", "judge"])
def test_a_worker_that_dies_is_told_in_words_and_what_is_missing_is_made_by_the_next(
    running: Running, tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    chunks = [
        chunk_of(tmp_path, tiny_model, PROBLEMS[:1], path=tmp_path / f"{number:02d}.arrow") for number in range(3)
    ]
    if kind == "judge":
        for chunk in chunks:
            write_chunk(answers_of(chunk, ["", ""], Tokenizer.from_folder(tiny_model)), chunk.answers)
    before = {process.pid for process in multiprocessing.active_children()}
    with LocalSampler(Runtime(workers=1), published=tmp_path / "published") as sampler:
        threading.Thread(target=kill_one_beside, args=(before,)).start()
        with pytest.raises(RuntimeError, match=r"a worker process died; .* sampling\.max_rows\) and run again"):
            list(sampler.sample(chunks))
    assert not any(chunk.is_done for chunk in chunks)
    assert len(list(tmp_path.glob("*.answers"))) == (3 if kind == "judge" else 0)
    done = running.sample(*chunks)
    assert [one.seconds["generate"] > 0 for one in done] == [kind == "generator"] * 3


def kill_one_beside(others: set[int | None]) -> None:
    """Kill the first process that is started."""
    until(lambda: any(process.pid not in others for process in multiprocessing.active_children()))
    for process in multiprocessing.active_children():
        if process.pid not in others:
            process.kill()


# ---------------------------------------------------------------- numbers of workers, and a kill


def sampled(model: Path, out: Path, *, workers: int) -> tuple[bytes, list[dict]]:
    sampling, problems = Sampling(max_new_tokens=12, chunk_problems=4, max_rows=8), PROBLEMS[:12]
    jobs = [
        SamplingJob(name, Policy.of(model), problems, n, sampling, seed=3) for name, n in (("greedy", 0), ("many", 2))
    ]
    events = io.StringIO()
    with LocalSampler(Runtime(workers=workers), published=out / "published") as sampler:
        tables = sample_and_judge(jobs, sampler=sampler, folder=out / ".state", log=StageLog(events)).tables
    for name, table in tables.items():
        write_table(table, out / f"{name}.parquet")
    written = b"".join((out / f"{name}.parquet").read_bytes() for name in tables)
    return written, [json.loads(line) for line in events.getvalue().splitlines()]


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte_and_finished_chunks_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    one, _ = sampled(tiny_model, tmp_path / "one", workers=1)
    two, _ = sampled(tiny_model, tmp_path / "two", workers=2)
    assert one == two
    chunks = sorted((tmp_path / "two" / ".state").rglob("*.arrow"))
    assert len(chunks) == 6
    chunks[4].unlink()  # as if the stage had been killed before this one
    again, events = sampled(tiny_model, tmp_path / "two", workers=2)
    assert again == one
    assert events[0] == {"event": "resumed", "text": "5 of 6 chunks of responses are there"}
