"""`ring crosscheck`: lm-eval's verdicts beside the stored ones."""

import importlib.util
import json

import pyarrow as pa
import pytest

from data.schema import SAMPLE_SCHEMA, Problem, table_from_problems
from flows.commands.crosscheck import crosscheck

IS_INSTALLED = importlib.util.find_spec("lm_eval") is not None
needs_library = pytest.mark.skipif(not IS_INSTALLED, reason="the extra `crosscheck` is not installed")
SEVEN = Problem("gsm8k/test/0", "math", "eval", "What is 3 + 4?", "7", source="gsm8k")


def rows(*responses):
    blank = dict.fromkeys(SAMPLE_SCHEMA.names)
    table = [
        blank | {"problem_id": SEVEN.id, "sample": number, "response": response, "status": status, "score": float(status == "correct"),
                 "checker_failed": False, "weak": False, "extracted": extracted, "reason": "compared"}
        for number, (response, status, extracted) in enumerate(responses)
    ]  # fmt: skip
    return {
        "samples.parquet": pa.Table.from_pylist(table, schema=SAMPLE_SCHEMA),
        "problems.parquet": table_from_problems([SEVEN]),
    }


@needs_library
@pytest.mark.slow
def test_what_one_side_alone_calls_right_is_told(seal, capsys):
    responses = [("It is \\boxed{7}.", "correct", "7"), ("It is \\boxed{7}: 1 less than 8", "correct", "7")]
    result = seal("evaluation", rows=rows(*responses))
    assert crosscheck(result.fingerprint[:8], json_=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["library"].startswith("lm-eval 0.4.")
    assert [(row["task"], row["both_right"], row["ours_alone"]) for row in document["agreement"]] == [
        ("gsm8k/flexible-extract/exact_match", 1, 1),
        ("gsm8k/strict-match/exact_match", 2, 0),
    ]
    (apart,) = document["disagreements"]
    assert (apart["problem"], apart["sample"], apart["ours"], apart["read"], apart["theirs"]) == (
        "gsm8k/test/0", 1, "correct", "8", "wrong",
    )  # fmt: skip
    assert crosscheck(result.fingerprint[:8]) == 0
    assert "one side alone calls it right" in capsys.readouterr().out


@needs_library
@pytest.mark.slow
def test_two_judges_that_agree_are_said_to(seal, capsys):
    assert crosscheck(seal("evaluation", rows=rows(("so \\boxed{7}", "correct", "7"))).fingerprint[:8]) == 0
    assert "The two agree in all 2 verdicts." in capsys.readouterr().out


@needs_library
def test_a_result_without_a_response_to_a_known_benchmark_is_refused(seal):
    with pytest.raises(ValueError, match="keeps no response to a problem of math500, aime24, aime25, gsm8k"):
        crosscheck(seal("curation", rows={"problems.parquet": table_from_problems([SEVEN])}).fingerprint[:8])


@pytest.mark.skipif(IS_INSTALLED, reason="the extra `crosscheck` is installed")
def test_without_the_extra_a_person_is_told_which(home):
    with pytest.raises(ValueError, match=r"pip install -e '.\[crosscheck\]' -c constraints.txt"):
        crosscheck("0123")
