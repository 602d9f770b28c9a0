"""An evaluation of models that each say one thing, so that every figure is known; and its tables by hand."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.schema import Problem, table_from_problems, write_table
from stages.config import EvaluationConfig, ModelEvaluationConfig, Runtime, Sampling
from stages.evaluation import one_model
from stages.evaluation.asked import Asked, asked_of
from stages.evaluation.parts import Part
from stages.evaluation.run import (
    _comparisons,
    _difference,
    _jobs,
    _ledger,
    _notes,
    _pairs,
    _response_rows,
    _rl_arms,
    _starts,
    _summary,
    run,
)
from stages.evaluation.scores import score_results
from stages.evaluation.statistics import Difference, estimate_difference, estimate_mean
from stages.local_files import DATA_DIR
from stages.stage import StageLog, StageRecord
from stages.training.checkpoints import Checkpoint, write_checkpoints
from tests.stages.rl.scripted import samples
from tests.stages.saying import save_model_that_says, tokenizer_of

# ---------------------------------------------------------------- a chain of models that each say one thing


def problem(name: str, answer: str, *, level: int = 2, **values: str) -> Problem:
    kept = {"domain": "math", "split": "heldout", "source": "procedural/lin", "meta": json.dumps({"level": level})}
    return Problem(**{"id": name, "prompt": f"{name} please", "answer": answer, **kept, **values})


HELDOUT = [
    problem("a", "8"),
    problem("b", "7"),
    problem("c", "8"),
    problem("d", "9"),
    problem("e", "8"),
    problem("f", "7", level=3),
    problem("g", "7", split="eval", source="sums/one", meta="{}"),
]
SAYS = {"sft": "8", "seven": "7", "more": "8"}  # model -> its answer; `seven` is an arm of RL, `more` is none
RIGHT = {"sft": {"a", "c", "e"}, "seven": {"b", "f", "g"}, "more": {"a", "c", "e"}}
GROUPS = {"all": "abcde", "math": "abcde", "level 2": "abcde", "math level 2": "abcde", "sums/one": "g", "harder": "f"}
METRICS = ("greedy", "pass@1", "pass@3", "maj@3")
CONFIG = EvaluationConfig(
    samples_per_problem=3, confidence=0.9, sampling=Sampling(max_new_tokens=12, top_p=0.5, chunk_problems=3)
)


def manifest(folder: Path, **config: object) -> None:
    """As far as it is read."""
    document = {
        "payload": {"stage": "rl", "arm": folder.name, "config": config}, "fingerprint": "f", "content": "c", "seal": "s", "files": {},
        "inputs": {}, "metrics": {}, "timings": {}, "notes": [], "code": {}, "recipe": "r", "status": "sealed", "seconds": 1.0,
        "made_at": "", "mlflow_run_id": "",
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(document))


def steps(folder: Path, *rows: tuple[int, float]) -> Path:
    """Lines of steps.jsonl: tokens and FLOPs so far."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"tokens/trained": tokens, "compute/total_flops": flops} for tokens, flops in rows]
    (folder / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def checkpoint(number: int) -> Checkpoint:
    return Checkpoint(
        f"epoch-{number:02d}", epoch=number, steps=number, tokens_trained=100 * number, validation_loss=None
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("chain")
    tokenizer = tokenizer_of(HELDOUT, answers=("7", "8", "9"))
    write_table(table_from_problems(HELDOUT), root / "curation" / "heldout.parquet")
    write_table(table_from_problems([replace(HELDOUT[0], split="rl")]), root / "curation" / "rl.parquet")
    save_model_that_says("8", HELDOUT, tokenizer, root / "sft" / "epoch-02")
    write_checkpoints(root / "sft", [checkpoint(1), checkpoint(2)])
    (root / "selection").mkdir()
    (root / "selection" / "choice.json").write_text('{"checkpoint": "epoch-02"}')
    save_model_that_says("7", HELDOUT, tokenizer, root / "seven" / "model")
    (root / "more").mkdir()
    (root / "more" / "model").symlink_to(root / "sft" / "epoch-02")
    (root / "seven" / "rollouts").mkdir()
    for arm, spent in (("seven", (50, 8e6)), ("more", (20, 2e6))):
        steps(root / arm, spent)
        manifest(root / arm)
    return {name: root / name for name in ("curation", "sft", "selection")} | {
        f"rl/{arm}": root / arm for arm in ("seven", "more")
    }


def evaluated(
    inputs: dict[str, Path], out: Path, config: EvaluationConfig = CONFIG, log: StageLog | None = None
) -> StageRecord:
    return run(config, inputs=inputs, runtime=Runtime(workers=1), out=out, log=log or StageLog(None))


@pytest.fixture(scope="module")
def made(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StageRecord]:
    out = tmp_path_factory.mktemp("evaluation")
    return out, evaluated(inputs, out)


def of_group(model: str, group: str) -> list[float]:
    return [float(name in RIGHT[model]) for name in GROUPS[group]]


@pytest.mark.slow
def test_every_model_has_every_metric_on_every_group(made) -> None:
    out, record = made
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert list(results) == [f"{model}/{group}/{metric}" for model in SAYS for group in GROUPS for metric in METRICS]
    for name, entry in results.items():
        model, group = name.split("/", 1)[0], name.split("/", 1)[1].rpartition("/")[0]
        known = estimate_mean(np.array(of_group(model, group)), confidence=0.9)
        assert known is not None
        assert entry == {"value": known.value, "low": known.low, "high": known.high, "n": known.num_problems}
        assert record.metrics[name] == known.value
    rows = [(row["model"], row["group"], row["metric"]) for row in record.tables["results"]]
    assert rows == [(model, group, metric) for model in SAYS for group in GROUPS for metric in METRICS]


@pytest.mark.slow
def test_every_pair_is_compared_on_every_group_and_metric(made) -> None:
    _, record = made
    rows = record.tables["comparisons"]
    pairs = (("seven", "sft"), ("more", "sft"), ("seven", "more"))
    assert [(row["model"], row["against"], row["group"], row["metric"]) for row in rows] == [
        (*pair, group, metric) for pair in pairs for group in GROUPS for metric in METRICS
    ]
    for row in rows:
        ours, theirs = (of_group(row[name], row["group"]) for name in ("model", "against"))
        differences = [one - other for one, other in zip(ours, theirs, strict=True)]
        known = estimate_difference(np.array(differences), confidence=0.9)
        assert known is not None
        assert row["difference"] == sum(differences) / len(differences)
        assert (row["low"], row["high"], row["n"]) == (known.low, known.high, len(differences))
        assert (row["p"], row["smallest_difference"]) == (known.p, known.smallest)
        assert row["unequal"] == sum(map(abs, differences))
        name = f"{row['model']} - {row['against']}/{row['group']}/{row['metric']}"
        assert record.metrics[name] == row["difference"]


@pytest.mark.slow
def test_all_samples_are_kept_with_the_model_that_gave_them(made) -> None:
    out, _ = made
    rows = pq.read_table(out / "samples.parquet").to_pylist()
    assert len(rows) == 3 * 7 * (1 + 3)
    for model, answer in SAYS.items():
        own = [row for row in rows if row["model"] == model]
        assert {row["extracted"] for row in own} == {answer}
        assert [row["sample"] for row in own] == [-1] * 7 + [0, 1, 2] * 7
        assert {row["problem_id"] for row in own if row["status"] == "correct"} == RIGHT[model]


@pytest.mark.slow
def test_the_record_counts_verdicts_and_failures(made) -> None:
    _, record = made
    right, every = 3 * 3 * 4, 3 * 7 * 4
    assert record.tables["verdicts"] == [
        {"status": "correct", "count": right},
        {"status": "wrong", "count": every - right},
    ]
    assert [record.metrics[f"judge/{name}"] for name in ("total_failures", "checker_failures", "weak")] == [0, 0, 0]
    assert record.notes == ("generated problems: math is linear equations with one unknown",)
    assert set(record.timings) == {"generate", "judge"}


@pytest.mark.slow
def test_tables_for_people_are_of_the_same_figures(made) -> None:
    out, record = made
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    (summary, *_) = record.tables["summary"]
    entry = results["sft/all/greedy"]
    assert summary["all"] == f"0.600 [{entry['low']:.3f}, {entry['high']:.3f}]"
    assert [(row["model"], row["greedy"], row["further_tokens"]) for row in record.tables["ledger"]] == [
        ("sft", 0.6, 0),
        ("seven", 0.2, 50),
        ("more", 0.6, 20),
    ]
    assert [row["start"] for row in record.tables["ledger"]] == ["epoch-02"] * 3
    assert [(row["model"], row["mode"], row["num_responses"]) for row in record.tables["responses"]] == [
        (model, mode, number) for model in SAYS for mode, number in (("greedy", 7), ("sampled", 21))
    ]
    shown = [(row["problem"], row["model"], row["prompt"], row["extracted"]) for row in record.tables["samples"]]
    assert shown == [(name, model, f"{name} please", SAYS[model]) for name in "abcdefg" for model in SAYS]


@pytest.mark.slow
def test_without_arms_there_is_nothing_to_compare_and_a_judge_that_fails_too_often_stops_the_stage(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    bad = problem("b", "")  # without a right answer to compare with
    write_table(table_from_problems([HELDOUT[0], bad]), tmp_path / "curation" / "heldout.parquet")
    write_table(table_from_problems([]), tmp_path / "curation" / "rl.parquet")
    alone = {name: inputs[name] for name in ("sft", "selection")} | {"curation": tmp_path / "curation"}
    record = evaluated(alone, tmp_path / "out")
    assert record.tables["comparisons"] == []
    assert record.metrics["sft/all/greedy"] == 1
    assert [row["n"] for row in record.tables["results"] if row["group"] == "all"] == [1] * 4
    assert record.metrics["judge/total_failures"] == 4
    assert record.notes[0] == "the judge failed on 4 responses; they count neither as right nor as wrong"
    strict = CONFIG.model_copy(update={"min_judge_failures": 1})
    with pytest.raises(RuntimeError, match="the judge failed on 4 of 8 responses"):
        evaluated(alone, tmp_path / "out", strict)


# ---------------------------------------------------------------- what is asked


NAMED = {
    "aime24": [problem(f"aime24/{n}", answer, split="eval", source="aime24") for n, answer in enumerate("8778")],
    "gaokao_math": [
        problem("g/0", "8", split="eval", source="gaokao_math", meta='{"score": 5}'),
        problem("g/1", "7", split="eval", source="gaokao_math", meta='{"score": 15}'),
        problem("g/2", "", split="eval", source="gaokao_math", meta='{"score": 12}'),  # a proof
    ],
}
LEAKED = replace(NAMED["aime24"][2], id="t", split="sft", source="training")
NAMING = CONFIG.model_copy(
    update={
        "benchmarks": ("aime24", "gaokao_math", "aime25"),
        "benchmark_samples": {"aime24": 4, "gaokao_math": 1},
        "another_version": True,
    }
)


@pytest.fixture(scope="module")
def with_benchmarks(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same chain, of a curation that set two benchmarks aside."""
    folder = tmp_path_factory.mktemp("benchmarks") / "curation"
    rows = [row for found in NAMED.values() for row in found]
    write_table(table_from_problems([*HELDOUT, *rows[:-1]]), folder / "heldout.parquet")
    write_table(table_from_problems(rows), folder / "benchmarks.parquet")
    write_table(table_from_problems([replace(HELDOUT[0], split="rl")]), folder / "rl.parquet")
    write_table(table_from_problems([LEAKED]), folder / "sft.parquet")
    return inputs | {"curation": folder}


@pytest.fixture(scope="module")
def named(with_benchmarks: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StageRecord]:
    out = tmp_path_factory.mktemp("named")
    return out, evaluated(with_benchmarks, out, NAMING)


@pytest.mark.slow
def test_named_benchmarks_are_scored_for_every_model_by_their_own_samples_beside_the_held_out_problems(
    named, made
) -> None:
    results = json.loads((named[0] / "results.json").read_text(encoding="utf-8"))
    alone = json.loads((made[0] / "results.json").read_text(encoding="utf-8"))
    own = {name: entry for name, entry in alone.items() if "/sums/one/" not in name}  # no benchmark that is named
    assert {name: entry for name, entry in results.items() if name in own} == own
    rates = {"8": {"aime24": 0.5, "gaokao_math": 0.5}, "7": {"aime24": 0.5, "gaokao_math": 0.5}}
    metrics = {"aime24": ("greedy", "pass@1", "pass@4", "maj@4"), "gaokao_math": ("greedy", "pass@1")}
    assert {name: (entry["value"], entry["n"]) for name, entry in results.items() if name not in own} == {
        f"{model}/{name}/{metric}": (rates[SAYS[model]][name], {"aime24": 4, "gaokao_math": 2}[name])
        for model in SAYS
        for name in metrics
        for metric in metrics[name]
    }
    known = estimate_mean(np.array([1.0, 0.0, 0.0, 1.0]), confidence=0.9)
    assert known is not None
    assert [results["sft/aime24/greedy"][end] for end in ("low", "high")] == [known.low, known.high]


@pytest.mark.slow
def test_on_benchmarks_models_are_compared_by_problem(named) -> None:
    rows = [row for row in named[1].tables["comparisons"] if row["group"] == "aime24" and row["metric"] == "greedy"]
    assert [(row["model"], row["against"], row["difference"], row["n"], row["unequal"]) for row in rows] == [
        ("seven", "sft", 0.0, 4, 4),
        ("more", "sft", 0.0, 4, 0),
        ("seven", "more", 0.0, 4, 4),
    ]
    assert named[1].metrics["seven - sft/aime24/greedy"] == 0.0


@pytest.mark.slow
def test_beside_the_score_of_a_benchmark_stands_what_the_training_data_give_away(named) -> None:
    record = named[1]
    rows = [
        (row["benchmark"], row["model"], row["problems"], row["trained_on"])
        for row in record.tables["benchmark_scores"]
    ]
    assert rows == [
        *(("aime24", model, 4, 1) for model in SAYS),
        *(("gaokao_math", model, 2, 0) for model in SAYS),
        ("aime25", "", None, None),
    ]
    assert record.tables["benchmark_scores"][0]["greedy"].startswith("0.500 [")
    absent = record.tables["benchmark_scores"][-1]
    assert (absent["greedy"], absent["pass@1"]) == ("not available here", "not available here")
    about = {row["benchmark"]: row for row in record.tables["benchmarks"]}
    assert [about["aime24"][name] for name in ("samples", "unjudged", "trained_on_ids")] == [4, 0, "aime24/2"]
    assert [about["gaokao_math"][name] for name in ("samples", "unjudged", "trained_on_ids")] == [1, 1, ""]
    assert [note for note in record.notes if note.startswith("benchmark ")] == [
        "benchmark aime25: not available here; curation found no row of it",
        "benchmark gaokao_math: 1 of 3 rows have no answer that could be judged, and were not asked",
    ]
    assert not any("aime25" in name for name in record.metrics)


@pytest.mark.slow
def test_points_and_responses_of_benchmarks_are_told_by_model_and_stand_in_no_table_of_the_held_out_problems(
    named, made
) -> None:
    tables = named[1].tables
    assert [(row["model"], row["mode"], row["points"], row["unjudged_points"]) for row in tables["points"]] == [
        (model, mode, {"8": 37.5, "7": 112.5}[SAYS[model]], 12) for model in SAYS for mode in ("greedy", "sampled")
    ]
    assert [
        (row["model"], row["benchmark"], row["mode"], row["num_responses"]) for row in tables["benchmark_responses"]
    ] == [
        (model, name, mode, count)
        for model in SAYS
        for name, sizes in (("aime24", (4, 16)), ("gaokao_math", (2, 2)))
        for mode, count in zip(("greedy", "sampled"), sizes, strict=True)
    ]
    kept = [{key: value for key, value in row.items() if key != "sums/one"} for row in made[1].tables["summary"]]
    assert tables["summary"] == kept
    assert not {"points", "rating", "benchmarks", "benchmark_scores", "benchmark_responses"} & made[1].tables.keys()
    rows = pq.read_table(named[0] / "samples.parquet").to_pylist()
    assert [row["model"] for row in rows] == [model for model in SAYS for _ in range(6 * 4 + 4 * 5 + 2 * 2)]


@pytest.mark.slow
def test_a_model_of_a_chain_has_the_responses_and_scores_that_it_has_when_it_is_evaluated_alone(
    named, with_benchmarks: dict[str, Path], tmp_path: Path
) -> None:
    write_table(pq.read_table(with_benchmarks["curation"] / "benchmarks.parquet"), tmp_path / "sets" / "rows.parquet")
    alone = ModelEvaluationConfig.model_validate(
        NAMING.model_dump()
        | {
            "model": str(with_benchmarks["rl/seven"] / "model"),
            "name": "seven",
            "benchmarks": ("gaokao_math", "aime24"),
        }
    )
    runtime, out = Runtime(workers=1), tmp_path / "out"
    record = one_model.run(alone, inputs={DATA_DIR: tmp_path / "sets"}, runtime=runtime, out=out, log=StageLog(None))
    for name, value in record.metrics.items():
        assert name.startswith("judge/") or named[1].metrics[name] == value
    chains, own = (
        sorted(
            (row for row in pq.read_table(folder / "samples.parquet").to_pylist() if row["model"] == "seven"),
            key=lambda row: (row["problem_id"], row["sample"]),
        )
        for folder in (named[0], out)
    )
    assert len(own) == 4 * 5 + 2 * 2
    assert own == [row for row in chains if row["problem_id"] in {row["problem_id"] for row in own}]


def test_a_benchmarks_rows_are_those_of_its_frozen_manifest(with_benchmarks: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="benchmark aime24: rows aime24/0"):
        asked_of(NAMING.model_copy(update={"another_version": False}), with_benchmarks["curation"])


def test_without_a_name_curations_benchmarks_are_asked_as_the_held_out_problems_are(
    with_benchmarks: dict[str, Path],
) -> None:
    asked = asked_of(CONFIG, with_benchmarks["curation"])
    assert (asked.benchmarks, asked.absent, len(asked.problems)) == ((), (), 7 + 6)
    assert {"aime24", "gaokao_math", "sums/one"} < asked.own[0].groups.keys()


@pytest.mark.slow
def test_benchmarks_alone_can_be_evaluated(with_benchmarks: dict[str, Path], tmp_path: Path) -> None:
    for name in ("benchmarks.parquet", "rl.parquet"):
        write_table(pq.read_table(with_benchmarks["curation"] / name), tmp_path / "curation" / name)
    write_table(table_from_problems(NAMED["aime24"]), tmp_path / "curation" / "heldout.parquet")
    alone = {name: with_benchmarks[name] for name in ("sft", "selection")} | {"curation": tmp_path / "curation"}
    record = evaluated(alone, tmp_path / "out", NAMING.model_copy(update={"benchmarks": ("aime24",)}))
    assert {row["group"] for row in record.tables["results"]} == {"aime24"}
    assert [record.tables[name] for name in ("summary", "ledger", "responses")] == [[], [], []]


def test_a_prompt_that_fills_a_model_is_told_before_anything_is_asked(
    with_benchmarks: dict[str, Path], tmp_path: Path
) -> None:
    long = replace(NAMED["aime24"][0], prompt=" ".join(["please"] * 200))
    write_table(table_from_problems([long]), tmp_path / "curation" / "benchmarks.parquet")
    for name in ("heldout", "rl"):
        write_table(table_from_problems([]), tmp_path / "curation" / f"{name}.parquet")
    inputs = with_benchmarks | {"curation": tmp_path / "curation"}
    with pytest.raises(
        ValueError, match=r"benchmark aime24: the prompt of aime24/0 has \d+ tokens, and the model 128 positions"
    ):
        evaluated(inputs, tmp_path / "out", NAMING)
    assert not (tmp_path / "out" / ".state").exists()


def test_no_problem_to_evaluate_on_is_refused(tmp_path: Path) -> None:
    for split in ("heldout", "rl"):
        write_table(table_from_problems([]), tmp_path / f"{split}.parquet")
    with pytest.raises(
        ValueError, match=r"holds no problem: give curation a source for the split `heldout`, or name benchmarks$"
    ):
        asked_of(CONFIG, tmp_path)
    with pytest.raises(ValueError, match=r"or name benchmarks; of aime24, gsm8k it found no row$"):
        asked_of(CONFIG.model_copy(update={"benchmarks": ("aime24", "gsm8k")}), tmp_path)


def test_every_model_is_asked_the_same_with_the_same_seed(tmp_path: Path) -> None:
    parts = [Part("", tuple(HELDOUT), 3, {}), Part("aime24", tuple(HELDOUT[:1]), 8, {})]
    jobs = _jobs(CONFIG, {"sft": tmp_path / "a", "arm": tmp_path / "b"}, parts)
    assert [(job.name, job.policy.weights.name, job.num_samples, len(job.problems)) for job in jobs] == [
        ("sft.greedy", "a", 0, 7),
        ("sft.sampled", "a", 3, 7),
        ("sft.aime24.greedy", "a", 0, 1),
        ("sft.aime24.sampled", "a", 8, 1),
        ("arm.greedy", "b", 0, 7),
        ("arm.sampled", "b", 3, 7),
        ("arm.aime24.greedy", "b", 0, 1),
        ("arm.aime24.sampled", "b", 8, 1),
    ]
    assert len({job.seed for job in jobs}) == 1
    other = _jobs(CONFIG.model_copy(update={"seed": 1}), {"sft": tmp_path}, parts)
    assert other[0].seed != jobs[0].seed


# ---------------------------------------------------------------- scores and differences


def test_arms_are_compared_with_sft_with_controls_and_with_each_other() -> None:
    assert _pairs(["sft", "a", "control", "b", "other", "c"], rl_arms=["a", "b", "c"]) == [
        *(("a", "sft"), ("control", "sft"), ("b", "sft"), ("other", "sft"), ("c", "sft")),
        *(("a", "control"), ("a", "other"), ("b", "control"), ("b", "other"), ("c", "control"), ("c", "other")),
        *(("a", "b"), ("a", "c"), ("b", "c")),
    ]
    assert _pairs(["sft", "a"], rl_arms=[]) == [("a", "sft")]


SCORES = {
    "sft": {"greedy": {"p": 0.0, "q": 1.0, "r": 0.0, "s": math.nan}},
    "arm": {"greedy": {"p": 1.0, "q": 1.0, "r": 1.0, "s": 1.0}},
}
ALONE = {name: name for name in "pqrs"}


def test_a_group_without_a_verdict_has_no_result_and_no_difference() -> None:
    groups = {"all": ["p", "q"], "none": ["s"], "empty": []}
    found = score_results(SCORES, groups, ALONE, confidence=0.95)
    assert [(name, entry["value"], entry["n"]) for name, entry in found.items()] == [
        ("sft/all/greedy", 0.5, 2),
        ("arm/all/greedy", 1.0, 2),
        ("arm/none/greedy", 1.0, 1),
    ]
    rows = _comparisons(SCORES, groups, ALONE, pairs=[("arm", "sft")], confidence=0.95)
    assert [(row["group"], row["difference"], row["n"], row["unequal"]) for row in rows] == [("all", 0.5, 2, 1)]


def test_problems_of_a_cluster_are_drawn_together() -> None:
    together, groups = dict.fromkeys("pqr", "contest"), {"all": ["p", "q", "r"]}
    (row,) = _comparisons(SCORES, groups, together, pairs=[("arm", "sft")], confidence=0.95)
    known = estimate_difference(np.array([1.0, 0.0, 1.0]), confidence=0.95, clusters_P=["contest"] * 3)
    assert known is not None
    assert (row["low"], row["high"], row["p"]) == (known.low, known.high, known.p)
    found = score_results(SCORES, groups, together, confidence=0.95)["sft/all/greedy"]
    level = estimate_mean(np.array([0.0, 1.0, 0.0]), confidence=0.95, clusters_P=["contest"] * 3)
    assert level is not None
    assert (found["low"], found["high"]) == (level.low, level.high)


@pytest.mark.parametrize(("sign", "excludes"), [(1.0, True), (-1.0, True), (0.0, False)])
def test_an_interval_excludes_zero_on_either_side(sign: float, *, excludes: bool) -> None:
    ids = [f"p{number}" for number in range(12)]
    scores = {"sft": {"greedy": dict.fromkeys(ids, 0.0)}, "arm": {"greedy": dict.fromkeys(ids, sign)}}
    clusters = {name: name for name in ids}
    (row,) = _comparisons(scores, {"all": ids}, clusters, pairs=[("arm", "sft")], confidence=0.95)
    assert row["excludes_zero"] is excludes
    assert (row["low"] > 0, row["high"] < 0) == (sign > 0, sign < 0)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (-0.5, 0.0)])
def test_an_interval_that_ends_at_zero_does_not_exclude_it(low: float, high: float) -> None:
    found = Difference(0.0, low, high, num_problems=9, num_unequal=3, p=0.05, smallest=0.5)
    assert _difference(found)["excludes_zero"] is False


# ---------------------------------------------------------------- tables


def test_a_summary_leaves_levels_out_and_has_nothing_where_nothing_was_judged() -> None:
    results = {"a/all/greedy": {"value": 0.25, "low": 0.125, "high": 0.5}}
    assert _summary(results, ["a", "b"], ["all", "level 2", "math level 2"]) == [
        {"model": "a", "metric": "greedy", "all": "0.250 [0.125, 0.500]"},
        {"model": "b", "metric": "greedy", "all": ""},
        {"model": "a", "metric": "pass@1", "all": ""},
        {"model": "b", "metric": "pass@1", "all": ""},
    ]


def test_responses_are_told_by_model_and_mode() -> None:
    told = samples([{"num_tokens": 3}, {"num_tokens": 5, "status": "no_answer"}])
    own = Part("", (), 1, {})
    greedy, sampled = _response_rows([own], {"a": {"greedy": samples([{}]), "sampled": told}})
    assert (greedy["model"], greedy["mode"], greedy["num_responses"]) == ("a", "greedy", 1)
    assert sampled == {
        "model": "a", "mode": "sampled", "num_responses": 2, "mean_tokens": 4.0, "median_tokens": 4.0, "p95_tokens": pytest.approx(4.9),
        "truncated": 0.0, "unparsable": 0.5, "num_judge_failures": 0,
    }  # fmt: skip


def test_notes_are_of_the_judge_and_of_generated_problems() -> None:
    def asked(*problems: Problem, absent: tuple[str, ...] = ()) -> Asked:
        return Asked((Part("", problems, 1, {}),), (), {}, absent)

    elsewhere = asked(replace(HELDOUT[0], source="gsm8k"))
    assert _notes(0, elsewhere) == ()
    assert _notes(2, elsewhere) == ("the judge failed on 2 responses; they count neither as right nor as wrong",)
    assert len(_notes(2, asked(*HELDOUT))) == 2
    assert len(_notes(2, asked(*HELDOUT, absent=("aime24",)))) == 3


def test_arms_of_rl_are_those_that_keep_rollouts(tmp_path: Path) -> None:
    (tmp_path / "a" / "rollouts").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    assert _rl_arms({"rl/a": tmp_path / "a", "rl/b": tmp_path / "b", "sft": tmp_path}) == ["a"]


def test_an_arms_start_is_the_one_that_it_names(tmp_path: Path) -> None:
    manifest(tmp_path / "a", arms=[{"start": "epoch-02"}])
    manifest(tmp_path / "b", arms=[{"start": None}])
    manifest(tmp_path / "c")
    inputs = {f"rl/{name}": tmp_path / name for name in "abc"} | {"sft": tmp_path}
    assert _starts(inputs) == {"a": "epoch-02"}


@pytest.fixture
def spent(tmp_path: Path) -> Callable[..., dict[str, Path]]:
    """Inputs with two checkpoints, the first chosen, and arms of so many tokens and FLOPs."""

    def make(**arms: Sequence[tuple[int, float]]) -> dict[str, Path]:
        inputs = {"sft": tmp_path / "sft", "selection": tmp_path / "selection"}
        inputs |= {f"rl/{arm}": steps(tmp_path / arm, *rows) for arm, rows in arms.items()}
        inputs["selection"].mkdir()
        inputs["sft"].mkdir()
        for name in ("epoch-01", "epoch-02"):
            (inputs["sft"] / name).mkdir()
        write_checkpoints(inputs["sft"], [checkpoint(1), checkpoint(2)])
        (inputs["selection"] / "choice.json").write_text('{"checkpoint": "epoch-01"}')
        return inputs

    return make


def test_arms_are_told_with_their_tokens_over_those_of_their_start_and_their_flops_over_the_most(spent) -> None:
    inputs = spent(mixed=[(10, 1e6), (50, 6e6)], more=[(300, 8e6)])
    results = {
        f"{model}/all/{metric}": {"value": value}
        for model in ("sft", "mixed", "more")
        for metric, value in (("greedy", 0.5), ("pass@1", 0.25))
    }
    rows = {row.pop("model"): row for row in _ledger(inputs, results, starts={"more": "epoch-02"})}
    scores = {"start": "epoch-01", "sft_tokens": 100, "greedy": 0.5, "pass@1": 0.25}
    later = {"start": "epoch-02", "sft_tokens": 200, "greedy": 0.5, "pass@1": 0.25}
    assert rows == {
        "sft": {"further_tokens": 0, "further / sft": 0.0, "further_flops": 0.0, "flops / most": 0.0, **scores},
        "mixed": {"further_tokens": 50, "further / sft": 0.5, "further_flops": 6e6, "flops / most": 0.75, **scores},
        "more": {"further_tokens": 300, "further / sft": 1.5, "further_flops": 8e6, "flops / most": 1.0, **later},
    }


@pytest.mark.parametrize("metric", ["greedy", "pass@1"])
def test_a_model_without_a_score_is_not_in_the_ledger_and_none_need_have_spent_anything(spent, metric: str) -> None:
    inputs = spent(arm=[])
    results = {f"sft/all/{name}": {"value": 0.5} for name in ("greedy", "pass@1")}
    results[f"arm/all/{metric}"] = {"value": 0.5}
    (row,) = _ledger(inputs, results, starts={})
    assert (row["model"], row["further_flops"], row["flops / most"]) == ("sft", 0.0, 0.0)
