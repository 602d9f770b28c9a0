import io
import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.schema import DROPPED_SCHEMA, PROBLEM_SCHEMA, read_table, table_from_problems
from stages.config import CurationConfig, Decontamination, Duplicates, HubSource, Mixture, ProceduralSource, Runtime
from stages.curation import run
from stages.curation.normalisation import comparison_key
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
ROOT = Path(__file__).resolve().parents[3]
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
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.parquet")) == sorted((*FILES, "benchmarks"))
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
        "annotation",
        "mixture",
    ]
    assert all(later["kept"] + later["dropped"] == row["kept"] for row, later in itertools.pairwise(funnel))
    assert sum(row["count"] for row in record.tables["reasons"]) == sum(row["dropped"] for row in funnel)
    assert record.tables["leaks"] == [{"source": "a", "benchmark": "math500", "rows": 1}]
    traces = next(row for row in record.tables["sources"] if row["source"] == "traces")
    assert (traces["licence"], traces["rows in"], traces["rows kept"]) == ("Apache-2.0", 150, 100)
    assert traces["main reason"]
    assert {row["split"] for row in record.tables["splits"]} == {"heldout", "sft", "rl"}
    assert all(name.startswith("curation/") for name in record.metrics)


def test_a_benchmark_without_rows_is_a_note(tmp_path, data_dir):
    notes = [note for note in _run(tmp_path / "out", data_dir=data_dir).notes if note.startswith("benchmark")]
    assert len(notes) == 1 and notes[0].startswith("benchmark aime24: no source holds its rows")


def test_many_benchmarks_without_rows_are_one_line(tmp_path, folder, problem):
    config = CurationConfig(benchmarks=load_recipe("curate-public").recipe.curation.benchmarks)
    (note,) = _run(tmp_path / "out", config=config, data_dir=folder(problem())).notes
    assert note.startswith("benchmarks math500, aime24, aime25 and 22 more: no source holds their rows")


def test_traces_are_verified_and_surplus_is_counted(tmp_path):
    _run(tmp_path / "out")
    sft = read_table(tmp_path / "out" / "sft.parquet")
    pool = read_table(tmp_path / "out" / "rl.parquet")
    assert len(sft) == 100 and all("</think>" in solution for solution in sft["solution"].to_pylist())
    assert len(pool) == 150 and any(solution == "" for solution in pool["solution"].to_pylist())


@pytest.mark.slow
def test_one_worker_and_four_write_the_same_bytes(tmp_path, data_dir):
    for workers in (1, 4):
        _run(tmp_path / str(workers), data_dir=data_dir, workers=workers)
    for name in FILES:
        one, four = ((tmp_path / str(workers) / f"{name}.parquet").read_bytes() for workers in (1, 4))
        assert one == four, name


def test_converted_questions_are_counted_and_keep_what_they_were(tmp_path, problem, folder):
    data_dir = folder(
        problem("What is 6 x 7?\nA. 41\nB. 42\nC. 43", id="open", split="rl", answer="B"),
        problem("What is 6 x 9?\nA. 54\nB. 55\nC. 53", id="copy", split="rl", answer="A"),
        problem("What is 6 x 9?", id="asked", split="rl", answer="54", source="b"),
    )
    config = CurationConfig(choice_questions="convert", duplicates=Duplicates(source_priority=("b",)))
    record = _run(tmp_path / "out", config=config, data_dir=data_dir)
    assert record.tables["conversions"] == [{"source": "a", "converted": 2, "kept": 1}]
    assert record.metrics["curation/choice_questions_converted"] == 2
    kept = {row["id"]: row for row in read_table(tmp_path / "out" / "rl.parquet").to_pylist()}
    assert kept.keys() == {"open", "asked"} and kept["open"]["answer"] == "42"
    notes = json.loads(kept["open"]["meta"])["annotations"]
    assert notes["answer_before"] == "B" and notes["characters"] == 14


def test_a_converted_question_of_a_benchmark_is_found(tmp_path, problem, folder):
    text = "What is 6 x 7?\nA. 41\nB. 42\nC. 43"
    data_dir = folder(
        problem(text, id="m/0", split="eval", source="math500", answer="B"),
        problem("What is 6 x 7?\nA. 36\nB. 42\nC. 49", id="leak", split="rl", answer="B"),
        problem(id="good", prompt="What is the capital of France, in letters?", split="rl", answer="5"),
    )
    config = CurationConfig(choice_questions="convert", benchmarks=("math500",))
    _run(tmp_path / "out", config=config, data_dir=data_dir)
    (row,) = read_table(tmp_path / "out" / "dropped.parquet", DROPPED_SCHEMA).to_pylist()
    assert (row["id"], row["benchmark"], row["against"]) == ("leak", "math500", "m/0")


