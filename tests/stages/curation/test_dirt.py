"""What was planted is counted, whether it was dropped or slipped through, and changes nothing about the other rows."""

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from data.schema import problems_from_table
from stages.config import CurationConfig, Decontamination, Dirt, ProceduralSource, Runtime
from stages.curation import run
from stages.stage import StageLog

DIRT = {"copies": 0.1, "leaks": 0.1, "broken_traces": 0.1, "cut_off": 0.1, "malformed": 0.12}
SPLITS = ("base", "heldout", "probe", "rl", "sft", "validation")


def _source(name, split, **settings):
    teacher = {"styles": {"long": 1.0}, "slips": {"long": 0.0}} if split != "heldout" else None
    settings = {"num_problems": 100, "levels": {2: 0.5, 3: 0.5}, "teacher": teacher, **settings}
    return ProceduralSource(kind="procedural", name=name, split=split, **settings)


def _config(dirt):
    sources = (_source("held", "heldout"), _source("traces", "sft", num_kept=100, dirt=dirt), _source("pool", "rl"))
    return CurationConfig(sources=sources, decontamination=Decontamination(coverage=0.9))


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    def make(dirt):
        out = tmp_path_factory.mktemp("curated")
        return out, run(_config(dirt), inputs={}, runtime=Runtime(workers=1), out=out, log=StageLog(None))

    return make(Dirt(**DIRT)), make(None)


def _rows(folder, name):
    return problems_from_table(pq.read_table(folder / f"{name}.parquet"))


def test_the_other_rows_are_the_same_as_without_dirt(curated):
    (dirty, _), (clean, _) = curated
    for split in SPLITS:
        assert _rows(dirty, split) == _rows(clean, split)


def test_every_planted_row_is_counted_once(curated):
    (folder, record), _ = curated
    table = record.tables["dirt"]
    assert sum(row["rows"] for row in table) == 52 == record.metrics["curation/dirt_planted"]
    assert all(row["rows"] == row["dropped"] + row["slipped through"] for row in table)
    dropped = pq.read_table(folder / "dropped.parquet").to_pylist()
    assert all(row["reason"] and row["evidence"] for row in dropped)
    assert sum('"dirt"' in row["meta"] for row in dropped) == 52
    assert sum(row["of these planted"] for row in record.tables["funnel"]) == 52


def test_what_is_wrong_is_dropped_for_it(curated):
    (_, record), _ = curated
    found = {(row["planted"], row["form"]): row for row in record.tables["dirt"]}
    for key, reason in (
        (("copy", "verbatim"), "duplicate: same text ("),
        (("copy", "numbers in words"), "duplicate: same text after normalisation"),
        (("leak", "verbatim"), "duplicate: same text ("),
        (("leak", "wrapped"), "contaminated: shared n-grams"),
        (("broken trace", "wrong answer"), "solution does not verify (2)"),
        (("broken trace", "cut off"), "trace: thinking not closed (2)"),
        (("broken trace", "in circles"), "trace: repetition (2)"),
        (("malformed", "bad encoding"), "invalid characters"),
        (("malformed", "answer lost"), "no answer or tests"),
    ):
        assert found[key]["slipped through"] == 0 and found[key]["dropped as"].startswith(reason)


def test_a_wrong_step_before_a_right_answer_slips_through_and_is_said_so(curated):
    (_, record), _ = curated
    (row,) = (row for row in record.tables["dirt"] if row["form"] == "wrong step")
    assert row["slipped through"] == row["rows"] == 2
    (note,) = (note for note in record.notes if "wrong on purpose" in note)
    assert note.startswith("the sources planted 52 rows") and "0 of those stand in a split" in note


def test_a_curation_without_dirt_says_nothing_of_it(curated):
    _, (_, record) = curated
    assert "dirt" not in record.tables and not any("wrong on purpose" in note for note in record.notes)
    assert "of these planted" not in record.tables["funnel"][0]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (lambda: (_source("held", "heldout", dirt=Dirt(copies=0.1)),), "dirt is for rows that are trained on"),
        (lambda: (_source("pool", "rl", dirt=Dirt(broken_traces=0.1)),), "dirt.broken_traces is for splits"),
        (lambda: (_source("traces", "sft", dirt=Dirt(leaks=0.1)),), "which no generated source before it feeds"),
    ],
)
def test_dirt_that_cannot_be_is_refused_with_what_to_do(sources, message):
    with pytest.raises(ValidationError, match=message):
        CurationConfig(sources=sources())
