"""lm-eval's tasks judge stored responses: what they read, what they are given, and how the two sides are counted."""

import importlib.util

import pytest

from data.schema import Problem
from stages.evaluation import second_opinion
from stages.evaluation.second_opinion import (
    TASKS,
    Opinion,
    agreement_rows,
    disagreements,
    library_version,
    second_opinions,
)
from stages.sampling.rescoring import Judged

IS_INSTALLED = importlib.util.find_spec("lm_eval") is not None
needs_library = pytest.mark.skipif(not IS_INSTALLED, reason="the extra `crosscheck` is not installed")


def judged(source, gold, response, *, status="correct", extracted="", number=0):
    problem = Problem(f"{source}/{number}", "math", "eval", f"Question {number}?", gold, source=source)
    row = {"problem_id": problem.id, "sample": 0, "response": response, "status": status, "extracted": extracted}
    return Judged("model", problem, {**row, "reason": "because"})


def said(*ones):
    """Task -> whether lm-eval calls each response right, in order."""
    found = {}
    for one in second_opinions(ones):
        found.setdefault(one.task.title, []).append(one.is_right)
    return found


@needs_library
@pytest.mark.slow
def test_every_task_is_asked_and_calls_the_gold_right_and_another_answer_wrong():
    ones = [
        judged(source, "72", f"<think>3</think>It is \\boxed{{{answer}}}", extracted=answer, number=number)
        for source in TASKS
        for number, answer in enumerate(["72", "73"])
    ]
    assert said(*ones) == {task.title: [True, False] for tasks in TASKS.values() for task in tasks}


@needs_library
@pytest.mark.slow
def test_the_judge_is_the_library_and_not_ours():
    half = judged("aime24", "0.25", "\\boxed{\\frac{1}{4}}")  # equal, but lm-eval's task compares texts
    double = judged("aime24", "7", "no box: 7", number=1)  # and takes the whole response where there is no box
    assert said(half, double) == {"aime24/exact_match": [False, False]}
    assert said(judged("gsm8k", "7", "no box: 7")) == {"gsm8k/flexible-extract/exact_match": [True]}


@needs_library
@pytest.mark.slow
def test_thoughts_and_what_follows_a_stop_sequence_are_cut_as_the_library_cuts_them():
    thought = judged("gsm8k", "7", "<think>It is 8.</think> It is 7.")
    goes_on = judged("gsm8k", "7", "It is 7.\nQuestion: And 8?", number=1)
    assert said(thought, goes_on) == {"gsm8k/flexible-extract/exact_match": [True, True]}


@needs_library
@pytest.mark.slow
def test_a_task_with_a_sentence_of_its_own_gets_our_answer_in_it_and_none_where_we_found_none():
    found = judged("gsm8k", "7", "so \\boxed{7} of 8", extracted="7")
    nothing = judged("gsm8k", "7", "so 7", status="no_answer", number=1)
    opinions = list(second_opinions([found, nothing]))
    assert [(one.task.filter, one.judged.problem.id, one.read, one.is_right) for one in opinions] == [
        ("flexible-extract", "gsm8k/0", "8", False),
        ("flexible-extract", "gsm8k/1", "7", True),
        ("strict-match", "gsm8k/0", "7", True),
    ]


@needs_library
@pytest.mark.slow
def test_what_our_judge_failed_on_and_what_no_task_knows_is_not_asked():
    failed = judged("gsm8k", "7", "7", status="judge_error", extracted="7")
    unknown = judged("gpqa_diamond", "A", "\\boxed{A}", extracted="A")
    assert list(second_opinions([failed, unknown])) == []


@pytest.mark.skipif(IS_INSTALLED, reason="the extra `crosscheck` is installed")
def test_without_the_library_the_extra_is_named():
    with pytest.raises(ValueError, match=r"lm-eval, which is not installed: pip install -e '.\[crosscheck\]'"):
        library_version()


@needs_library
def test_another_parser_generator_than_the_library_reads_formulas_with_is_refused(monkeypatch):
    monkeypatch.setattr(second_opinion.importlib.metadata, "version", lambda name: "4.13.2")
    with pytest.raises(ValueError, match=r"antlr4-python3-runtime 4\.11, and 4\.13\.2 is installed"):
        library_version()


def test_a_table_of_two_by_two_counts_every_response_once():
    flexible, strict = TASKS["gsm8k"]
    right, wrong = judged("gsm8k", "7", "7"), judged("gsm8k", "7", "8", status="wrong", extracted="8")
    pairs = [(right, True)] * 4 + [(right, False)] * 3 + [(wrong, True)] * 2 + [(wrong, False)]
    opinions = [Opinion("gsm8k", flexible, one, is_right, "") for one, is_right in pairs]
    rows = agreement_rows([*opinions, Opinion("gsm8k", strict, right, True, "7")])
    assert rows[0] == {
        "benchmark": "gsm8k", "task": "gsm8k/flexible-extract/exact_match", "given": "the response", "responses": 10,
        "both_right": 4, "ours_alone": 3, "theirs_alone": 2, "both_wrong": 1,
    }  # fmt: skip
    assert (rows[1]["task"], rows[1]["given"], rows[1]["both_right"]) == ("gsm8k/strict-match/exact_match", "#### …", 1)
    apart = disagreements(opinions)
    assert [(one["ours"], one["theirs"]) for one in apart] == [("correct", "wrong")] * 3 + [("wrong", "correct")] * 2
    assert (apart[-1]["problem"], apart[-1]["gold"], apart[-1]["extracted"], apart[-1]["reason"]) == (
        "gsm8k/0", "7", "8", "because",
    )  # fmt: skip
