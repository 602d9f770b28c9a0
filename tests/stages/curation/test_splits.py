import pytest

from stages.config import CurationConfig, ProceduralSource
from stages.curation.pool import Candidate
from stages.curation.splits import SPLITS, drop_surplus, fill_splits


def test_the_first_rows_are_kept_and_the_rest_is_surplus(problem):
    source = ProceduralSource(kind="procedural", name="some", split="sft", num_problems=5, num_kept=2, levels={1: 1.0})
    pool = [Candidate(problem(id=f"s/{i}", split="sft"), "some", generated=True) for i in range(4)]
    pool.append(Candidate(problem(id="a/0", split="sft"), "local", generated=False))
    sifted = drop_surplus(pool, CurationConfig(sources=(source,)))
    assert [kept.problem.id for kept in sifted.kept] == ["s/0", "s/1", "a/0"]
    assert [(drop.candidate.problem.id, drop.reason) for drop in sifted.dropped] == [
        ("s/2", "surplus"),
        ("s/3", "surplus"),
    ]


def test_there_are_always_six_splits():
    assert fill_splits([], {}) == {split: [] for split in SPLITS}
    assert set(SPLITS) == {"base", "sft", "validation", "rl", "probe", "heldout"}


def test_benchmark_rows_that_can_be_judged_join_heldout(problem):
    rows = [
        problem("Three?", id="b/0", split="eval", source="math500"),
        problem("Four?", id="b/1", split="eval", answer=""),
    ]
    heldout = Candidate(problem("Two?", id="h/0", split="heldout"), "h", generated=True)
    splits = fill_splits([heldout], {"math500": rows})
    assert [(row.id, row.split, row.source) for row in splits["heldout"]] == [
        ("h/0", "heldout", "a"),
        ("b/0", "eval", "math500"),
    ]


def test_a_prompt_in_two_splits_stops_the_stage(problem):
    pool = [Candidate(problem("2 + 2", split="sft"), "a", generated=False)]
    pool.append(Candidate(problem("$2 + 2$", split="rl"), "a", generated=False))
    with pytest.raises(AssertionError, match="stands in sft and in rl"):
        fill_splits(pool, {})
