"""`ring evaluate`: what it lists, what it refuses before anything starts, and a real model of a chain on a small set."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data.schema import Problem, table_from_problems, write_table
from flows.commands.evaluate import evaluate
from flows.evaluation_request import EvaluationRequest, benchmark_names, plan_evaluation
from tests.stages.saying import save_model_that_says, tokenizer_of

QUIZ = "question,result\nWhat is six times seven?,42\nWhat is six times eight?,48\nWhy?,\n"
ROW = Problem("aime24/0", "math", "eval", "2 + 3 mod 7 = ?", "5", source="aime24")


@pytest.fixture
def quiz(tmp_path):
    path = tmp_path / "quiz.csv"
    path.write_text(QUIZ)
    return path


@pytest.fixture
def sets(tmp_path):
    write_table(
        table_from_problems([ROW, replace(ROW, id="aime24/1", prompt="4 * 5 mod 7 = ?", answer="6")]),
        tmp_path / "sets" / "rows.parquet",
    )
    return tmp_path / "sets"


def test_without_benchmarks_they_are_listed_with_where_their_rows_are(sets, capsys):
    assert evaluate(data_dir=sets) == 0
    lines = {line.split()[0]: line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["aime24"].endswith("here")
    assert lines["gpqa_diamond"].endswith("gated")
    assert lines["math500"].endswith("hub")
    assert lines["gaokao25_math"].endswith("not available here")


def test_a_model_must_be_named(quiz):
    for asked in ({"benchmarks": ("aime24",)}, {"problems": quiz}):
        with pytest.raises(ValueError, match="name the model"):
            evaluate(**asked)


def test_columns_are_told_once_and_for_a_file(home, quiz):
    with pytest.raises(ValueError, match="none was given: add --problems FILE"):
        evaluate("http://127.0.0.1:9/v1#m", columns="prompt=question", benchmarks=("aime24",))
    with pytest.raises(ValueError, match="'answer' stands there twice"):
        evaluate("http://127.0.0.1:9/v1#m", columns="answer=a,answer=b", problems=quiz)


def test_names_may_be_parted_by_commas_and_unknown_ones_are_refused():
    assert benchmark_names(["aime24, math500", "gsm8k"]) == ("aime24", "math500", "gsm8k")
    with pytest.raises(ValueError, match="unknown benchmark 'aime42'; did you mean"):
        benchmark_names(["aime42"])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"benchmarks": ("cnmo24",)}, "no benchmark is at hand: benchmark cnmo24: .* holds no `eval` row"),
        (
            {"benchmarks": ("aime24",), "another_version": False},
            "benchmark aime24: rows aime24/0, aime24/1 are not the rows of the frozen manifest",
        ),
        ({"model": "nowhere"}, "no model 'nowhere'"),
        ({"model": "ftp://x/v1#m"}, "is no address of a server"),
        ({"overrides": ("evaluation.confidence=2",)}, "evaluation.confidence"),
        ({"problems": Path("nowhere.csv")}, "--problems nowhere.csv: no such folder or file"),
        ({"problems": Path("quiz.csv")}, "quiz.csv: no column is known as the answer"),
        (
            {"problems": Path("quiz.csv"), "columns": {"answer": "result", "split": "rl"}},
            "every row of --problems is asked",
        ),
        ({"overrides": ("evaluation.samples_per_problem=8",)}, "--samples sets those of benchmarks"),
    ],
)
def test_what_cannot_be_evaluated_is_told_before_anything_starts(home, sets, quiz, asked, said):
    given = {"model": "http://127.0.0.1:9/v1#m", "benchmarks": ("aime24",), "another_version": True}
    with pytest.raises(ValueError, match=said):
        plan_evaluation(EvaluationRequest(**{**given, "data_dir": sets, **asked}))


def test_other_files_of_the_folder_change_nothing_and_other_rows_do(home, sets):
    def fingerprint(**changes):
        given = {
            "model": "http://127.0.0.1:9/v1#m",
            "benchmarks": ("aime24",),
            "another_version": True,
            "data_dir": sets,
        }
        return plan_evaluation(EvaluationRequest(**{**given, **changes})).spec.fingerprint

    first = fingerprint()
    write_table(table_from_problems([replace(ROW, id="x", source="other")]), sets / "other.parquet")
    assert fingerprint() == first
    assert fingerprint(samples=3) != first
    slower = ("runtime.server_requests=2", "runtime.server_requests_per_minute=30")
    assert fingerprint(overrides=slower) == first  # how fast a server is asked is no part of what it answers
    write_table(table_from_problems([ROW]), sets / "rows.parquet")
    assert fingerprint() != first


def test_a_file_of_ones_own_is_planned_alone_or_beside_benchmarks_by_its_bytes_and_columns(home, sets, quiz):
    def planned(**changes):
        given = {
            "model": "http://127.0.0.1:9/v1#m",
            "benchmarks": (),
            "problems": quiz,
            "columns": {"answer": "result"},
        }
        return plan_evaluation(EvaluationRequest(**{**given, **changes}))

    alone = planned()
    assert (alone.spec.config.problems, alone.spec.config.benchmarks, alone.absent) == ("quiz", (), {})
    assert alone.spec.data["problems"].path == quiz
    beside = planned(benchmarks=("aime24",), data_dir=sets, another_version=True)
    assert beside.spec.config.benchmarks == ("aime24",)
    assert planned(columns={"answer": "result", "domain": "science"}).spec.fingerprint != alone.spec.fingerprint
    assert planned().spec.fingerprint == alone.spec.fingerprint
    quiz.write_text(QUIZ + "What is six times nine?,54\n")
    assert planned().spec.fingerprint != alone.spec.fingerprint


@pytest.mark.slow
def test_a_model_folder_is_evaluated_on_a_file_and_what_was_not_asked_is_told(ring, quiz):
    rows = [replace(ROW, prompt=text) for text in ("What is six times seven?", "What is six times eight?")]
    folder = quiz.parent / "fortytwo"
    save_model_that_says("42", rows, tokenizer_of(rows, answers=("42",)), folder)
    asked = ("evaluate", str(folder), "--problems", str(quiz), "--columns", "prompt=question,answer=result,domain=math",
             "--samples", "2", "--set", "evaluation.sampling.max_new_tokens=12", "--set", "evaluation.sampling.top_p=0.5")  # fmt: skip
    first = ring.json(*asked)
    values = {name: (entry["value"], entry["n"]) for name, entry in first["results"].items()}
    assert values == {f"fortytwo/quiz/{metric}": (0.5, 2) for metric in ("greedy", "pass@1", "pass@2")}
    assert [(row["where"], row["reason"]) for row in first["left_out"]] == [("quiz.csv, row 3", "no answer")]
    said = " ".join(ring(*asked).stdout.split())
    assert "cached in" in said
    assert "quiz: 1 of 3 rows are left out: 1 no answer (quiz.csv, row 3)" in said
    assert "6 responses judged again by the same rules" in ring("rescore", first["fingerprint"][:8]).stdout
    quiz.write_bytes(QUIZ.encode() + b"caf\xe9?,1\n")
    refused = ring(*asked, code=2).stderr
    assert "byte 0xe9 in line 5" in refused and "Traceback" not in refused


@pytest.mark.slow
def test_a_model_of_a_chain_is_evaluated_once_and_its_verdicts_can_be_made_again(smoke, sets):
    arm = next(entry for entry in smoke.document["stages"] if entry["arm"] == "mixed")["fingerprint"][:8]
    asked = ("evaluate", arm, "--benchmarks", "aime24,cnmo24", "--data-dir", str(sets), "--another-version", "--samples", "2",
             "--set", "evaluation.sampling.max_new_tokens=24")  # fmt: skip
    first = smoke.ring.json(*asked)
    assert first["status"] == "ran"
    assert set(first["results"]) == {f"mixed/aime24/{metric}" for metric in ("greedy", "pass@1", "pass@2")}
    assert list(first["not_available"]) == ["cnmo24"]
    said = smoke.ring(*asked).stdout
    assert "cached in" in said
    assert "not available here" in said
    assert "not known here" not in said  # the curation of an arm is
    again = smoke.ring("rescore", first["fingerprint"][:8]).stdout
    assert "6 responses judged again by the same rules" in again
    rows = json.loads(smoke.ring("rescore", first["fingerprint"][:8], "--json").stdout)
    assert rows["scores"][0]["model"] == "mixed"
