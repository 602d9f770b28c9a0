"""How often a chain was tried stands in the page that is published, and never in the one that is sealed."""

import re

import pytest

from flows.bundle import check
from stages.records.run_ledger import RunLedger
from stages.report.page import render
from stages.report.tries import MOST_RUNS, known_tries, tries_document, tries_html, with_tries, without_tries


@pytest.fixture
def ledger(tmp_path) -> RunLedger:
    """Two runs of a chain, one of another form of its recipe, and one of another recipe."""
    made = RunLedger(tmp_path / "home")
    for run, recipe, seed in (("one", "small", 0), ("two", "small", 1), ("else", "other", 2), ("three", "small", 0)):
        made.start(run, recipe=recipe, fingerprints={"sft": str(seed)}, commit="ab" * 20, dirty=run == "two")
        if run == "one":
            made.end(run, outcome="failed", error="no room")
        if run == "two":
            made.end(run, outcome="finished", ran=9)
    return made


def test_runs_of_the_recipe_are_counted_with_how_they_ended(ledger) -> None:
    tries = tries_document(ledger, "three")
    assert tries["said"] == "2 of exactly this chain, 3 of small in any form; before it 1 failed, 1 finished"
    assert [(row["try"], row["outcome"], row["stages that ran"]) for row in tries["runs"]] == [
        (1, "failed", None),
        (1, "finished", 9),
        (2, "this run", None),
    ]
    assert tries_document(ledger, "one")["said"] == "1 of exactly this chain; none before it"


def test_the_sealed_page_is_what_is_left_when_the_runs_are_taken_out(made, ledger) -> None:
    sealed = render("t", {"sft": made("sft")})
    published = with_tries(sealed, known_tries(ledger, "three"))
    assert "2 of exactly this chain" in published and "2 of exactly this chain" not in sealed
    assert without_tries(published) == without_tries(sealed) == sealed
    assert with_tries("a page of before", known_tries(ledger, "three")) == "a page of before"


def test_a_run_that_is_not_in_the_ledger_and_a_damaged_ledger_are_told_in_words(ledger) -> None:
    assert known_tries(ledger, "four")["said"] == "not known: the ledger of this home folder does not name this run"
    ledger.path.write_text(ledger.path.read_text().replace("small", "large", 1))
    told = known_tries(ledger, "three")
    assert told["said"].startswith("not known: a line of the ledger was changed")
    assert str(ledger.home) not in tries_html(told)


def test_many_runs_are_listed_up_to_a_limit_and_the_rest_is_counted(tmp_path) -> None:
    many = RunLedger(tmp_path)
    for number in range(MOST_RUNS + 3):
        many.start(str(number), recipe="small", fingerprints={}, commit=None, dirty=False)
    tries = tries_document(many, str(MOST_RUNS + 2))
    assert (len(tries["runs"]), tries["num_earlier"]) == (MOST_RUNS, 3)
    assert "3 earlier runs are left out here" in tries_html(tries)
    assert check._tries_fault(tries) == ""


def test_the_bundles_own_hand_writes_the_same(made, ledger) -> None:
    for tries in (known_tries(ledger, "three"), known_tries(ledger, "four")):
        assert check.tries_html(tries) == tries_html(tries)
    sealed = render("t", {"sft": made("sft")})
    tries = known_tries(ledger, "three")
    page = check.published_page(sealed, root=check.NO_ROOT, tries=tries)
    assert page.replace(check.banner(check.NO_ROOT), "", 1) == with_tries(sealed, tries)


@pytest.mark.parametrize(
    "changes",
    [
        {"said": "1 of exactly this chain, 3 of small in any form; before it 1 failed, 1 finished"},
        {"said": "2 of exactly this chain, 2 of small in any form; before it 1 finished"},
        {"said": "2 of exactly this chain; before it 1 failed"},
        {"num_earlier": 4},
    ],
)
def test_a_number_of_tries_that_is_not_that_of_the_rows_is_found(ledger, changes) -> None:
    tries = tries_document(ledger, "three")
    assert check._tries_fault(tries) == ""
    assert re.search("the rows give [0-9]", check._tries_fault({**tries, **changes}))
