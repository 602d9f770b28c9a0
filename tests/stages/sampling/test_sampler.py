"""What selection and evaluation ask of a sampler: tables in the order of the jobs, progress, and the seconds of what was not there yet."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.schema import SAMPLE_SCHEMA
from ring_model.modelling import BailingMoe
from stages.config import Sampling
from stages.sampling.answering import answer_chunk, token_logprobs
from stages.sampling.judging import judge_chunk
from stages.sampling.requests import Chunk, Policy, SamplingJob
from stages.sampling.sampler import Done, Sampled, Sampler, joined, sample_and_judge
from stages.sampling.workers import Worker
from stages.stage import StageLog
from tests.stages.conftest import PROBLEMS, lines_of


class Here:
    """A sampler in this process; it says that every chunk took 3 seconds, then 1."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.asked = worker, []

    def publish(self, model: BailingMoe, *, version: int) -> Policy:
        raise NotImplementedError

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        for chunk in chunks:
            if chunk.is_done:
                continue
            self.asked.append(chunk)
            chunk.path.parent.mkdir(parents=True, exist_ok=True)
            _, counts = answer_chunk(self.worker, chunk.without_answers())
            judge_chunk(self.worker, chunk)
            yield Done(chunk, {"generate": 3.0, "judge": 1.0}, counts)

    def check(self, policy: Policy, tokens: Sequence[int]) -> list[float]:
        return token_logprobs(self.worker, (policy, tokens))


def jobs_of(model: Path) -> list[SamplingJob]:
    sampling = Sampling(max_new_tokens=6, chunk_problems=2, max_rows=4)
    return [
        SamplingJob("greedy", Policy.of(model), PROBLEMS[:3], 0, sampling, seed=3),
        SamplingJob("many", Policy.of(model), PROBLEMS[3:6], 2, sampling, seed=3),
    ]


def asked(worker: Worker, jobs: list[SamplingJob], folder: Path) -> tuple[Sampled, list[Chunk], list[dict]]:
    events, sampler = io.StringIO(), Here(worker)
    interface: Sampler = sampler
    found = sample_and_judge(jobs, sampler=interface, folder=folder, log=StageLog(events))
    return found, sampler.asked, lines_of(events)


def test_each_job_gets_its_rows_in_the_order_of_its_problems_and_samples(
    worker: Worker, tiny_model: Path, tmp_path: Path
) -> None:
    found, chunks, events = asked(worker, jobs_of(tiny_model), tmp_path)
    assert list(found.tables) == ["greedy", "many"]
    greedy, many = found.tables.values()
    assert greedy.schema == many.schema == SAMPLE_SCHEMA
    assert greedy["problem_id"].to_pylist() == [problem.id for problem in PROBLEMS[:3]]
    assert greedy["sample"].to_pylist() == [-1, -1, -1]
    assert many["problem_id"].to_pylist() == [problem.id for problem in PROBLEMS[3:6] for _ in range(2)]
    assert many["sample"].to_pylist() == [0, 1] * 3
    assert many["problem_id"].num_chunks == 1
    assert len(chunks) == 4
    assert found.timings == {"generate": 12.0, "judge": 4.0}
    progress = [event for event in events if event["event"] == "progress"]
    assert events == progress  # nothing is told of a beginning
    assert progress[-1] == {"event": "progress", "done": 9, "total": 9, "unit": "responses", "detail": "many"}
    assert progress[0]["done"] == 2 and progress[0]["detail"] == "greedy"


def test_a_stage_that_was_killed_asks_for_what_is_missing_and_says_what_is_there(
    worker: Worker, tiny_model: Path, tmp_path: Path
) -> None:
    first, chunks, _ = asked(worker, jobs_of(tiny_model), tmp_path)
    chunks[2].path.unlink()
    kept = {chunk.path: chunk.path.stat() for chunk in chunks if chunk.is_done}
    again, asked_again, events = asked(worker, jobs_of(tiny_model), tmp_path)
    assert asked_again == [chunks[2]]
    assert again.tables == first.tables
    assert again.timings == {"generate": 3.0, "judge": 1.0}
    assert events[0] == {"event": "resumed", "text": "3 of 4 chunks of responses are there"}
    assert events[-1] == {"event": "progress", "done": 9, "total": 9, "unit": "responses", "detail": "many"}
    for path, before in kept.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_is_all_there_costs_nothing(worker: Worker, tiny_model: Path, tmp_path: Path) -> None:
    asked(worker, jobs_of(tiny_model), tmp_path)
    found, chunks, events = asked(worker, jobs_of(tiny_model), tmp_path)
    assert chunks == []
    assert found.timings == {"generate": 0.0, "judge": 0.0}
    assert events == [{"event": "resumed", "text": "4 of 4 chunks of responses are there"}]


def test_a_job_without_problems_has_a_table_without_rows(worker: Worker, tiny_model: Path, tmp_path: Path) -> None:
    nothing = SamplingJob("none", Policy.of(tiny_model), (), 2, Sampling(max_new_tokens=6), seed=0)
    found, _, events = asked(worker, [nothing], tmp_path)
    assert found.tables["none"] == SAMPLE_SCHEMA.empty_table()
    assert events == []
    assert joined([]).schema == SAMPLE_SCHEMA
