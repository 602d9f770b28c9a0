"""`ring rescore`: a result's verdicts made again from its stored responses."""

import json

import pyarrow as pa
import pytest

from data.schema import SAMPLE_SCHEMA, Problem, table_from_problems
from flows.commands.rescore import rescore_result

HALF = Problem("half", "math", "heldout", "What is a half?", "0.5")


def samples(*statuses):
    blank = dict.fromkeys(SAMPLE_SCHEMA.names)
    rows = [
        blank | {"problem_id": "half", "sample": number, "response": "so</think>\\boxed{50\\%}", "status": status,
                 "score": float(status == "correct"), "checker_failed": False, "weak": False, "extracted": "50\\%", "reason": ""}
        for number, status in enumerate(statuses)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA).append_column("model", pa.array(["sft"] * len(rows)))


@pytest.fixture
def curation(seal):
    return seal("curation", rows={"heldout.parquet": table_from_problems([HALF])})


def test_the_same_rules_confirm_a_result(seal, curation, capsys):
    evaluation = seal("evaluation", curation, rows={"samples.parquet": samples("wrong", "wrong")})
    assert rescore_result(evaluation.fingerprint[:8]) == 0
    assert "2 responses judged again by the same rules; every verdict is the stored one" in capsys.readouterr().out


def test_a_stored_verdict_that_the_rules_do_not_give_is_an_exit_code_of_one(seal, curation, capsys):
    evaluation = seal("evaluation", curation, rows={"samples.parquet": samples("correct", "wrong")})
    assert rescore_result(evaluation.fingerprint[:8]) == 1
    said = capsys.readouterr().out
    assert "1 of 2 verdicts change" in said
    assert "half" in said


def test_another_policy_tells_what_it_decides_for_programs_too(seal, curation, capsys):
    evaluation = seal("evaluation", curation, rows={"samples.parquet": samples("wrong")})
    assert rescore_result(evaluation.fingerprint[:8], policy=("percent_has_value=true",), json_=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["scores"] == [{"model": "sft", "responses": 1, "stored": 0.0, "now": 1.0, "changed": 1}]
    (changed,) = document["changed"]
    assert (changed["gold"], changed["stored"]["status"], changed["now"]["status"]) == ("0.5", "wrong", "correct")


def test_a_result_that_keeps_no_response_is_refused(curation):
    with pytest.raises(ValueError, match="is a result of the stage curation and keeps no response"):
        rescore_result(curation.fingerprint[:8])


def test_responses_that_were_read_without_thinking_are_read_so_again(seal, curation, capsys):
    whole = samples("correct").drop_columns("response").append_column("response", pa.array(["It is \\boxed{0.5}"]))
    rows = {"samples.parquet": whole}
    files = {"judging.json": '{"requires_thinking": false}'}
    assert rescore_result(seal("evaluation", curation, rows=rows, files=files).fingerprint[:8]) == 0
    assert rescore_result(seal("evaluation", curation, rows=rows, config={"other": 1}).fingerprint[:8]) == 1
