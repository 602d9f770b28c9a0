import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from stages.config import CurationConfig, FileSource, HubSource, ProceduralSource
from stages.curation.sources import assigned_split, load_sources
from stages.stage import StageLog


@pytest.fixture
def load(tmp_path):
    def run(config, data_dir=None):
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        return load_sources(config, data_dir=data_dir, state=tmp_path / "state", log=StageLog(None))

    return run


@pytest.fixture
def rows():
    return lambda loaded: [row for table in loaded.pool.batches() for row in table.to_pylist()]


def _generator(name, split="rl", **settings):
    settings = {"num_problems": 30, "kinds": {"lin": 1.0}, "levels": {2: 1.0}, **settings}
    return ProceduralSource(kind="procedural", name=name, split=split, **settings)


def test_later_generators_exclude_the_prompts_of_earlier_ones(load, rows):
    loaded = load(CurationConfig(sources=(_generator("one"), _generator("two", split="heldout"))))
    assert len({row["prompt"] for row in rows(loaded)}) == 60
    assert Counter(row["split"] for row in rows(loaded)) == {"rl": 30, "heldout": 30}


def test_a_data_folder_is_a_source_even_where_the_recipe_has_none(load, rows, problem, folder):
    data_dir = folder(problem(id="a/0"), problem(id="a/1", split="traces", solution=r"\boxed{42}"))
    loaded = load(CurationConfig(), data_dir)
    assert [(row["id"], row["via"]) for row in rows(loaded)] == [("a/0", "local"), ("a/1", "local")]
    assert rows(loaded)[0]["split"] in ("rl", "probe")


def test_a_data_folder_is_read_once_where_the_recipe_names_it(load, rows, problem, folder):
    source = FileSource(kind="files", name="mine", folder="data-dir")
    loaded = load(CurationConfig(sources=(source,)), folder(problem()))
    assert [row["via"] for row in rows(loaded)] == ["mine"]


def test_evaluation_rows_of_a_named_benchmark_are_the_benchmark_and_others_are_dropped(
    load, rows, dropped, problem, folder
):
    given = [problem(id="m/0", split="eval", source="math500"), problem(id="x/0", split="eval", source="mine")]
    loaded = load(CurationConfig(benchmarks=("math500",)), folder(*given))
    assert rows(loaded) == []
    assert [row.id for row in loaded.benchmarks["math500"]] == ["m/0"]
    assert [(drop["id"], drop["reason"]) for drop in dropped(loaded.step)] == [("x/0", "evaluation row")]
    assert loaded.num_rows == 2


def test_training_rows_of_a_benchmarks_set_stay_candidates(load, rows, problem, folder):
    loaded = load(CurationConfig(benchmarks=("gsm8k",)), folder(problem(source="gsm8k")))
    assert len(rows(loaded)) == 1 and loaded.benchmarks["gsm8k"] == []


def test_a_row_may_name_its_split_and_an_unknown_one_is_dropped(load, rows, dropped, problem, folder):
    loaded = load(CurationConfig(), folder(problem(id="a/0", split="heldout"), problem(id="a/1", split="test")))
    assert [row["split"] for row in rows(loaded)] == ["heldout"]
    assert [(drop["reason"], "'test'" in drop["evidence"]) for drop in dropped(loaded.step)] == [
        ("unknown split", True)
    ]


def test_an_id_that_a_different_problem_has_is_made_its_own(load, rows, problem, folder):
    given = [problem("What is 1?", id="0"), problem("What is 2?", id="0"), problem("What is 3?", id="0")]
    loaded = load(CurationConfig(), folder(*given, problem("What is 1?", id="0")))
    assert [row["id"] for row in rows(loaded)] == ["0", "a/0", "a/0/2", "0"]


def test_splits_are_assigned_by_share_and_only_solved_rows_are_trained_on(problem):
    config = CurationConfig(splits={"sft": 0.4, "rl": 0.4, "probe": 0.1, "validation": 0.1})
    solved = Counter(assigned_split(problem(id=str(i), solution="yes"), config) for i in range(4000))
    unsolved = Counter(assigned_split(problem(id=str(i)), config) for i in range(4000))
    assert solved == {split: pytest.approx(4000 * share, rel=0.15) for split, share in config.splits.items()}
    assert unsolved == {"rl": pytest.approx(3200, rel=0.05), "probe": pytest.approx(800, rel=0.15)}


