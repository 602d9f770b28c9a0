"""What is exported is what the records hold: every point, parameter, tag, data set and model of a chain, in either format."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from flows.commands.export_records import write_tables
from tests.flows.conftest import by_key

TABLES = {"runs", "params", "metrics", "tags", "datasets", "models"}


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_both_formats_hold_every_record_of_the_chain(smoke, tmp_path) -> None:
    chain = smoke.document["chain"]
    counts = smoke.ring.json("export-records", chain, str(tmp_path / "lines"), "--format", "jsonl")["rows"]
    smoke.ring("export-records", chain, str(tmp_path / "sheets"))
    assert {path.name for path in (tmp_path / "lines").iterdir()} == {f"{name}.jsonl" for name in TABLES}
    lines = {name: lines_of(tmp_path / "lines" / f"{name}.jsonl") for name in TABLES}
    assert {name: len(rows) for name, rows in lines.items()} == counts
    for name in TABLES:
        with (tmp_path / "sheets" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            rows = [*csv.DictReader(stream)]
        assert len(rows) == counts[name] and [*rows[0]] == [*lines[name][0]]
    names = {row["run_id"]: row["name"] for row in lines["runs"]}
    assert len(names) == 10  # the chain and its nine stages
    mixed = next(run for run, name in names.items() if name == "rl mixed")
    rewards = [row for row in lines["metrics"] if (row["run_id"], row["name"]) == (mixed, "reward/mean")]
    journal = Path(by_key(smoke.document)["rl/mixed"]["artifact"]) / "steps.jsonl"
    assert {row["step"]: row["value"] for row in rewards} == {
        row["step"]: row["reward/mean"] for row in lines_of(journal)
    }
    assert {"run_id": mixed, "name": "rl.objective.token_budget", "value": "400"} in lines["params"]
    assert all(len(row["sha256"]) == 64 for row in lines["datasets"])
    assert Counter(row["context"] for row in lines["models"] if row["run_id"] == mixed) == {"output": 2, "input": 1}
    assert "ring.process" not in {row["name"] for row in lines["tags"]}


def test_one_name_alone_is_the_folder_and_the_chain_is_the_latest(smoke, tmp_path) -> None:
    assert smoke.ring.json("export-records", str(tmp_path / "out"))["rows"]["runs"] > 0
    assert "is there already" in smoke.ring("export-records", str(tmp_path / "out"), code=2).stderr
    assert "no finished chain begins" in smoke.ring("export-records", "beef", str(tmp_path / "no"), code=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_cell_holds_is_read_back(tmp_path) -> None:
    rows = [{"a": 'with, "quotes"\nand lines', "b": None, "c": {"x": 1}}, {"a": "é", "b": 0.1, "c": {}}]
    write_tables({"t": rows, "none": []}, tmp_path / "csv", "csv")
    with (tmp_path / "csv" / "t.csv").open(encoding="utf-8", newline="") as stream:
        read = [*csv.DictReader(stream)]
    assert [row["a"] for row in read] == [row["a"] for row in rows]
    assert [json.loads(row["c"]) for row in read] == [row["c"] for row in rows]
    assert [row["b"] for row in read] == ["", "0.1"]
    write_tables({"t": rows}, tmp_path / "lines", "jsonl")
    assert lines_of(tmp_path / "lines" / "t.jsonl") == rows


def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path) -> None:
    with pytest.raises(ValueError, match="is not there; make it first"):
        write_tables({}, tmp_path / "no" / "out", "csv")
    assert not [*tmp_path.iterdir()]
