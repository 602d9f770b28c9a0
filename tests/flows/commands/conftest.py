"""A home folder with results made by hand, for the commands that read one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.schema import write_table
from stages.records.artifact import Manifest, Store, fingerprint, write_json

Seal = Callable[..., Manifest]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("RING_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def seal(home: Path) -> Seal:
    """Seal a result of a stage: its config, metrics, what it was made from, its tables and files."""
    store = Store(home)

    def sealed(stage: str, *parents: Manifest, arm: str | None = None, minute: int = 0, **parts: Any) -> Manifest:
        made_from = {f"rl/{parent.arm}" if parent.arm else parent.stage: parent for parent in parents}
        inputs = {
            key: {
                "stage": parent.stage,
                "fingerprint": parent.fingerprint,
                "content": parent.content,
                "seal": parent.seal,
            }
            for key, parent in made_from.items()
        } | parts.get("data", {})
        digests = {key: entry.get("fingerprint", entry["content"]) for key, entry in inputs.items()}
        payload = {"stage": stage, "arm": arm, "config": parts.get("config", {}), "code": "c0de", "inputs": digests}
        identity = fingerprint(payload)
        folder = store.prepare(stage, identity, afresh=True)
        write_json(folder / "tables.json", parts.get("tables", {}))
        for name in parts.get("models", ()):
            (folder / name).mkdir()
            (folder / name / "config.json").write_text("{}")
        for name, text in parts.get("files", {}).items():
            (folder / name).write_text(text)
        for name, table in parts.get("rows", {}).items():
            write_table(table, folder / name)
        document = {
            "payload": payload, "inputs": inputs, "metrics": parts.get("metrics", {}), "timings": {}, "notes": [],
            "code": {"commit": "ab" * 20, "dirty": False}, "recipe": parts.get("recipe", "tiny"), "status": "ran", "seconds": 1.0,
            "made_at": f"2026-11-27T23:{minute:02d}:09Z", "mlflow_run_id": "12" * 16,
        }  # fmt: skip
        return store.seal(stage=stage, identity=identity, document=document)

    return sealed
