import random
from collections import Counter

import pytest

from data.schema import read_table
from stages.config import CurationConfig, Mixture, ProceduralSource, Runtime
from stages.curation import run
from stages.curation.mixture import compared, left_out, rl_rows, sft_rows, shortages
from stages.curation.normalisation import comparison_key
from stages.stage import StageLog

NUMBERS = {"math": 60, "code": 30, "science": 10}


def test_the_first_rows_are_kept_and_the_rest_is_surplus(problem, batch, pool):
    source = ProceduralSource(kind="procedural", name="some", split="sft", num_problems=5, num_kept=2, levels={1: 1.0})
    rows = [problem(id=f"s/{i}", split="sft") for i in range(4)]
    batches = [
        batch(rows[0], via="some", generated=True),
        batch(*rows[1:], via="some", generated=True),
        batch(problem(id="a/0", split="sft"), via="local"),
    ]
    gone = list(left_out(pool(*batches), CurationConfig(sources=(source,))))
    assert [[(drop.row, drop.reason) for drop in drops] for drops in gone] == [[], [(1, "surplus"), (2, "surplus")], []]


def test_the_scarcest_domain_decides_how_large_sft_is():
    assert sft_rows(NUMBERS, {"math": 0.6, "code": 0.2, "science": 0.2}) == {"math": 30, "code": 10, "science": 10}
    assert sft_rows(NUMBERS, {"math": 0.645, "code": 0.255, "science": 0.092}) == {"math": 60, "code": 23, "science": 8}
    assert sft_rows(NUMBERS, {"math": 2.0}) == {"math": 60, "code": 0, "science": 0}
    assert sft_rows(NUMBERS, {}) == sft_rows({}, {"math": 1.0}) == {}


def test_a_domain_that_sft_wants_and_nobody_has_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"curation.mixture.sft asks for science, and no such row is left"):
        sft_rows({"math": 5}, {"math": 0.5, "science": 0.5})


def test_rl_has_at_most_what_is_asked_and_says_what_it_lacks():
    asked = {"math": 50, "code": 40}
    kept = rl_rows(NUMBERS, asked)
    assert kept == {"math": 50, "code": 30, "science": 0}
    assert shortages(kept, asked) == ["rl holds 30 code rows, the mixture asks for 40"]


def test_what_is_asked_stands_beside_what_is_reached():
    splits = [
        {"split": "sft", "domain": "math", "rows": 5, "share": 0.625},
        {"split": "sft", "domain": "code", "rows": 3, "share": 0.375},
        {"split": "rl", "domain": "math", "rows": 2, "share": 1.0},
    ]
    rows = compared(splits, Mixture(sft={"math": 2.0, "code": 1.0}, rl={"math": 2, "code": 1000}))
    assert [tuple(row.values()) for row in rows] == [
        ("sft", "math", "66.7%", "62.5%", 5),
        ("sft", "code", "33.3%", "37.5%", 3),
        ("rl", "math", "2 rows", "2 rows", 2),
        ("rl", "code", "1,000 rows", "0 rows", 0),
    ]


@pytest.mark.parametrize("amounts", [{"math": -1}, {"math": 0}])
def test_a_mixture_of_nothing_is_refused(amounts):
    with pytest.raises(ValueError, match="at least 0"):
        Mixture(sft=amounts)


def _rows(problem):
    return [
        problem(f"{split} {domain} {number}", id=f"{split}/{domain}/{number}", split=split, domain=domain)
        for split in ("sft", "rl", "probe")
        for domain, count in NUMBERS.items()
        for number in range(count)
    ]


def _kept(rows, gone, size):
    return {row.id for place, row in enumerate(rows) if place % size not in {drop.row for drop in gone[place // size]}}


def test_the_same_rows_stay_whatever_their_order_and_the_batches(problem, batch, pool):
    mixture = Mixture(sft={"math": 0.5, "code": 0.4, "science": 0.1}, rl={"math": 7, "code": 100, "science": 3})
    config = CurationConfig(mixture=mixture)
    kept = []
    for size, seed in ((50, 0), (30, 1)):
        rows = _rows(problem)
        random.Random(seed).shuffle(rows)
        parts = [batch(*rows[start : start + size]) for start in range(0, len(rows), size)]
        kept.append(_kept(rows, list(left_out(pool(*parts), config)), size))
    assert kept[0] == kept[1]
    assert Counter(key.rpartition("/")[0] for key in kept[0]) == {
        "sft/math": 37, "sft/code": 30, "sft/science": 7, "rl/math": 7, "rl/code": 30, "rl/science": 3,
        "probe/math": 60, "probe/code": 30, "probe/science": 10,
    }  # fmt: skip


def test_another_seed_keeps_other_rows(problem, batch, pool):
    rows = _rows(problem)
    mixture = Mixture(sft={}, rl={"math": 10})
    kept = [
        _kept(rows, list(left_out(pool(batch(*rows)), CurationConfig(seed=seed, mixture=mixture))), len(rows))
        for seed in (0, 1)
    ]
    assert kept[0] != kept[1] and len(kept[0]) == len(kept[1])


def test_rows_that_share_an_id_are_told_apart(problem, batch, pool):
    rows = [problem(f"rl {number}", id="same", split="rl") for number in range(20)]
    (drops,) = left_out(pool(batch(*rows)), CurationConfig(mixture=Mixture(sft={}, rl={"math": 12})))
    assert len(drops) == 8


def test_a_row_that_goes_says_how_many_stay(problem, batch, pool):
    rows = _rows(problem)
    config = CurationConfig(mixture=Mixture(sft={}, rl={"math": 59, "code": 30, "science": 10}))
    (drops,) = left_out(pool(batch(*rows)), config)
    assert [(drop.reason, drop.evidence) for drop in drops] == [
        ("surplus of the mixture", "rl keeps 59 of 60 math rows")
    ]


def test_the_splits_share_no_text_with_each_other_nor_with_an_evaluation_row(tmp_path):
    sources = [
        ProceduralSource(kind="procedural", name=name, split=split, num_problems=150, levels={1: 0.7, 2: 0.3})
        for name, split in (("held", "heldout"), ("probe", "probe"), ("pool", "rl"), ("more", "rl"))
    ]
    mixture = Mixture(sft={}, rl={"math": 60, "code": 20, "science": 10})
    config = CurationConfig(sources=tuple(sources), mixture=mixture)
    record = run(config, inputs={}, runtime=Runtime(workers=1), out=tmp_path, log=StageLog(None))
    texts = {}
    for name in ("sft", "rl", "probe", "heldout", "validation", "base"):
        for prompt in read_table(tmp_path / f"{name}.parquet")["prompt"].to_pylist():
            assert texts.setdefault(comparison_key(prompt), name) == name
    shares = {row["domain"]: row["rows"] for row in record.tables["splits"] if row["split"] == "rl"}
    assert shares == {"math": 60, "code": 20, "science": 10}
