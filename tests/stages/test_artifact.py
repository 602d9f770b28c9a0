"""Identity and sealing: a result is its payload's hash, exists only with its manifest, and a flipped byte is found."""

import json
import math

import pytest

from stages.artifact import ArtifactError, Store, canonical_json, fingerprint, problems_of, read_manifest, write_json
from stages.stage import STATE

PAYLOAD = {"stage": "sft", "arm": None, "config": {"a": 1}, "code": "c", "inputs": {}}


def sealed(store: Store, payload=PAYLOAD, text="weights"):
    identity = fingerprint(payload)
    partial = store.partial(payload["stage"], identity)
    (partial / STATE).mkdir(parents=True)
    (partial / STATE / "resume").write_text("x")
    (partial / "model").mkdir()
    (partial / "model" / "weights").write_text(text)
    (partial / "tables.json").write_text("{}")
    return store.seal(
        stage=payload["stage"], identity=identity, document={"payload": payload, "inputs": {}, "metrics": {}}
    )


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": (2, 3)}) == '{"a":[2,3],"b":1}'


@pytest.mark.parametrize("value", [{"x": {1, 2}}, {"x": print}, {"x": math.nan}, {"x": object()}])
def test_canonical_json_refuses_what_has_no_stable_form_and_names_it(value):
    with pytest.raises(TypeError, match="x: "):
        canonical_json(value)


def test_a_sealed_result_verifies_and_has_dropped_its_resume_state(tmp_path):
    manifest = sealed(Store(tmp_path))
    assert problems_of(manifest) == []
    assert not (manifest.folder / STATE).exists()
    assert Store(tmp_path).find("sft", manifest.fingerprint) is not None


def test_a_folder_without_a_manifest_does_not_exist(tmp_path):
    store = Store(tmp_path)
    store.place("sft", "abc").mkdir(parents=True)
    assert store.find("sft", "abc") is None
    with pytest.raises(ArtifactError, match="not a finished result"):
        read_manifest(store.place("sft", "abc"))


@pytest.mark.parametrize("damage", ["flip", "remove", "add", "payload"])
def test_damage_is_found_and_named(tmp_path, damage):
    manifest = sealed(Store(tmp_path))
    target = manifest.folder / "model" / "weights"
    if damage == "flip":
        target.write_text("weighty")
    elif damage == "remove":
        target.unlink()
    elif damage == "add":
        (manifest.folder / "extra").write_text("")
    else:
        document = json.loads((manifest.folder / "manifest.json").read_text())
        document["payload"]["config"]["a"] = 2
        write_json(manifest.folder / "manifest.json", document)
    expected = {
        "flip": "model/weights: sha256",
        "remove": "weights: missing",
        "add": "extra: not in",
        "payload": "fingerprint: not",
    }[damage]
    assert any(expected in line for line in problems_of(read_manifest(manifest.folder)))


def test_a_newer_format_is_refused_with_what_to_do(tmp_path):
    manifest = sealed(Store(tmp_path))
    write_json(manifest.folder / "manifest.json", {**manifest.document, "format": 99})
    with pytest.raises(ArtifactError, match=r"format 99.*update it"):
        read_manifest(manifest.folder)


def test_sealing_again_replaces_the_older_result(tmp_path):
    store = Store(tmp_path)
    first = sealed(store)
    second = sealed(store, text="other")
    assert first.folder == second.folder and first.content != second.content
    assert problems_of(second) == []
    assert len(store.all()) == 1


def test_an_id_must_begin_exactly_one_fingerprint(tmp_path):
    store = Store(tmp_path)
    manifest = sealed(store)
    assert store.by_id(manifest.fingerprint[:6]).fingerprint == manifest.fingerprint
    with pytest.raises(ArtifactError, match="0 results begin"):
        store.by_id("zz")
