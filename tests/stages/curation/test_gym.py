"""Puzzles of reasoning-gym through curation."""

import json

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from data.schema import PROBLEM_SCHEMA, problems_from_table, read_table
from stages.config import CurationConfig, GymSource, Runtime
from stages.curation import run
from stages.curation.cleansing import first_objection
from stages.stage import StageLog

GENERATORS = {"chain_sum": 0.4, "lcm": 0.3, "jugs": 0.3}


def source(name="puzzles", split="rl", **settings):
    return GymSource(kind="gym", name=name, split=split, num_problems=20, generators=GENERATORS, **settings)


def test_rows_pass_curation_and_none_is_trained_on_that_is_held_out(tmp_path):
    pytest.importorskip("reasoning_gym", reason="needs the extra `gym`")
    config = CurationConfig(sources=(source("held", "heldout"), source("watched", "probe"), source()))
    run(config, inputs={}, runtime=Runtime(workers=1), out=tmp_path, log=StageLog(None))
    kept = {
        split: problems_from_table(read_table(tmp_path / f"{split}.parquet", PROBLEM_SCHEMA))
        for split in ("heldout", "probe", "rl")
    }
    assert {split: len(rows) for split, rows in kept.items()} == {"heldout": 20, "probe": 20, "rl": 20}
    assert len({row.prompt for rows in kept.values() for row in rows}) == 60
    assert not len(pq.read_table(tmp_path / "dropped.parquet"))
    assert "reasoning-gym/jugs" in {row.source for row in kept["rl"]}


def test_a_gold_answer_that_its_own_scorer_refuses_is_dropped(tmp_path, problem, folder):
    pytest.importorskip("reasoning_gym", reason="needs the extra `gym`")
    from data.sources.gym import draw_problems

    (row,) = draw_problems(name="x", split="rl", num_problems=1, generators={"lcm": 1.0}, settings={}, seed=0)
    broken = json.loads(row.tests)
    broken["entry"]["dict"] = [["answer", "none"], ["metadata", {"dict": []}]]
    files = folder(
        row, problem(row.prompt + " Say it.", id="b", domain="gym", split="rl", answer="7", tests=json.dumps(broken))
    )
    record = run(
        CurationConfig(), inputs={"data-dir": files}, runtime=Runtime(workers=1), out=tmp_path / "o", log=StageLog(None)
    )
    assert len(read_table(tmp_path / "o" / "rl.parquet", PROBLEM_SCHEMA)) == 1
    assert pq.read_table(tmp_path / "o" / "dropped.parquet")["reason"].to_pylist() == ["gold answer does not verify"]
    assert record.metrics["curation/rows_kept"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generators": {"acre": 1.0}}, "generator 'acre' is left out: its code is under GPL-3.0"),
        ({"generators": {"tetris": 1.0}}, "no generator 'tetris'"),
        ({"generators": {"lcm": 0.5}}, "sum to 1"),
        ({"settings": {"gcd": {}}}, "settings for gcd, which generators does not name"),
        ({"split": "sft"}, "'rl', 'probe' or 'heldout'"),
    ],
)
def test_a_recipe_that_cannot_be_drawn_is_refused_before_anything_starts(changes, message):
    given = {"kind": "gym", "name": "puzzles", "split": "rl", "num_problems": 9, "generators": {"lcm": 1.0}}
    with pytest.raises(ValidationError, match=message):
        GymSource(**{**given, **changes})


def test_tests_that_are_none_are_malformed(problem):
    row = problem("A puzzle.", domain="gym", answer="7", tests='{"type": "call"}')
    reason, evidence = first_objection(row, CurationConfig())
    assert reason == "malformed tests"
    assert "'call'" in evidence


@pytest.mark.parametrize(
    ("prompt", "answer", "reason"),
    [
        ("You have jugs A:6, B:13, C:6. Fill A., B. and C. to get 4 litres.", '["fill A"]', None),
        ("Reverse these words: through, more, in, Yes", "Yes, in, more, through", None),
        ("Does it follow? Answer Yes or No.", "Yes", "true/false or yes/no"),
    ],
)
def test_rules_for_prose_do_not_hold_for_puzzles_but_what_can_be_guessed_goes(problem, prompt, answer, reason):
    from data.domains.gym import tests_text
    from data.sandbox import tagged

    entry = tagged.dumps({"answer": answer, "metadata": {}})
    tests = tests_text("jugs", settings=tagged.dumps({}), entry=entry)
    found = first_objection(problem(prompt, domain="gym", answer=answer, tests=tests), CurationConfig())
    assert (found[0] if found else None) == reason
