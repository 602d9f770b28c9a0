"""The ledger of runs: written before a run begins, never changed, and a run without an end is known."""

import json
import subprocess
import sys

import pytest

from stages.records.run_ledger import LedgerError, RunLedger, plan_digest

PLAN = {"sft": "a" * 32, "selection": "b" * 32}


@pytest.fixture
def ledger(tmp_path) -> RunLedger:
    return RunLedger(tmp_path)


def begin(ledger: RunLedger, run: str, **changes: str) -> None:
    ledger.start(run, recipe="small", fingerprints=PLAN | changes, commit=None)


def test_a_run_stands_in_the_ledger_before_it_has_an_end(ledger) -> None:
    begin(ledger, "one")
    with ledger.going_on("one"):
        assert [run.outcome for run in ledger.runs()] == ["going on"]
    ledger.end("one", outcome="failed", error="no room")
    (run,) = ledger.runs()
    assert (run.outcome, run.start["recipe"], run.end["error"]) == ("failed", "small", "no room")


def test_a_run_whose_process_died_was_killed(ledger) -> None:
    code = (
        "import os, sys; from pathlib import Path; from stages.records.run_ledger import RunLedger\n"
        "ledger = RunLedger(Path(sys.argv[1])); ledger.start('one', recipe='small', fingerprints={}, commit=None)\n"
        "with ledger.going_on('one'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(ledger.home)], check=False)
    assert [run.outcome for run in ledger.runs()] == ["killed"]


def test_tries_count_the_runs_of_exactly_the_same_chain(ledger) -> None:
    for run, changes in (("one", {}), ("two", {"sft": "c" * 32}), ("three", {})):
        begin(ledger, run, **changes)
    assert [(run.run, run.tries) for run in ledger.runs()] == [("one", 1), ("two", 1), ("three", 2)]


def test_what_the_ledger_said_when_a_run_began_stays_though_it_grows(ledger) -> None:
    begin(ledger, "one")
    ledger.end("one", outcome="failed")
    begin(ledger, "two")
    begin(ledger, "three")
    before = ledger.as_of("three")
    assert [(run.run, run.outcome, run.tries) for run in before.runs] == [
        ("one", "failed", 1),
        ("two", "no end by then", 2),
        ("three", "going on", 3),
    ]
    assert (before.line, before.head) == (4, ledger.head())
    ledger.end("two", outcome="stopped")
    ledger.end("three", outcome="finished")
    assert ledger.as_of("three") == before
    assert ledger.as_of("four") is None


def test_the_runs_that_it_names_are_known_also_where_a_line_was_changed(ledger) -> None:
    begin(ledger, "one")
    begin(ledger, "two")
    ledger.path.write_text(ledger.path.read_text().replace("small", "other", 1))
    assert ledger.named_runs() == {"one", "two"}


def test_the_digest_is_of_what_will_be_made() -> None:
    assert plan_digest(PLAN) == plan_digest(dict(reversed(PLAN.items())))
    assert plan_digest(PLAN) != plan_digest({**PLAN, "sft": "c" * 32})


def changed(lines: list[str]) -> list[str]:
    return [lines[0].replace("small", "other"), *lines[1:]]


def without_one(lines: list[str]) -> list[str]:
    return [lines[0], *lines[2:]]


def swapped(lines: list[str]) -> list[str]:
    return [lines[1], lines[0], *lines[2:]]


@pytest.mark.parametrize("damage", [changed, without_one, swapped])
def test_a_line_that_was_changed_removed_or_moved_is_found(ledger, damage) -> None:
    for run in ("one", "two", "three"):
        begin(ledger, run)
    ledger.path.write_text("".join(f"{line}\n" for line in damage(ledger.path.read_text().splitlines())))
    with pytest.raises(LedgerError, match="was changed, moved or removed"):
        ledger.runs()


def test_the_head_shows_what_was_cut_off(ledger) -> None:
    begin(ledger, "one")
    first = ledger.head()
    begin(ledger, "two")
    kept = ledger.head()
    ledger.path.write_text(ledger.path.read_text().splitlines()[0] + "\n")
    assert len(ledger.runs()) == 1
    assert ledger.head() == first != kept


def test_a_line_that_a_dying_machine_cut_short_is_no_line_and_harms_none(ledger) -> None:
    begin(ledger, "one")
    with ledger.path.open("a") as stream:
        stream.write('{"event": "end", "ru')
    assert len(ledger.runs()) == 1
    begin(ledger, "two")
    assert [run.run for run in ledger.runs()] == ["one", "two"]


def test_processes_that_write_at_once_lose_no_line(ledger) -> None:
    code = (
        "import sys; from pathlib import Path; from stages.records.run_ledger import RunLedger\n"
        "for n in range(20): RunLedger(Path(sys.argv[1])).start(f'{sys.argv[2]}-{n}', recipe='r', fingerprints={}, commit=None)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(ledger.home), name]) for name in "ab"]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert len(ledger.runs()) == 40
    assert all(json.loads(line)["event"] == "start" for line in ledger.path.read_text().splitlines())
