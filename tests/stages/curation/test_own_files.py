"""Files of one's own through the loading of a curation: how they are read, what is said of it, where their rows go."""

import shutil

import pytest

from stages.config import CurationConfig, FileSource
from stages.curation.sources import load_sources
from stages.local_files import places
from stages.plan import plan_chain
from stages.recipe import load_recipe
from stages.stage import StageLog

CSV = "question,result\nWhat is 6 times 7?,42\nWhat is 6 times 8?,48\n"


class Heard(StageLog):
    def __init__(self):
        super().__init__(None)
        self.lines = []

    def message(self, text):
        self.lines.append(text)


@pytest.fixture
def own(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "quiz.csv").write_text(CSV)
    return tmp_path / "in"


@pytest.fixture
def load(tmp_path):
    def run(config, data_dir=None):
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        log = Heard()
        loaded = load_sources(config, data_dir=data_dir, state=tmp_path / "state", log=log)
        return [row for table in loaded.pool.batches() for row in table.to_pylist()], log.lines, loaded

    return run


def test_columns_of_the_data_dir_are_the_recipes(load, own):
    config = CurationConfig(columns={"answer": "result", "split": "heldout", "licence": "MIT"})
    rows, lines, _ = load(config, own)
    assert [(row["answer"], row["split"], row["licence"], row["source"]) for row in rows] == [
        ("42", "heldout", "MIT", "quiz"),
        ("48", "heldout", "MIT", "quiz"),
    ]
    (line,) = lines
    assert line.startswith("quiz.csv: prompt = question, answer = result; for all rows: domain")


def test_one_file_is_a_place_and_its_neighbours_are_not_read(load, own):
    (own / "other.txt").write_text("x")
    (own / "more.csv").write_text(CSV)
    rows, _, _ = load(CurationConfig(columns={"answer": "result"}), own / "quiz.csv")
    assert {row["source"] for row in rows} == {"quiz"}


def test_files_that_are_read_alike_are_one_line(load, own):
    for number in range(5):
        (own / f"{number}.csv").write_text(CSV.replace("result", "answer"))
    (own / "quiz.csv").unlink()
    columns = {"source": "quiz"}
    assert load(CurationConfig(columns=columns), own)[1][0].startswith(
        "0.csv, 1.csv, 2.csv and 2 more: prompt = question"
    )


def test_a_source_has_columns_of_its_own_and_the_command_line_goes_before_them(load, own):
    source = FileSource(kind="files", name="mine", folder="data-dir", columns={"answer": "result", "split": "rl"})
    rows, _, _ = load(CurationConfig(sources=(source,), columns={"split": "probe"}), own)
    assert {row["split"] for row in rows} == {"probe"}
    other = FileSource(kind="files", name="mine", folder=str(own / "quiz.csv"), columns={"answer": "result"})
    assert len(load(CurationConfig(sources=(other,)))[0]) == 2


def test_rows_of_a_benchmark_are_measured(load, own):
    columns = {"answer": "result", "split": "eval", "source": "math500"}
    rows, _, loaded = load(CurationConfig(benchmarks=("math500",), columns=columns), own)
    assert rows == [] and len(loaded.benchmarks["math500"]) == 2


def test_the_plan_knows_the_bytes_and_refuses_what_cannot_be_read(own):
    def plan(*overrides, data_dir=own):
        return plan_chain(load_recipe("curate-public", overrides=overrides).recipe, data_dir=data_dir)[0]

    with pytest.raises(ValueError, match=r"quiz\.csv: no column is known as the answer"):
        plan()
    whole = plan("curation.columns.answer='result'")
    one = plan("curation.columns.answer='result'", data_dir=own / "quiz.csv")
    assert whole.data["data-dir"].files == one.data["data-dir"].files
    assert (whole.data["data-dir"].path, one.data["data-dir"].path) == (own, own / "quiz.csv")
    assert whole.fingerprint != plan("curation.columns={answer='result', split='rl'}").fingerprint
    (own / "quiz.csv").write_text(CSV + "What is 1?,1\n")
    assert whole.fingerprint != plan("curation.columns.answer='result'").fingerprint


def test_columns_without_a_place_are_refused():
    with pytest.raises(ValueError, match="none was given"):
        places(CurationConfig(columns={"prompt": "question"}), None)
