"""Identity and sealing: a result is its payload's hash, exists only with its manifest, and a flipped byte is found."""

import json
import math

import pytest

from stages.records.artifact import (
    ArtifactError,
    DamagedError,
    Store,
    canonical_json,
    fingerprint,
    folder_problems,
    matching_files,
    problems_of,
    read_manifest,
    root_digest,
    sealed_files,
    write_json,
)
from stages.stage import STATE

PAYLOAD = {"stage": "sft", "arm": None, "config": {"a": 1}, "code": "c", "inputs": {}}
DOCUMENT = {
    "inputs": {},
    "metrics": {"sft/loss": 0.5},
    "timings": {},
    "notes": [],
    "code": {"commit": None, "dirty": None},
    "recipe": "test",
    "status": "ran",
    "seconds": 1.0,
    "made_at": "2026-01-01T00:00:00Z",
    "mlflow_run_id": "run",
}


def sealed(store: Store, payload=PAYLOAD, text="weights"):
    identity = fingerprint(payload)
    partial = store.partial(payload["stage"], identity)
    (partial / STATE).mkdir(parents=True)
    (partial / STATE / "resume").write_text("x")
    (partial / "model").mkdir()
    (partial / "model" / "weights").write_text(text)
    (partial / "tables.json").write_text("{}")
    return store.seal(stage=payload["stage"], identity=identity, document={**DOCUMENT, "payload": payload})


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
    with pytest.raises(ArtifactError, match="no result begins"):
        store.by_id("zz")


@pytest.mark.parametrize("key", ["metrics", "made_at", "inputs"])
def test_a_change_of_any_part_of_a_manifest_breaks_its_seal(tmp_path, key):
    manifest = sealed(Store(tmp_path))
    other = {"metrics": {"sft/loss": 0.4}, "made_at": "2026-01-02T00:00:00Z", "inputs": {"base": {"content": "c"}}}
    write_json(manifest.folder / "manifest.json", {**manifest.document, key: other[key]})
    assert [line.partition(":")[0] for line in problems_of(read_manifest(manifest.folder))] == ["seal"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1, "payload": {}}', "\udcff"])
def test_a_manifest_that_cannot_be_read_is_damage_and_hides_no_other_result(tmp_path, text):
    store = Store(tmp_path)
    broken, whole = sealed(store), sealed(store, payload={**PAYLOAD, "arm": "x"})
    (broken.folder / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DamagedError, match="builds it again"):
        read_manifest(broken.folder)
    assert [bool(folder_problems(folder)) for folder in (broken.folder, whole.folder)] == [True, False]
    assert store.find("sft", broken.fingerprint) is None
    assert [manifest.fingerprint for manifest in store.all()] == [whole.fingerprint]
    assert store.folder_of(broken.fingerprint[:8]) == broken.folder


def test_sealing_the_same_bytes_again_leaves_the_files_that_others_read_in_place(tmp_path):
    store = Store(tmp_path)
    first = sealed(store)
    inode = (first.folder / "model" / "weights").stat().st_ino
    second = sealed(store)
    assert (second.folder / "model" / "weights").stat().st_ino == inode
    assert problems_of(second) == []
    assert not store.partial("sft", second.fingerprint).exists()


def test_sealing_over_a_damaged_result_replaces_its_files(tmp_path):
    store = Store(tmp_path)
    (sealed(store).folder / "model" / "weights").write_text("flipped")
    assert problems_of(sealed(store)) == []


def test_what_a_killed_builder_left_is_no_result_and_is_cleared_before_the_next_build(tmp_path):
    store = Store(tmp_path)
    manifest = sealed(store)
    leftover = manifest.folder.with_name(f"{manifest.fingerprint}.old.123")
    manifest.folder.rename(leftover)
    assert store.all() == []
    partial = store.prepare("sft", manifest.fingerprint, afresh=False)
    assert not leftover.exists()
    kept, half = partial / STATE / "resume", partial / "rollouts" / ".step-1.parquet.4711"
    half.parent.mkdir()
    for path in (kept, half, partial / ".hidden"):
        path.write_text("x")
    store.prepare("sft", manifest.fingerprint, afresh=False)
    assert kept.exists() and (partial / ".hidden").exists() and not half.exists()
    store.prepare("sft", manifest.fingerprint, afresh=True)
    assert [*partial.rglob("*")] == [partial / STATE]


def test_a_half_built_folder_that_lost_its_resume_state_is_built_from_the_start(tmp_path):
    partial = Store(tmp_path).prepare("sft", "abc", afresh=False)
    (partial / "epoch-09").mkdir()
    (partial / STATE).rmdir()
    assert [*Store(tmp_path).prepare("sft", "abc", afresh=False).iterdir()] == [partial / STATE]


def test_a_changed_file_has_another_digest_in_the_same_process(tmp_path):
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "weights"
    path.write_text("one")
    before = matching_files(tmp_path, "**/*")
    path.write_text("other")
    assert before.keys() == matching_files(tmp_path, "**/*").keys() == {"model/weights"}
    assert before != matching_files(tmp_path, "**/*")


def test_a_manifest_that_is_replaced_is_kept_and_a_changed_one_is_not(tmp_path):
    store = Store(tmp_path)
    first = sealed(store)
    second = sealed(store, text="other")
    assert [one.seal for one in store.history("sft", first.fingerprint)] == [first.seal, second.seal]
    write_json(second.folder / "manifest.json", {**second.document, "notes": ["forged"]})
    third = sealed(store)
    assert third.seal == first.seal
    assert {one.seal for one in store.history("sft", first.fingerprint)} == {first.seal}


def test_empty_folders_are_not_sealed_and_a_link_is_refused(tmp_path):
    store = Store(tmp_path)
    identity = fingerprint(PAYLOAD)
    partial = store.prepare("sft", identity, afresh=True)
    (partial / "probes" / "none").mkdir(parents=True)
    (partial / "kept").write_text("x")
    manifest = store.seal(stage="sft", identity=identity, document={**DOCUMENT, "payload": PAYLOAD})
    assert [path.name for path in sorted(manifest.folder.iterdir())] == ["kept", "manifest.json"]
    partial = store.prepare("sft", identity, afresh=True)
    (partial / "kept").symlink_to(tmp_path)
    with pytest.raises(ArtifactError, match="kept is a link"):
        store.seal(stage="sft", identity=identity, document={**DOCUMENT, "payload": PAYLOAD})


def test_what_lies_in_a_result_is_listed_by_what_it_is(tmp_path):
    folder = tmp_path / "result"
    (folder / "a" / "b").mkdir(parents=True)
    for name in ("manifest.json", "a/manifest.json", "a/file"):
        (folder / name).write_text("")
    (folder / "link").symlink_to("a")
    (folder / "empty").mkdir()
    found = sealed_files(folder)
    assert sorted(found.files) == ["a/file", "a/manifest.json"]
    assert found.strange == {"a/b": "an empty folder", "empty": "an empty folder", "link": "a link"}


def test_the_root_depends_on_every_seal_and_on_no_order():
    seals = {"sft/a": "1", "rl/b": "2"}
    assert root_digest(seals) == root_digest(dict(reversed(seals.items())))
    assert (
        len({root_digest(one) for one in (seals, {"sft/a": "1"}, {**seals, "rl/b": "3"}, {"sft/a": "2", "rl/b": "1"})})
        == 4
    )
