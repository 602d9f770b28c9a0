"""Chunks that somebody answers, one kind of worker beside the other."""

import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from ring_model.tokenizer import Tokenizer
from stages.config import Runtime
from stages.sampling.judges import Answered, Judged, Judges
from stages.sampling.requests import Chunk, write_chunk
from tests.stages.conftest import PROBLEMS
from tests.stages.sampling.conftest import answers_of, chunk_of

LONGEST_SECONDS = 60.0


class Held:
    """A pool that judges what it is told to, and no sooner."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.begun: list[Future[float]] = []

    def look(self) -> None:
        """Somebody is there."""

    def begin(self, chunk: Chunk) -> Future[float]:
        self.begun.append(Future())
        return self.begun[-1]

    def end(self, chunk: Chunk, future: Future[float]) -> Judged:
        return future.result(), {"judged_again": 1}


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("num_ready", [0, 9])
def test_no_more_chunks_wait_for_verdicts_than_the_judges_keep_up_with(
    tmp_path: Path, places: int, num_ready: int
) -> None:
    chunks = [chunk_of(tmp_path, tmp_path, PROBLEMS[:1], path=tmp_path / f"{number}.arrow") for number in range(9)]
    for chunk in chunks[:num_ready]:
        chunk.answers.touch()
    judges, pool, answered, done = Judges(Runtime()), Held(places), [], []
    judges._pool = pool

    def answer(chunk: Chunk) -> Future[Answered]:
        answered.append(chunk)
        future: Future[Answered] = Future()
        future.set_result((0.0, {"tokens": 1}))
        return future

    def judge() -> None:
        done.extend(judges.judged(chunks, answer=answer, most_answering=1))

    thread = threading.Thread(target=judge, daemon=True)
    thread.start()
    for number in range(9):
        most = min(9, number + 2 * places)
        until(lambda: len(pool.begun) == most)  # noqa: B023
        time.sleep(0.05)
        assert len(pool.begun) == most
        assert len(answered) == (0 if num_ready else most)
        pool.begun[number].set_result(0.5)
    thread.join(LONGEST_SECONDS)
    assert [one.seconds["judge"] for one in done] == [0.5] * 9
    assert all(one.counts["judged_again"] == 1 for one in done)


@pytest.mark.slow
def test_no_more_chunks_are_answered_at_a_time_than_asked_for_and_all_in_their_order(
    tiny_model: Path, tmp_path: Path
) -> None:
    chunks = [chunk_of(tmp_path, tiny_model, PROBLEMS[:1], path=tmp_path / f"{number}.arrow") for number in range(5)]
    begun: list[tuple[Chunk, Future[Answered]]] = []
    done = []

    def answer(chunk: Chunk) -> Future[Answered]:
        begun.append((chunk, Future()))
        return begun[-1][1]

    def judge() -> None:
        with Judges(Runtime(workers=1), requires_thinking=False) as judges:
            done.extend(judges.judged(chunks, answer=answer, most_answering=2))

    thread = threading.Thread(target=judge)
    thread.start()
    for number in range(5):
        until(lambda: len(begun) >= min(5, number + 2))  # noqa: B023
        time.sleep(0.1)
        assert len(begun) == min(5, number + 2)
        chunk, future = begun[number]
        assert chunk == chunks[number].without_answers()
        answers = answers_of(chunk, [f"\\\\boxed{{{number}}}"] * 2, Tokenizer.from_folder(tiny_model))
        write_chunk(answers, chunk.answers)
        future.set_result((float(number), {"tokens": number}))
    thread.join(LONGEST_SECONDS)
    assert {one.chunk.path: (one.seconds["generate"], one.counts) for one in done} == {
        chunk.path: (float(number), {"tokens": number}) for number, chunk in enumerate(chunks)
    }
    assert all(one.chunk in chunks for one in done)


@pytest.mark.slow
@pytest.mark.parametrize(("requires_thinking", "status"), [(False, "correct"), (True, "no_answer")])
def test_responses_without_thinking_are_judged_as_a_whole_where_none_is_required(
    tiny_model: Path, tmp_path: Path, requires_thinking: bool, status: str
) -> None:
    problem = replace(PROBLEMS[0], domain="math", answer="4")
    chunk = chunk_of(tmp_path, tiny_model, [problem], num_samples=1)
    write_chunk(answers_of(chunk, ["so \\boxed{4}"], Tokenizer.from_folder(tiny_model)), chunk.answers)
    with Judges(Runtime(workers=1), requires_thinking=requires_thinking) as judges:
        assert len(list(judges.judged([chunk], answer=lambda _: Future(), most_answering=1))) == 1
    assert chunk.read()["status"].to_pylist() == [status]


def until(happened) -> None:
    end = time.monotonic() + LONGEST_SECONDS
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)
