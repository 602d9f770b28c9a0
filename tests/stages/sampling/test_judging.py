"""Verdicts on what was answered: the answers stay as they were, and a failure of the judge can be mended without asking a model again."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pytest

from data.schema import SAMPLE_SCHEMA, Problem
from ring_model.tokenizer import Tokenizer
from stages.sampling.answering import REFERENCE_FIELD, UNFINISHED_FIELD
from stages.sampling.judging import ANSWER_SCHEMA, VERDICT_COLUMNS, forget_verdicts, judge_chunk
from stages.sampling.requests import Chunk, write_chunk
from stages.sampling.workers import Worker
from tests.stages.sampling.conftest import answers_of, chunk_of

RESPONSES = (
    "so </think> \\boxed{4}",
    "so </think> \\boxed{5}",
    "and so on",
    "</think> it is 4",
    "</think> \\boxed{7}",
    "7",
)


def problem(name: str, answer: str) -> Problem:
    return Problem(id=name, domain="math", split="rl", prompt="compute 3 + 9", answer=answer)


def answered_chunk(folder: Path, model: Path, *problems: Problem, name: str = "0000") -> Chunk:
    chunk = chunk_of(folder, model, problems, num_samples=3, path=folder / f"{name}.arrow")
    responses = RESPONSES[: 3 * len(problems)]
    write_chunk(answers_of(chunk, responses, Tokenizer.from_folder(model)), chunk.answers)
    return chunk


def state(path: Path) -> tuple[int, int, bytes]:
    return path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()


def test_answers_are_samples_without_what_the_judge_says() -> None:
    assert VERDICT_COLUMNS == ("status", "score", "checker_failed", "weak", "extracted", "reason")
    assert ANSWER_SCHEMA.names == [name for name in SAMPLE_SCHEMA.names if name not in VERDICT_COLUMNS]
    assert len(ANSWER_SCHEMA) == len(SAMPLE_SCHEMA) - 6


def test_each_response_gets_the_verdict_on_its_own_problem(worker: Worker, tiny_model: Path, tmp_path: Path) -> None:
    chunk = answered_chunk(tmp_path, tiny_model, problem("four", "4"), problem("seven", "7"))
    answers = feather.read_table(chunk.answers, memory_map=False)
    seconds = judge_chunk(worker, chunk)
    samples = chunk.read()
    assert 0 <= seconds < 60
    assert samples.schema == SAMPLE_SCHEMA
    assert samples["status"].to_pylist() == ["correct", "wrong", "no_answer", "no_answer", "correct", "no_answer"]
    assert samples["score"].to_pylist() == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert samples["extracted"].to_pylist() == ["4", "5", "", "", "7", ""]
    assert set(samples["checker_failed"].to_pylist()) == set(samples["weak"].to_pylist()) == {False}
    assert all(samples["reason"].to_pylist())
    assert samples.select(ANSWER_SCHEMA.names) == answers


def test_the_answers_go_when_the_verdicts_are_there(worker: Worker, tiny_model: Path, tmp_path: Path) -> None:
    chunk = answered_chunk(tmp_path, tiny_model, problem("four", "4"))
    assert not chunk.is_done
    judge_chunk(worker, chunk)
    assert chunk.is_done
    assert [path.name for path in tmp_path.iterdir()] == ["0000.arrow"]


def test_answers_of_other_problems_than_the_chunks_are_refused(
    worker: Worker, tiny_model: Path, tmp_path: Path
) -> None:
    chunk = answered_chunk(tmp_path, tiny_model, problem("four", "4"))
    with pytest.raises(ValueError, match="shorter"):
        judge_chunk(worker, replace(chunk, samples=(0, 1)))
    assert not chunk.is_done and chunk.answers.exists()


def test_where_the_judge_failed_the_responses_stay_and_are_judged_anew(
    worker: Worker, tiny_model: Path, tmp_path: Path
) -> None:
    damaged = answered_chunk(tmp_path, tiny_model, problem("four", "4"), problem("seven", ""))
    sound = answered_chunk(tmp_path, tiny_model, problem("four", "4"), name="0001")
    answers = feather.read_table(damaged.answers, memory_map=False)
    for chunk in (damaged, sound):
        judge_chunk(worker, chunk)
    assert damaged.read()["status"].to_pylist()[3:] == ["no_answer", "bad_gold", "no_answer"]
    before = state(sound.path)

    forget_verdicts([one.path for one in [damaged, sound]])
    assert state(sound.path) == before and not sound.answers.exists()
    assert not damaged.is_done
    assert feather.read_table(damaged.answers, memory_map=False) == answers

    mended = replace(damaged, problems=(problem("four", "4"), problem("seven", "7")))
    judge_chunk(worker, mended)
    samples = mended.read()
    assert samples["status"].to_pylist()[3:] == ["no_answer", "correct", "no_answer"]
    assert samples.select(ANSWER_SCHEMA.names) == answers
    assert not mended.answers.exists()


@pytest.mark.parametrize("status", ["judge_error", "bad_gold", "no_tests"])
def test_every_kind_of_failure_is_forgotten(worker: Worker, tiny_model: Path, tmp_path: Path, status: str) -> None:
    chunk = answered_chunk(tmp_path, tiny_model, problem("four", "4"))
    judge_chunk(worker, chunk)
    samples = chunk.read()
    place = samples.schema.get_field_index("status")
    write_chunk(samples.set_column(place, "status", [["correct", status, "wrong"]]), chunk.path)
    forget_verdicts([one.path for one in [chunk]])
    assert not chunk.is_done and chunk.answers.exists()


def test_what_goes_on_is_not_judged_and_what_else_was_told_of_it_stays(
    worker: Worker, tiny_model: Path, tmp_path: Path
) -> None:
    chunk = answered_chunk(tmp_path, tiny_model, problem("four", "4"), problem("seven", ""))
    answers = feather.read_table(chunk.answers, memory_map=False)
    goes_on = [True, False, False, True, False, True]
    answers = answers.append_column(UNFINISHED_FIELD, pa.array(goes_on))
    answers = answers.append_column(REFERENCE_FIELD, pa.array([[]] * 6, REFERENCE_FIELD.type))
    write_chunk(answers, chunk.answers)
    judge_chunk(worker, chunk)
    samples = chunk.read()
    expected = ["unfinished", "wrong", "no_answer", "unfinished", "bad_gold", "unfinished"]
    assert samples["status"].to_pylist() == expected
    assert samples["score"].to_pylist() == [0.0] * 6
    assert samples.select(answers.column_names) == answers
    forget_verdicts([chunk.path])
    assert feather.read_table(chunk.answers, memory_map=False) == answers
    judge_chunk(worker, chunk)
    assert chunk.read()["status"].to_pylist() == expected
