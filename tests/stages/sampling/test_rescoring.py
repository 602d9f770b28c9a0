"""Stored responses are judged again: the same rules give the same verdicts, and others only what they decide."""

import pyarrow as pa
import pytest

from data.domains import Judge, Policy
from data.domains.policy import DEFAULT_POLICY
from data.schema import SAMPLE_SCHEMA, Problem, table_from_problems, write_table
from stages.sampling.rescoring import (
    Tally,
    judged_responses,
    policy_of,
    problems_of,
    requires_thinking,
    rescore,
    sample_files,
    write_judging,
)

HALF = Problem("half", "math", "heldout", "What is a half?", "0.5")
SEVEN = Problem("seven", "math", "heldout", "What is 3 + 4?", "7")
PROBLEMS = {problem.id: problem for problem in (HALF, SEVEN)}


def sample(problem, answer, status, score=None, **columns):
    values = dict.fromkeys(SAMPLE_SCHEMA.names)
    given = {"problem_id": problem, "domain": "math", "sample": 0, "response": f"so</think>\\boxed{{{answer}}}", "status": status,
             "score": float(status == "correct") if score is None else score, "checker_failed": False, "weak": False, "extracted": answer,
             "reason": ""}  # fmt: skip
    return values | given | columns


@pytest.fixture
def stored(tmp_path):
    """Three responses as the judge's default policy judges them, of two models."""
    rows = [sample("half", "50 \\%", "wrong"), sample("seven", "7", "correct"), sample("seven", "8", "wrong")]
    table = pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA).append_column("model", pa.array(["sft", "sft", "mixed"]))
    write_table(table, tmp_path / "samples.parquet")
    return tmp_path / "samples.parquet"


def tallied(file, *, policy=DEFAULT_POLICY, domain=None, problems=PROBLEMS):
    tally = Tally()
    with Judge(policy=policy) as judge:
        for batch in rescore(file, problems, judge=judge, domain=domain):
            tally.note(batch)
    return tally


def test_the_same_rules_give_the_stored_verdicts(stored):
    with Judge() as judge:  # the rows above are what it says
        said = judge.verify(
            [("so</think>\\boxed{50 \\%}", HALF), ("so</think>\\boxed{7}", SEVEN), ("so</think>\\boxed{8}", SEVEN)]
        )
    assert [verdict.status for verdict in said] == ["wrong", "correct", "wrong"]
    tally = tallied(stored)
    assert tally.num_responses == 3
    assert not tally.changed
    assert not tally.moves()


def test_another_policy_changes_what_it_decides_and_nothing_else(stored):
    tally = tallied(stored, policy=policy_of(["percent_has_value=true"]))
    assert [(one.problem.id, one.row["status"], one.again["status"]) for one in tally.changed] == [
        ("half", "wrong", "correct")
    ]
    assert tally.moves() == [{"stored": "wrong", "now": "correct", "responses": 1}]
    assert tally.scores() == [
        {"model": "sft", "responses": 2, "stored": 0.5, "now": 1.0, "changed": 1},
        {"model": "mixed", "responses": 1, "stored": 0.0, "now": 0.0, "changed": 0},
    ]


def test_a_stored_verdict_that_was_tampered_with_is_found(stored):
    table = pa.Table.from_pylist([sample("seven", "8", "correct")], schema=SAMPLE_SCHEMA)
    write_table(table, stored)
    (one,) = tallied(stored).changed
    assert (one.row["status"], one.again["status"]) == ("correct", "wrong")
    assert one.where == "samples"


def test_failures_of_the_judge_leave_the_mean_and_unjudged_rows_are_left_out(stored):
    rows = [
        sample("seven", "7", "judge_error", 0.0),
        sample("seven", "8", "wrong"),
        sample("seven", "", "unfinished", 0.0),
    ]
    write_table(pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA), stored)
    assert judged_responses(stored) == 2
    tally = tallied(stored)
    assert tally.num_responses == 2
    assert tally.scores() == [{"model": "samples", "responses": 2, "stored": 0.0, "now": 0.5, "changed": 1}]


def test_another_domains_rules_judge(stored):
    tally = tallied(stored, domain="science")
    assert tally.num_responses == 3
    with pytest.raises(ValueError, match="no domain 'chess'; there are math, code, science"):
        tallied(stored, domain="chess")


def test_a_response_without_its_problem_is_refused(stored):
    with pytest.raises(ValueError, match="problem 'seven' is in no table"):
        tallied(stored, problems={"half": HALF})


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("percent=true", "no choice 'percent'; there are percent_is_optional"),
        ("percent_has_value=yes", "true or false"),
        ("rounded_places=-1", "number of places"),
    ],
)
def test_a_policy_that_cannot_be_read_is_refused(setting, said):
    with pytest.raises(ValueError, match=said):
        policy_of([setting])


def test_a_policy_has_what_is_named_and_else_the_defaults():
    assert policy_of(["rounded_places=4", "order_is_free=false"]) == Policy(rounded_places=4, order_is_free=False)
    assert policy_of([]) == Policy()


def test_how_responses_were_read_is_noted_where_they_are_not_our_own_models(tmp_path):
    assert requires_thinking(tmp_path)
    write_judging(tmp_path, requires_thinking=False)
    assert not requires_thinking(tmp_path)


def test_tables_of_responses_and_of_problems_are_told_apart(stored):
    write_table(table_from_problems([SEVEN]), stored.parent / "problems.parquet")
    assert sample_files(stored.parent) == [stored]
    assert problems_of([stored.parent]) == {"seven": SEVEN}
