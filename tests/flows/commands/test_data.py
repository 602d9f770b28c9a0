import json
import shutil

import pytest

import flows.commands.data as data
from data.schema import Problem, table_from_problems, write_table
from stages.config import CurationConfig, Runtime
from stages.curation import run
from stages.records.artifact import Store
from stages.stage import STATE, StageLog

TEXT = "A train leaves the station at noon and drives 60 kilometres per hour for 3 hours. How far does it get?"


def _problem(name, prompt, **columns):
    given = {"domain": "math", "split": "rl", "answer": "180", "source": "mine", "licence": "MIT", **columns}
    return Problem(id=name, prompt=prompt, **given)


def _seal(store, identity, folder, config):
    """A curation as the chain seals it, without the chain."""
    partial = store.prepare("curation", identity, afresh=True)
    record = run(config, inputs={"data-dir": folder}, runtime=Runtime(workers=1), out=partial, log=StageLog(None))
    (partial / "tables.json").write_text(json.dumps(record.tables))
    shutil.rmtree(partial / STATE / "curation")
    document = {
        "payload": {"stage": "curation", "arm": None},
        "inputs": {},
        "metrics": record.metrics,
        "timings": {},
        "notes": [],
        "code": {},
        "recipe": "mine",
        "status": "ran",
        "seconds": 1.0,
        "made_at": f"2026-01-0{len(identity)}",
        "mlflow_run_id": "",
    }
    store.seal(stage="curation", identity=identity, document=document)


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    """A home with the same rows curated twice, `bb` without decontamination; the commands only read it."""
    folder = tmp_path_factory.mktemp("curated")
    rows = [
        _problem("m/0", TEXT, split="eval", source="math500"),
        _problem("leak", TEXT + " Give kilometres."),
        _problem("good", "What is 6 times 7?", answer="42"),
        _problem("twin", "What is $6$ times $7$?", answer="42"),
        _problem("clear\x1b[2K\r", "Say \x1b]0;title\x07 and \u202e7 times 8.", answer="56"),
        _problem("set[train]/5[/red]", TEXT + " Give metres [and kilometres] [/b]."),
    ]
    write_table(table_from_problems(rows), folder / "in" / "rows.parquet")
    store = Store(folder / "home")
    _seal(store, "a", folder / "in", CurationConfig(benchmarks=("math500",)))
    _seal(store, "bb", folder / "in", CurationConfig(benchmarks=("math500",), skip=("decontamination",)))
    return folder / "home"


@pytest.fixture
def home(curated, monkeypatch):
    monkeypatch.setenv("RING_HOME", str(curated))
    return curated


def test_why_names_the_evidence_and_shows_both_rows(home, capsys):
    assert data.why("leak", curation="a") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "dropped by decontamination: contaminated: shared n-grams" in said
    assert "math500" in said and "m/0" in said and "Give kilometres" in said


def test_why_prints_one_object(home, capsys):
    assert data.why("good", json_=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["curation"] == "bb"  # the newest
    (fate,) = document["found"]
    assert fate["outcome"] == "kept in rl" and [copy["id"] for copy in fate["copies"]] == ["twin"]


def test_a_row_that_no_curation_has_seen_is_code_one(home, capsys):
    assert data.why("nobody") == 1
    assert "no curation has seen a row 'nobody'" in capsys.readouterr().out


def test_diff_lists_the_rows_whose_fate_differs(home, capsys):
    assert data.diff("a", str(home / "artifacts" / "curation" / "bb"), json_=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(row["id"], row["b"]) for row in document["changed"]] == [("leak", "rl"), ("set[train]/5[/red]", "rl")]


def test_diff_prints_what_moved(home, capsys):
    assert data.diff("a", "bb") == 0
    assert "2 rows differ" in capsys.readouterr().out


def test_names_and_texts_with_brackets_are_shown_as_they_are(home, capsys):
    assert data.why("set[train]/5[/red]", curation="a") == data.diff("a", "bb") == 0
    said = capsys.readouterr().out
    assert said.count("set[train]/5[/red]") == 2 and "[and kilometres] [/b]" in " ".join(said.split())


def test_what_a_terminal_obeys_is_shown(home, capsys):
    assert data.why("clear\x1b[2K\r", curation="a") == data.diff("a", "bb") == 0
    said = capsys.readouterr().out
    assert r"clear\x1b[2K\r" in said and r"Say \x1b]0;title\x07 and \u202e7 times 8." in said
    assert not set(said) & set("\x1b\r\x07\u202e")