def test_a_base_model_is_trained_on_solved_rows_alone_where_the_shares_name_it(problem):
    config = CurationConfig(splits={"base": 0.5, "sft": 0.25, "rl": 0.25})
    solved = Counter(assigned_split(problem(id=str(i), solution="yes"), config) for i in range(4000))
    unsolved = Counter(assigned_split(problem(id=str(i)), config) for i in range(400))
    assert set(unsolved) == {"rl"}
    assert solved["base"] == pytest.approx(2000, abs=130)  # four standard deviations


def test_the_seed_and_not_the_order_decides_the_split(problem):
    rows = [problem(id=str(i), solution="yes") for i in range(50)]
    one, same, other = ([assigned_split(row, CurationConfig(seed=seed)) for row in rows] for seed in (0, 0, 1))
    assert one == same != other


def test_a_row_that_no_share_takes_is_dropped(load, dropped, problem, folder):
    loaded = load(CurationConfig(splits={"sft": 1.0}), folder(problem()))
    assert [drop["reason"] for drop in dropped(loaded.step)] == ["no split for a row without solution"]


def test_a_missing_folder_is_named(load):
    with pytest.raises(ValueError, match="no-such-folder: no such folder"):
        load(CurationConfig(), Path("no-such-folder"))


def test_sources_of_one_name_are_refused():
    with pytest.raises(ValueError, match="sources need different names"):
        CurationConfig(sources=(_generator("one"), _generator("one")))


def test_an_unknown_benchmark_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'math500'"):
        CurationConfig(benchmarks=("math50",))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A data set in the hub's layout, in a folder of this machine."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    lines = [json.dumps({"q": f"What is {n} + {n}?", "a": str(2 * n)}) + "\n" for n in range(3)]
    (tmp_path / "set" / "test.jsonl").write_text("".join(lines), encoding="utf-8")

    def make(name, **settings):
        return HubSource(
            kind="hub", name=name, repo=str(tmp_path / "set"), revision="a" * 40, split="test", domain="math",
            columns={"prompt": "q", "answer": "a"}, licence="MIT", **settings,
        )  # fmt: skip

    return make


def test_a_hub_source_may_be_a_benchmark(load, rows, hub):
    loaded = load(CurationConfig(sources=(hub("some"), hub("measured", benchmark="mbpp")), benchmarks=("mbpp",)))
    assert [row.prompt for row in loaded.benchmarks["mbpp"]] == [row["prompt"] for row in rows(loaded)]
    assert {row["source"] for row in rows(loaded)} == {"some"}


def test_a_data_folder_is_read_in_place_of_every_hub_source(load, rows, problem, folder, hub):
    data_dir = folder(problem(id="a/0", source="mine"))
    config = CurationConfig(sources=(hub("mine"), _generator("drawn"), hub("other")))
    assert Counter(row["via"] for row in rows(load(config, data_dir))) == {"drawn": 30, "local": 1}
    assert Counter(row["via"] for row in rows(load(config))) == {"mine": 3, "drawn": 30, "other": 3}


def test_a_row_of_the_hub_may_be_too_large_as_one_of_a_file(load, hub):
    loaded = load(CurationConfig(sources=(hub("mine"),), max_row_bytes=20))
    assert loaded.step.reasons == {"row too large": 3}


def test_the_benchmark_of_a_hub_source_must_be_known(hub):
    with pytest.raises(ValueError, match="did you mean 'math500'"):
        hub("mine", benchmark="math50")


def test_rows_without_an_id_get_ids_of_their_own(tmp_path, problem, folder):
    rows = [problem(f"What is {n} plus {n}?", id="", source="s", split="rl") for n in (1, 2, 3, 1)]
    loaded = load_sources(CurationConfig(), data_dir=folder(*rows), state=tmp_path / "state", log=StageLog(None))
    assert [name for batch in loaded.pool.batches(["id"]) for name in batch["id"].to_pylist()] == ["", "s/", "s//2", ""]
