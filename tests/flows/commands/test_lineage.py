"""`ring lineage`: a graph of results, each told once, down to the raw data."""

import json

import pytest

from flows.commands import lineage
from flows.commands.lineage import raw_rows, trace
from stages.records.artifact import Store

SOURCES = [
    {"source": "easy", "licence": "Apache-2.0", "rows in": 600, "rows kept": 590, "revision": "", "main reason": ""},
    {"source": "hub", "licence": "MIT", "rows in": 9, "rows kept": 8, "revision": "f" * 40, "main reason": ""},
    {"source": "mine", "licence": "CC0-1.0", "rows in": 7, "rows kept": 7, "revision": "", "main reason": ""},
]
CONFIG = {"seed": 3, "sources": [
    {"kind": "procedural", "name": "easy"}, {"kind": "hub", "name": "hub", "repo": "owner/name"}, {"kind": "parquet", "name": "mine"},
]}  # fmt: skip


@pytest.fixture
def chain(seal, monkeypatch):
    monkeypatch.setattr(lineage._out, "_width", 80)
    data = {"source/mine": {"content": "d" * 64}}
    curation = seal("curation", config=CONFIG, tables={"sources": SOURCES}, data=data, files={"rl.parquet": "rows"})
    sft = seal("sft", curation)
    arms = [seal("rl", curation, sft, arm=arm) for arm in ("phased", "mixed")]
    return seal("evaluation", curation, sft, *arms), *arms, sft, curation


def test_each_result_is_told_once_before_what_it_was_made_from(chain, home):
    found = trace(chain[0], store=Store(home)).manifests
    places = {manifest.fingerprint: place for place, manifest in enumerate(found)}
    assert len(found) == len(places) == len(chain)
    for manifest in found:
        for entry in manifest.inputs.values():
            if "fingerprint" in entry:
                assert places[manifest.fingerprint] < places[entry["fingerprint"]]


def test_the_lines_name_inputs_by_short_names_and_end_with_the_raw_data(chain, capsys):
    assert lineage.lineage(chain[0].fingerprint[:8]) == 0
    said = capsys.readouterr().out
    assert sum(line.startswith("curation ") for line in said.splitlines()) == 1
    assert f"rl mixed {chain[2].fingerprint[:8]}" in said
    assert all(
        word in said for word in ("owner/name at ffffffffffff", "generated, seed 3", "CC0-1.0", "sha256 dddddddddddd")
    )
    assert chain[-1].document["files"]["rl.parquet"]["sha256"][:12] in said
    assert len(said.splitlines()) <= 40 and max(map(len, said.splitlines())) <= 80


def test_raw_data_are_told_with_licence_and_what_their_bytes_follow_from(chain):
    rows = [*raw_rows(chain[-1])]
    assert [(row["licence"], row["rows in"], row["kept"]) for row in rows] == [
        ("Apache-2.0", 600, 590), ("MIT", 9, 8), ("CC0-1.0", 7, 7),
    ]  # fmt: skip
    assert [row["made from"] for row in rows] == [
        "generated, seed 3", "owner/name at ffffffffffff", "files, sha256 dddddddddddd",
    ]  # fmt: skip


def test_what_is_gone_or_has_other_bytes_is_said(chain, home, seal, capsys):
    sft, curation = chain[3], chain[4]
    (sft.folder / "manifest.json").unlink()
    seal("curation", config=CONFIG, tables={"sources": []}, data={"source/mine": {"content": "d" * 64}})
    assert lineage.lineage(chain[1].fingerprint) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"sft {sft.fingerprint[:8]} (no longer there)" in said
    assert f"curation {curation.fingerprint[:8]} (other bytes now)" in said


def test_json_is_one_object_with_each_manifest_once(chain, capsys):
    assert lineage.lineage(chain[0].fingerprint, json_=True) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert sorted(item["fingerprint"] for item in results) == sorted(item.fingerprint for item in chain)
