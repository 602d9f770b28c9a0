"""Results made by hand, as far as the page reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.schema import ROLLOUT_SCHEMA, write_table
from stages.records.artifact import Manifest

Make = Callable[..., Manifest]


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """A result of a stage: its tables, lines of steps.jsonl, rows of its steps, other files by name, config, entries of its document."""

    def make(stage: str, arm: str | None = None, **parts: Any) -> Manifest:
        folder = tmp_path / f"{stage}-{arm}"
        folder.mkdir()
        (folder / "tables.json").write_text(json.dumps(parts.get("tables", {})))
        (folder / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in parts.get("steps", ())))
        for step, rows in parts.get("rollouts", {}).items():
            table = pa.Table.from_pylist(list(rows), schema=ROLLOUT_SCHEMA)
            write_table(table, folder / "rollouts" / f"step-{step:06d}.parquet")
        for name, table in parts.get("files", {}).items():
            write_table(table, folder / name)
        for name, value in parts.get("values", {}).items():
            (folder / name).write_text(json.dumps(value))
        document = {
            "payload": {"stage": stage, "arm": arm, "config": parts.get("config", {})},
            "fingerprint": "f" * 32, "content": "c" * 64, "seconds": 1.0,
            "timings": {}, "code": {"commit": None}, "mlflow_run_id": "", "notes": parts.get("notes", []),
        }  # fmt: skip
        document |= {name: parts[name] for name in ("made_at", "recipe", "prefect_flow_run_id") if name in parts}
        return Manifest(folder, document)

    return make


@pytest.fixture
def response() -> Callable[..., dict[str, Any]]:
    """A row of ROLLOUT_SCHEMA."""

    def row(sample: int = 0, **columns: Any) -> dict[str, Any]:
        values = {
            "step": 1, "group": 0, "budget_rank": 0, "policy_version": 0, "problem_id": "p", "domain": "math", "sample": sample,
            "prompt_ids": [1], "response": f"said {sample}", "token_ids": [2], "logprobs": [-0.5], "status": "wrong", "score": 0.0,
            "checker_failed": False, "weak": False, "extracted": "", "reason": "not equal", "seed": 1, "entropy": 0.5,
            "num_tokens": 9, "truncated": False, "advantage": 0.0, "kept_tokens": 9, "weight": 0.1,
        }  # fmt: skip
        return {**values, **columns}

    return row
