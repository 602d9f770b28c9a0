"""`ring runs` says how often something was tried, before anybody says how well it went."""

from flows.commands.runs import tries_behind
from stages.records.run_ledger import RecordedRun, RunLedger, tries_in_words


def runs(*kinds: tuple[str, str]) -> list[RecordedRun]:
    """Runs of (recipe, digest), named by their number."""
    found, tries = [], {}
    for number, (recipe, digest) in enumerate(kinds):
        tries[digest] = tries.get(digest, 0) + 1
        found.append(RecordedRun(str(number), {"recipe": recipe, "digest": digest}, None, "finished", tries[digest]))
    return found


def test_a_run_is_told_with_those_of_the_same_chain_and_of_its_recipe() -> None:
    found = runs(("small", "a"), ("small", "b"), ("large", "c"), ("small", "a"))
    assert tries_in_words(found, "3") == "2 of exactly this chain, 3 of small in any form"
    assert tries_in_words(found, "2") == "1 of exactly this chain"
    assert tries_in_words(found, "of another home") == ""


def test_a_ledger_that_was_changed_is_told_and_stops_no_run_that_ended_well(tmp_path) -> None:
    ledger = RunLedger(tmp_path)
    ledger.start("one", recipe="small", fingerprints={})
    assert tries_behind("one", ledger) == "1 of exactly this chain"
    ledger.path.write_text(ledger.path.read_text().replace('"before":"0', '"before":"1'))
    assert tries_behind("one", ledger).startswith("unknown: ")


def test_a_finished_chain_says_how_many_tries_stand_behind_it(smoke) -> None:
    ended = [run for run in smoke.ring.json("runs", "smoke")["runs"] if run["outcome"] == "finished"]
    assert ended[0]["end"]["ran"] == len(smoke.document["stages"])
    assert ended[0]["end"]["seals"].keys() >= {"sft", "rl/mixed", "evaluation"}
    table = smoke.ring("runs").stdout
    assert "finished" in table
    assert "no run was cut off" in table
    assert smoke.ring("runs", "nothing").stdout.startswith("no run of nothing is recorded")


def test_an_empty_home_says_what_writes_the_first_line(ring) -> None:
    assert "run` writes the first" in ring("runs").stdout
    assert ring.json("runs") == {"head": "0" * 64, "runs": []}
