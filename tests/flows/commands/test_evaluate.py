"""`ring evaluate`: what it lists, what it refuses before anything starts, and a real model of a chain on a small set."""

import json
from dataclasses import replace

import pytest

from data.schema import Problem, table_from_problems, write_table
from flows.commands.evaluate import evaluate
from flows.evaluation_request import EvaluationRequest, benchmark_names, plan_evaluation

ROW = Problem("aime24/0", "math", "eval", "2 + 3 mod 7 = ?", "5", source="aime24")


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


def test_a_model_must_be_named():
    with pytest.raises(ValueError, match="name the model"):
        evaluate(benchmarks=("aime24",))


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
        ({"overrides": ("evaluation.samples_per_problem=8",)}, "--samples sets those of benchmarks"),
    ],
)
def test_what_cannot_be_evaluated_is_told_before_anything_starts(home, sets, asked, said):
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
