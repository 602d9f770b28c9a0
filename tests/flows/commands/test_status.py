"""`ring status` and `ring run` find the same results good."""

import pytest

from flows.commands import status
from flows.launch import why_build
from stages.plan import plan_chain
from stages.recipe import load_recipe
from stages.records.artifact import Store, write_json


@pytest.fixture
def chain(home, monkeypatch):
    """The curation and base of `smoke`, sealed with nothing in them."""
    monkeypatch.setattr(status._out, "_width", 80)
    store, sealed = Store(home), {}
    specs = plan_chain(load_recipe("smoke").recipe)
    for spec in specs[:2]:
        folder = store.prepare(spec.stage, spec.fingerprint, afresh=True)
        write_json(folder / "tables.json", {})
        inputs = {
            key: {"stage": key, "fingerprint": sealed[key].fingerprint, "content": sealed[key].content}
            for key in spec.inputs
        }
        document = {
            "payload": spec.payload, "inputs": inputs, "metrics": {}, "timings": {}, "notes": [], "code": {}, "recipe": "smoke",
            "status": "ran", "seconds": 1.0, "made_at": "", "mlflow_run_id": "",
        }  # fmt: skip
        sealed[spec.key] = store.seal(stage=spec.stage, identity=spec.fingerprint, document=document)
    return store, specs, sealed


def said(capsys) -> str:
    assert status.status("smoke") == 0
    return " ".join(capsys.readouterr().out.split())


def test_what_stands_there_whole_is_up_to_date_for_both(chain, capsys):
    store, specs, _ = chain
    assert said(capsys).count("up to date") == 2
    assert [why_build(spec, store=store) for spec in specs[:3]] == [None, None, "not made yet"]


def test_a_damaged_result_is_damaged_for_both_and_what_follows_stays(chain, capsys):
    store, specs, sealed = chain
    with (sealed["curation"].folder / "tables.json").open("a") as stream:
        stream.write(" ")
    told = said(capsys)
    assert "damaged, is built again by `ring run`: tables.json: sha256" in told
    assert told.count("up to date") == 1
    assert "is damaged and is built again: tables.json" in (why_build(specs[0], store=store) or "")
    assert why_build(specs[1], store=store) is None


def test_a_manifest_that_cannot_be_read_is_damage_and_what_follows_waits_for_it(chain, capsys):
    store, specs, sealed = chain
    (sealed["curation"].folder / "manifest.json").write_text("{")
    told = said(capsys)
    assert "damaged" in told and "out of date" in told and "up to date" not in told
    assert why_build(specs[0], store=store) and why_build(specs[1], store=store)