@pytest.mark.slow
def test_a_mixed_curation_is_the_same_with_four_workers_and_its_splits_share_no_text(tmp_path, public_data):
    mixture = Mixture(sft={"math": 0.7, "code": 0.3}, rl={"math": 60, "code": 1000})
    config = CurationConfig(mixture=mixture, benchmarks=("gsm8k", "mbpp"))
    folder = _some_sets(public_data, tmp_path / "in")
    records = [_run(tmp_path / str(workers), config=config, data_dir=folder, workers=workers) for workers in (1, 4)]
    for name in FILES:
        one, four = ((tmp_path / str(workers) / f"{name}.parquet").read_bytes() for workers in (1, 4))
        assert one == four, name
    texts = {
        name: read_table(tmp_path / "1" / f"{name}.parquet")["prompt"].to_pylist()
        for name in FILES
        if name != "dropped"
    }
    keys = [{comparison_key(text) for text in rows} for rows in texts.values()]
    assert len(set().union(*keys)) == sum(map(len, keys)) and len(texts["heldout"]) > 500
    rows = {(row["split"], row["domain"]): row for row in records[0].tables["splits"]}
    assert rows["rl", "math"]["rows"] == 60
    assert rows["sft", "math"]["share"] == pytest.approx(0.7, abs=1 / len(texts["sft"]))
    assert any(note.endswith("code rows, the mixture asks for 1,000") for note in records[0].notes)
    assert {row["asked"] for row in records[0].tables["mixture"]} == {"70.0%", "30.0%", "60 rows", "1,000 rows"}
    assert "| rl | math | 60 rows | 60 rows | 60 |" in (tmp_path / "1" / "card.md").read_text(encoding="utf-8")


def _some_sets(public_data, folder):
    """A few hundred rows to train on and to measure with, of mathematics and of code."""
    folder.mkdir()
    for name, start, num_rows in (("gsm8k", 7173, 600), ("mbpp", 0, 700)):
        pq.write_table(
            pq.read_table(public_data / f"{name}.parquet").slice(start, num_rows), folder / f"{name}.parquet"
        )
    return folder


_KILLED = """
import os, signal, sys
from pathlib import Path
import stages.curation.funnel as funnel
from stages.config import CurationConfig, Runtime
from stages.curation import run
from stages.curation.normalisation import comparison_key
from stages.stage import StageLog

left, save, saved = [int(sys.argv[3])], funnel.save_batch, Path(sys.argv[5])
def save_and_die(folder, number, *arguments, **named):
    save(folder, number, *arguments, **named)
    saved.open("a").write(f"{folder.name}/{number}\\n")
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
funnel.save_batch = save_and_die
config = CurationConfig.model_validate_json(Path(sys.argv[2]).read_text())
run(config, inputs={"data-dir": Path(sys.argv[1])}, runtime=Runtime(workers=1), out=Path(sys.argv[4]), log=StageLog(None))
"""


@pytest.mark.slow
def test_a_curation_that_is_killed_again_and_again_goes_on_with_the_next_batch_and_writes_the_same_bytes(
    tmp_path, problem, folder
):
    rows = [problem(f"What is {i} plus {i % 900}?", id=f"a/{i}", answer=str(i + i % 900)) for i in range(2300)]
    data_dir, config = folder(*rows), tmp_path / "config.json"
    config.write_text(CurationConfig().model_dump_json())
    for further_batches in (1, 2, 2, 5, 2):
        arguments = [data_dir, config, further_batches, tmp_path / "out", tmp_path / "saved"]
        killed = subprocess.run([sys.executable, "-c", _KILLED, *map(str, arguments)], cwd=ROOT, check=False)
        assert killed.returncode == -signal.SIGKILL
    saved = (tmp_path / "saved").read_text(encoding="utf-8").split()
    assert saved == [
        *("cleansing/0", "cleansing/1", "cleansing/2"),
        *("de-duplication/0", "de-duplication/1"),
        *("de-duplication/0", "de-duplication/1", "de-duplication/2"),  # only takes rows out, so it begins again
        *("decontamination/0", "decontamination/1", "decontamination/2", "verification/0"),
    ]
    _run(tmp_path / "out", config=CurationConfig(), data_dir=data_dir)
    _run(tmp_path / "whole", config=CurationConfig(), data_dir=data_dir)
    for name in FILES:
        assert (tmp_path / "out" / f"{name}.parquet").read_bytes() == (
            tmp_path / "whole" / f"{name}.parquet"
        ).read_bytes()


def test_progress_names_the_steps(tmp_path):
    stream = io.StringIO()
    funnel = _run(tmp_path / "out", stream=stream).tables["funnel"]
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert events and {event["event"] for event in events} == {"progress"}
    assert events[-1]["done"] == events[-1]["total"]
    assert all(0 <= event["done"] <= event["total"] for event in events)
    names = {row["step"] for row in funnel}
    assert {event["detail"] for event in events if event["unit"] == "steps"} <= names | {"writing"}
    batched = {event["detail"] for event in events if event["unit"] == "batches"}
    assert batched and batched <= names | {"sketches"}
    for name in batched:
        done = [event["done"] for event in events if event["detail"] == name and event["unit"] == "batches"]
        assert done == sorted(done)


