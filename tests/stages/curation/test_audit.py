import functools

import pytest

from data.schema import table_from_problems, write_table
from stages.config import CurationConfig, Runtime
from stages.curation import run
from stages.curation.audit import differences, fates
from stages.stage import StageLog

TEXT = "A train leaves the station at noon and drives 60 kilometres per hour for 3 hours. How far does it get?"


def _rows(problem, answer="42"):
    return [
        problem(TEXT, id="m/0", split="eval", source="math500", answer="180"),
        problem(TEXT + " Give kilometres.", id="leak", answer="180"),
        problem("What is 6 times 7?", id="kept", split="rl", answer=answer),
        problem("What is $6$ times $7$?", id="twin", split="rl", answer=answer),
        problem("Prove that 7 is prime.", id="proof"),
    ]


@pytest.fixture(scope="module")
def curate(tmp_path_factory, problem):
    """A curation of the rows above; made once, since nothing changes it."""

    @functools.cache
    def make(*, answer="42", **config):
        folder = tmp_path_factory.mktemp("curated")
        write_table(table_from_problems(_rows(problem, answer)), folder / "in" / "some.parquet")
        config = CurationConfig(**{"benchmarks": ("math500",), **config})
        inputs = {"data-dir": folder / "in"}
        run(config, inputs=inputs, runtime=Runtime(workers=1), out=folder / "out", log=StageLog(None))
        return folder / "out"

    return make


def test_a_dropped_row_names_its_step_its_reason_and_the_row_it_repeats(curate):
    (fate,) = fates(curate(), "leak")
    assert (fate.outcome, fate.why["step"], fate.why["benchmark"], fate.why["against"]) == (
        "dropped",
        "decontamination",
        "math500",
        "m/0",
    )
    assert fate.against is not None and fate.against["prompt"] == TEXT
    assert fate.why["score"] == 1 and fate.why["method"]


def test_a_kept_row_names_the_copies_it_stands_for(curate):
    (fate,) = fates(curate(), "kept")
    assert (fate.outcome, fate.why) == ("kept in rl", {})
    assert [copy["id"] for copy in fate.copies] == ["twin"]


def test_a_benchmark_row_names_what_gave_it_away(curate):
    (fate,) = fates(curate(), "m/0")
    assert fate.outcome == "benchmark row"
    assert [copy["id"] for copy in fate.copies] == ["leak"]


def test_a_row_that_was_never_there_has_no_fate(curate):
    assert fates(curate(), "nobody") == []


def test_two_curations_differ_in_the_rows_whose_fate_does(curate):
    found = differences(curate(), curate(skip=("decontamination",)))
    assert [row["id"] for row in found["changed"]] == ["leak"]
    assert found["changed"][0]["a"] == "decontamination: contaminated: shared n-grams"
    assert found["changed"][0]["b"] in ("rl", "probe")
    assert {"fate": "cleansing: proof", "a": 1, "b": 1} in found["fates"]


def test_a_row_with_the_same_fate_and_other_content_has_changed(curate):
    found = differences(curate(), curate(answer="43"))
    assert found["changed"] == [
        {"id": "kept", "a": "rl", "b": "rl, with other content"},
        {
            "id": "twin",
            "a": "de-duplication: duplicate: same text after normalisation",
            "b": "de-duplication: duplicate: same text after normalisation, with other content",
        },
    ]


def test_rows_that_share_an_id_are_all_counted(tmp_path, problem, folder):
    rows = [problem(id="same", split="rl"), problem(id="same", split="rl"), problem("Prove that 7 is prime.", id="p")]
    for name, given in (("a", rows), ("b", rows[:1] + rows[2:])):
        inputs = {"data-dir": folder(*given)}
        run(CurationConfig(), inputs=inputs, runtime=Runtime(workers=1), out=tmp_path / name, log=StageLog(None))
    found = differences(tmp_path / "a", tmp_path / "b")
    assert sum(row["a"] for row in found["fates"]) == 3 and sum(row["b"] for row in found["fates"]) == 2
    assert found["changed"] == [{"id": "same", "a": "de-duplication: duplicate: same text and rl", "b": "rl"}]
