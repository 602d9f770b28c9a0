import io
import itertools
import json
from pathlib import Path

import pytest

from data.schema import DROPPED_SCHEMA, PROBLEM_SCHEMA, read_table
from stages.config import CurationConfig, Decontamination, ProceduralSource, Runtime
from stages.curation import run
from stages.recipe import load_recipe
from stages.stage import StageLog

TEACHER = {"styles": {"long": 0.5, "skip": 0.3, "direct": 0.2}, "slips": {"long": 0.1, "skip": 0.2, "direct": 0.3}}
KINDS = {"chain": 0.4, "lin": 0.3, "list": 0.3}


def _source(name, split, num_problems, **settings):
    settings = {"kinds": KINDS, "levels": {2: 0.5, 3: 0.5}, **settings}
    return ProceduralSource(kind="procedural", name=name, split=split, num_problems=num_problems, **settings)


CONFIG = CurationConfig(
    sources=(
        _source("held", "heldout", 40),
        _source("traces", "sft", 150, num_kept=100, teacher=TEACHER),
        _source("pool", "rl", 150, teacher=TEACHER),
    ),
    benchmarks=("math500", "aime24"),
    decontamination=Decontamination(coverage=0.9),
)
FILES = ("base", "dropped", "heldout", "probe", "rl", "sft", "validation")


def _run(out, *, config=CONFIG, data_dir=None, workers=1, stream=None):
    inputs = {"data-dir": data_dir} if data_dir else {}
    return run(config, inputs=inputs, runtime=Runtime(workers=workers), out=out, log=StageLog(stream))


@pytest.fixture
def data_dir(problem, program, folder):
    text = "A train leaves the station at noon and drives 60 kilometres per hour for 3 hours. How far does it get?"
    return folder(
        problem(text, id="m/0", split="eval", source="math500", answer="180"),
        problem(text + " Give kilometres.", id="copy", answer="180"),
        problem("What is 6 times 7?", id="good", split="sft", solution=r"\boxed{42}"),
        problem("What is $6$ times $7$?", id="twin"),
        problem("What is 6 times 8?", id="wrong", split="sft", answer="48", solution=r"\boxed{47}"),
        problem("Prove that 7 is prime.", id="proof"),
        program(id="sum", split="rl", solution="def add(a, b):\n    return a + b"),
        problem("Old exam?", id="e/0", split="eval", source="exam"),
    )


def test_every_row_is_in_one_file_and_a_dropped_one_has_a_reason(tmp_path, data_dir):
    record = _run(tmp_path / "out", data_dir=data_dir)
    tables = {
        name: read_table(tmp_path / "out" / f"{name}.parquet", PROBLEM_SCHEMA) for name in FILES if name != "dropped"
    }
    dropped = read_table(tmp_path / "out" / "dropped.parquet", DROPPED_SCHEMA)
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.parquet")) == sorted(FILES)
    assert sum(map(len, tables.values())) + len(dropped) == 40 + 150 + 150 + 8
    assert all(dropped["reason"].to_pylist()) and all(dropped["evidence"].to_pylist())
    reasons = dict(zip(dropped["id"].to_pylist(), dropped["reason"].to_pylist(), strict=True))
    assert {key: reasons[key] for key in ("copy", "twin", "wrong", "proof", "e/0")} == {
        "copy": "contaminated: shared n-grams",
        "twin": "duplicate: same text after normalisation",
        "wrong": "solution does not verify",
        "proof": "proof",
        "e/0": "evaluation row",
    }
    assert "good" in tables["sft"]["id"].to_pylist() and "sum" in tables["rl"]["id"].to_pylist()
    assert tables["heldout"]["id"].to_pylist()[-1] == "m/0"
    assert record.metrics["curation/rows_in"] == 348


def test_the_tables_say_what_happened(tmp_path, data_dir):
    record = _run(tmp_path / "out", data_dir=data_dir)
    funnel = record.tables["funnel"]
    assert [row["step"] for row in funnel] == [
        "sources",
        "cleansing",
        "de-duplication",
        "decontamination",
        "verification",
        "splits",
    ]
    assert all(later["kept"] + later["dropped"] == row["kept"] for row, later in itertools.pairwise(funnel))
    assert sum(row["count"] for row in record.tables["reasons"]) == sum(row["dropped"] for row in funnel)
    assert record.tables["leaks"] == [{"source": "a", "benchmark": "math500", "rows": 1}]
    assert {
        "source": "traces",
        "licence": "Apache-2.0",
        "rows in": 150,
        "rows kept": 100,
        "revision": "",
    } in record.tables["sources"]
    assert {row["split"] for row in record.tables["splits"]} == {"heldout", "sft", "rl"}
    assert all(name.startswith("curation/") for name in record.metrics)


def test_a_benchmark_without_rows_is_a_note(tmp_path, data_dir):
    notes = _run(tmp_path / "out", data_dir=data_dir).notes
    assert len(notes) == 1 and notes[0].startswith("benchmark aime24: no source holds its rows")


def test_traces_are_verified_and_surplus_is_counted(tmp_path):
    _run(tmp_path / "out")
    sft = read_table(tmp_path / "out" / "sft.parquet")
    pool = read_table(tmp_path / "out" / "rl.parquet")
    assert len(sft) == 100 and all("</think>" in solution for solution in sft["solution"].to_pylist())
    assert len(pool) == 150 and any(solution == "" for solution in pool["solution"].to_pylist())


def test_one_worker_and_four_write_the_same_bytes(tmp_path, data_dir):
    for workers in (1, 4):
        _run(tmp_path / str(workers), data_dir=data_dir, workers=workers)
    for name in FILES:
        one, four = ((tmp_path / str(workers) / f"{name}.parquet").read_bytes() for workers in (1, 4))
        assert one == four, name


def test_progress_names_the_steps(tmp_path):
    stream = io.StringIO()
    _run(tmp_path / "out", stream=stream)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert events and {event["event"] for event in events} == {"progress"}
    assert events[-1]["done"] == events[-1]["total"]
    assert all(0 <= event["done"] <= event["total"] for event in events)


def test_a_file_without_a_column_is_named(tmp_path, data_dir):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": ["0"], "prompt": ["What?"]}), data_dir / "broken.parquet")
    with pytest.raises(ValueError, match=r"broken\.parquet: lacks the column domain"):
        _run(tmp_path / "out", data_dir=data_dir)


def test_the_public_recipe_reads_the_data_folder_and_ends_with_curation():
    recipe = load_recipe("curate-public").recipe
    assert recipe.until == "curation"
    assert [source.kind for source in recipe.curation.sources] == ["parquet"]
    assert {"math500", "aime24", "aime25", "gsm8k", "mbpp", "humaneval"} <= set(recipe.curation.benchmarks)
    assert Path(recipe.curation.sources[0].folder) == Path("data-dir")
