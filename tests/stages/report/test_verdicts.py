"""The rows behind the scores: every held-out problem once, with what each model answered."""

import pyarrow as pa
import pytest

from data.schema import PROBLEM_SCHEMA, SAMPLE_SCHEMA
from stages.report.verdicts import MOST_CELLS, VerdictGroup, right_answers, row_anchors, verdict_groups


def problem(problem_id: str, *, level: int | None = 1, split: str = "heldout", **columns) -> dict:
    meta = "{}" if level is None else f'{{"level": {level}}}'
    values = {
        "id": problem_id,
        "domain": "math",
        "split": split,
        "prompt": "p",
        "answer": "7",
        "tests": "",
        "solution": "",
    }
    return {**values, "source": "mine", "licence": "MIT", "meta": meta, **columns}


def answered(problem_id: str, sample: int, status: str = "wrong", model: str = "sft") -> dict:
    values = {
        "problem_id": problem_id, "domain": "math", "sample": sample, "prompt_ids": [1], "response": "r", "token_ids": [2],
        "logprobs": [0.0],
        "status": status, "score": float(status == "correct"), "checker_failed": False, "weak": False, "extracted": "", "reason": "",
        "seed": 1, "entropy": 0.5, "num_tokens": 1, "truncated": False,
    }  # fmt: skip
    return {**values, "model": model}


@pytest.fixture
def of(made):
    """Groups of problems and samples."""

    def groups(problems, samples, trained=()):
        files = {
            "heldout.parquet": pa.Table.from_pylist(list(problems), schema=PROBLEM_SCHEMA),
            "rl.parquet": pa.Table.from_pylist(list(trained), schema=PROBLEM_SCHEMA),
        }
        schema = SAMPLE_SCHEMA.append(pa.field("model", pa.string()))
        curation = made("curation", files=files)
        evaluation = made("evaluation", files={"samples.parquet": pa.Table.from_pylist(list(samples), schema=schema)})
        return verdict_groups(evaluation, curation), curation

    return groups


def test_a_row_says_how_each_model_answered_greedily_and_how_many_samples_are_right(of) -> None:
    samples = [
        answered("a", -1, "correct"),
        answered("a", 0, "correct"),
        answered("a", 1),
        answered("a", 2, "no_answer"),
    ]
    samples += [answered("a", -1, "no_answer", "rl")]
    ((group,), _) = of([problem("a")], samples)
    assert group.rows == (
        {"problem": "a", "level": "1", "right answer": "7", "sft": "right, 1 of 3", "rl": "no answer"},
    )


def test_a_problem_stands_once_in_its_smallest_group(of) -> None:
    problems = [
        problem("a"),
        problem("b", level=3),
        problem("c", split="eval", source="math500"),
        problem("d", domain="code"),
    ]
    groups, _ = of(problems, [answered("a", -1)], trained=[problem("t", level=2)])
    assert {group.name: [row["problem"] for row in group.rows] for group in groups} == {
        "math": ["a"], "code": ["d"], "harder": ["b"], "math500": ["c"],
    }  # fmt: skip


def test_problems_past_the_limit_are_counted(of) -> None:
    most = MOST_CELLS // 4  # with one model
    problems = [problem(f"p{number}") for number in range(most + 2)]
    ((group,), _) = of(problems, [answered("p0", -1)])
    assert (len(group.rows), group.left_out) == (most, 2)


def test_a_long_answer_is_cut_and_tests_are_said_in_words(of) -> None:
    problems = [problem("a", answer="9" * 61), problem("b", answer="", tests="{}")]
    _, curation = of(problems, [answered("a", -1)])
    assert right_answers(curation) == {"a": "9" * 59 + "…", "b": "passes its tests"}


def test_every_group_of_a_table_leads_to_rows_that_hold_its_own(made) -> None:
    groups = [VerdictGroup(name, (), 0) for name in ("math", "harder", "owner/set 1")]
    named = ("all", "math", "math level 2", "level 2", "harder", "science level 2")
    rows = {"results": [{"group": name} for name in named], "benchmark_scores": [{"benchmark": "owner/set 1"}]}
    evaluation = made("evaluation", tables=rows)
    assert row_anchors(groups, evaluation) == {
        "all": "rows",
        "math": "rows-math",
        "math level 2": "rows-math",
        "level 2": "rows",
        "harder": "rows-harder",
        "science level 2": "rows",
        "owner/set 1": "rows-owner/set-1",
    }
    assert row_anchors([], evaluation) == {}
