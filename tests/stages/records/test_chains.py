"""A chain is found by one rule, whichever command asks, also where several homes share one store of records."""

import json
import shutil

import pytest

from stages.records import chains
from stages.records.artifact import Store, fingerprint
from stages.records.chains import LATEST, find_chain
from stages.records.run_ledger import RunLedger
from stages.records.tracking import HOME, UNTIL, Tracker


@pytest.fixture(autouse=True)
def shared(tmp_path, monkeypatch):
    """One store of records for every home of a test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'records.db'}")


def result(home, run_id, *, seed):
    """An SFT, sealed as the run says that made it."""
    payload = {"stage": "sft", "arm": None, "config": {"seed": seed}, "code": "c", "inputs": {}}
    store, identity = Store(home), fingerprint(payload)
    (store.prepare("sft", identity, afresh=True) / "tables.json").write_text("{}")
    document = {
        "payload": payload, "inputs": {}, "metrics": {}, "timings": {}, "notes": [], "code": {}, "recipe": "small", "status": "ran",
        "seconds": 1.0, "made_at": "2026-01-01T00:00:00Z", "mlflow_run_id": run_id,
    }  # fmt: skip
    return store.seal(stage="sft", identity=identity, document=document)


def run_chain(home, *, seed=0, params=(UNTIL,), ends=True, cached=None):
    """Id of a run of the recipe `small`; where `cached` is none it makes a result."""
    tracker, ledger = Tracker(home, "small"), RunLedger(home)
    run_id = tracker.start_chain("small", tags={}, params=dict.fromkeys(params, "sft"))
    ledger.start(run_id, recipe="small", fingerprints={}, commit=None, dirty=False)
    if cached is None:
        tags = {"ring.stage": "sft", "ring.arm": ""}
        stage = tracker.start_stage("sft", parent=run_id, resume=None, tags=tags, params={}, datasets=())
        stage.finish(result(home, stage.run_id, seed=seed))
    else:
        tracker.link_cached(run_id, stage="sft", run_id=cached.document["mlflow_run_id"], identity=cached.fingerprint)
    if ends:
        tracker.finish_chain(run_id, metrics={})
    return run_id


def latest(home):
    return find_chain(LATEST, Store(home)).name


def test_each_home_has_its_own_latest_though_they_share_their_records(tmp_path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    first, second, other = run_chain(ours), run_chain(ours, seed=1), run_chain(theirs, seed=2)
    assert (latest(ours), latest(theirs)) == (second, other)
    found = find_chain(first[:12], Store(ours))
    assert found.name == first and found.results.keys() == found.made.keys() == {"sft"}
    with pytest.raises(ValueError, match=f"no finished chain begins with '{other}'"):
        find_chain(other, Store(ours))


def test_a_run_that_goes_on_and_an_evaluation_of_one_model_are_no_chains(tmp_path) -> None:
    chain = run_chain(tmp_path / "home")
    run_chain(tmp_path / "home", seed=1, params=())
    run_chain(tmp_path / "home", seed=2, ends=False)
    assert latest(tmp_path / "home") == chain


def test_a_chain_whose_results_are_gone_is_not_found(tmp_path) -> None:
    home = tmp_path / "home"
    chain = run_chain(home)
    run_chain(home, seed=1)
    (path,) = [one.folder for one in Store(home).all() if one.document["payload"]["config"]["seed"] == 1]
    path.rename(tmp_path / "away")
    assert latest(home) == chain


def test_a_home_that_was_moved_knows_its_chains_by_its_ledger_and_their_pages(tmp_path) -> None:
    home, moved = tmp_path / "home", tmp_path / "moved"
    first, second = run_chain(home), run_chain(home, seed=1)
    home.rename(moved)
    assert latest(moved) == second
    ledger = RunLedger(moved).path
    ledger.write_text(ledger.read_text().splitlines(keepends=True)[0])
    assert latest(moved) == first
    (moved / "reports").mkdir()
    (moved / "reports" / f"{second}.html").touch()
    assert latest(moved) == second


def test_a_chain_of_a_copy_of_the_home_is_not_the_homes_own(tmp_path) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    chain = run_chain(home)
    shutil.copytree(home, copy)
    (manifest,) = Store(copy).all()
    again = run_chain(copy, cached=manifest)
    assert (latest(home), latest(copy)) == (chain, again)


def test_chains_beyond_one_page_of_records_are_found(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(chains, "_PAGE", 1)
    ids = [run_chain(tmp_path / "home", seed=seed) for seed in range(3)]
    assert [find_chain(one, Store(tmp_path / "home")).name for one in ids] == ids


def test_none_and_several_are_one_message_that_says_what_there_is(tmp_path) -> None:
    home = tmp_path / "home"
    with pytest.raises(ValueError, match="no chain of this home folder is finished"):
        find_chain(LATEST, Store(home))
    ids = [run_chain(home, seed=seed) for seed in range(2)]
    with pytest.raises(
        ValueError, match=f"2 finished chains begin with ''; the last ones of this home folder: {ids[1]}"
    ):
        find_chain("", Store(home))


def test_rows_of_a_chain_name_no_machine_folder_or_process(tmp_path) -> None:
    home = tmp_path / "home"
    run_chain(home)
    chain = find_chain(LATEST, Store(home))
    rows = chain.rows([*chain.made_by.values()])["runs"]
    assert [row["name"] for row in rows] == ["small", "sft"]
    assert str(home) not in json.dumps(rows) and HOME in chain.run.data.tags
