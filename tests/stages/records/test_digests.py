"""A sealed file is read once while it stays, and again when anything of it has changed."""

import json
import os
from pathlib import Path

import pytest

from stages.records.artifact import Store, file_digest, fingerprint, folder_problems, write_json
from stages.records.digests import RememberedDigests


def remembering(path: Path) -> RememberedDigests:
    return RememberedDigests(path, read=file_digest, write=write_json)


def remembered_as(path: Path, name: str, sha256: str) -> None:
    """Another answer in the place of the digest: who gives it has not read the file."""
    known = json.loads(path.read_text())
    write_json(path, {**known, name: [*known[name][:-1], sha256]})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "result" / "rollouts"
    path.parent.mkdir()
    path.write_bytes(b"a long arm")
    return path


def test_a_file_that_has_not_changed_is_answered_from_memory(tmp_path: Path, file: Path) -> None:
    first = remembering(tmp_path / "known.json")
    assert first.digest(file, name="rollouts") == file_digest(file)
    first.keep()
    remembered_as(tmp_path / "known.json", "rollouts", "from memory")
    assert remembering(tmp_path / "known.json").digest(file, name="rollouts") == "from memory"
    assert remembering(tmp_path / "known.json").digest(file, name="other") == file_digest(file)


def test_a_flipped_byte_is_found_though_size_and_time_are_put_back(tmp_path: Path, file: Path) -> None:
    first = remembering(tmp_path / "known.json")
    before, state = first.digest(file, name="rollouts"), file.stat()
    first.keep()
    file.write_bytes(b"a lung arm")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_mtime_ns == state.st_mtime_ns
    after = remembering(tmp_path / "known.json").digest(file, name="rollouts")
    assert after == file_digest(file) != before


def test_a_memory_that_was_cut_short_is_none(tmp_path: Path, file: Path) -> None:
    (tmp_path / "known.json").write_text('{"rollouts": [10,')
    assert remembering(tmp_path / "known.json").digest(file, name="rollouts") == file_digest(file)


def test_a_result_that_was_just_sealed_is_not_read_again(tmp_path: Path) -> None:
    store, payload = Store(tmp_path), {"stage": "rl", "arm": "a", "config": {}, "code": "c", "inputs": {}}
    identity = fingerprint(payload)
    partial = store.prepare("rl", identity, afresh=True)
    (partial / "steps.jsonl").write_text("{}")
    document = {"payload": payload, "inputs": {}, "metrics": {}, "timings": {}, "notes": [], "code": {}, "recipe": "r"}
    more = {"status": "ran", "seconds": 1.0, "made_at": "2026-01-01T00:00:00Z", "mlflow_run_id": "m"}
    folder = store.seal(stage="rl", identity=identity, document={**document, **more}).folder
    assert folder_problems(folder, remembered=store.remembered("rl", identity)) == []
    remembered_as(next((tmp_path / "digests").iterdir()), "steps.jsonl", "0" * 64)
    assert "steps.jsonl" in folder_problems(folder, remembered=store.remembered("rl", identity))[0]
    assert folder_problems(folder) == []  # `ring verify` reads