def test_a_file_without_a_column_is_named(tmp_path, data_dir):
    pq.write_table(pa.table({"id": ["0"], "prompt": ["What?"]}), data_dir / "broken.parquet")
    with pytest.raises(ValueError, match=r"broken\.parquet: no column is known as the answer"):
        _run(tmp_path / "out", data_dir=data_dir)


def test_a_file_that_is_no_parquet_is_named(tmp_path, data_dir):
    (data_dir / "torn.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(ValueError, match=r"torn\.parquet: cannot be read as parquet"):
        _run(tmp_path / "out", data_dir=data_dir)


def test_a_file_cut_short_is_named(tmp_path, data_dir):
    whole = (data_dir / "some.parquet").read_bytes()
    (data_dir / "some.parquet").write_bytes(whole[:200] + bytes(200) + whole[400:])
    with pytest.raises(ValueError, match=r"some\.parquet: cannot be read as parquet"):
        _run(tmp_path / "out", data_dir=data_dir)


def test_bytes_that_are_no_text_cost_their_row_and_no_other(tmp_path, problem, folder):
    good = table_from_problems([problem(id="good"), problem("What is 6 times 8?", id="bad", answer="48")])
    torn = pa.array([b"What is 6 times 7?", b"What is 6 \xff\xfe 8?"], pa.binary())
    data_dir = folder(problem("What is 5 times 8?", id="other", answer="40"), name="a.parquet")
    text = pa.StringArray.from_buffers(2, torn.buffers()[1], torn.buffers()[2])
    pq.write_table(good.set_column(good.schema.get_field_index("prompt"), "prompt", text), data_dir / "b.parquet")
    _run(tmp_path / "out", config=CurationConfig(), data_dir=data_dir)
    dropped = read_table(tmp_path / "out" / "dropped.parquet", DROPPED_SCHEMA).to_pylist()
    assert [(row["id"], row["step"], row["reason"]) for row in dropped] == [("bad", "sources", "invalid UTF-8")]
    assert "b.parquet: the prompt is no text" in dropped[0]["evidence"]


@pytest.mark.slow
def test_a_row_of_fifty_megabytes_is_counted_and_its_texts_are_cut_short(tmp_path, problem, folder):
    data_dir = folder(problem("What? " * 8_500_000, id="huge"), problem(id="good"))
    record = _run(tmp_path / "out", config=CurationConfig(), data_dir=data_dir)
    (row,) = read_table(tmp_path / "out" / "dropped.parquet", DROPPED_SCHEMA).to_pylist()
    assert (row["id"], row["reason"], len(row["prompt"])) == ("huge", "row too large", 1000)
    assert "51,000,0" in row["evidence"]
    assert record.metrics["curation/rows_kept"] == 1


def test_a_set_of_which_no_row_is_left_is_a_note(tmp_path, problem, folder):
    data_dir = folder(problem(id="good"), problem("Prove that 7 is prime.", id="p", source="proofs"))
    notes = _run(tmp_path / "out", config=CurationConfig(), data_dir=data_dir).notes
    assert notes == ("source proofs (MIT): none of its 1 rows is left; most went by cleansing: proof (1)",)


def test_a_curation_that_keeps_no_row_is_refused(tmp_path, problem, folder):
    with pytest.raises(ValueError, match=r"no row is left of 1: cleansing: proof \(1\)"):
        _run(tmp_path / "out", config=CurationConfig(), data_dir=folder(problem("Prove that 7 is prime.")))


def test_the_public_recipe_names_hub_sets_and_ends_with_curation():
    recipe = load_recipe("curate-public").recipe
    assert recipe.until == "curation"
    assert {source.kind for source in recipe.curation.sources} == {"hub"}
    assert {"math500", "aime24", "aime25", "gsm8k", "mbpp", "humaneval"} <= set(recipe.curation.benchmarks)


@pytest.mark.slow
def test_the_card_gives_the_revision_of_what_was_fetched_and_none_of_a_folder_in_its_place(
    tmp_path, monkeypatch, problem, folder
):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"q": "What is 20 plus 3?", "a": "23"}\n', encoding="utf-8")
    source = HubSource(
        kind="hub", name="mine", repo=str(tmp_path / "set"), revision="a" * 40, domain="math",
        columns={"prompt": "q", "answer": "a"}, licence="MIT",
    )  # fmt: skip
    for data_dir, revision in ((None, "a" * 40), (folder(problem(id="l/0", source="mine")), "")):
        record = _run(tmp_path / str(bool(data_dir)), config=CurationConfig(sources=(source,)), data_dir=data_dir)
        assert [(row["source"], row["revision"]) for row in record.tables["sources"]] == [("mine", revision)]


def test_the_notes_say_which_steps_are_left_out_and_which_names_mean_nothing(tmp_path, problem, folder):
    config = CurationConfig(skip=("decontamination",), duplicates=Duplicates(source_priority=("a", "typo")))
    notes = _run(tmp_path / "out", config=config, data_dir=folder(problem(split="rl"))).notes
    assert notes == (
        "the recipe leaves out the step decontamination",
        "duplicates.source_priority names typo, of which no row was read",
    )
