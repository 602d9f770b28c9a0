"""The chain as a person meets it: real Prefect, MLflow, DeepSpeed, processes and signals, on the smoke recipe."""

import functools
import json
import re
import shlex
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from ring_model.configuration import BailingMoeConfig
from ring_model.tokenizer import Tokenizer
from stages.recipe import load_recipe
from stages.records.artifact import read_manifest
from stages.records.tracking import metric_name, tracking_uri
from stages.sft.run import rows_of
from stages.training.compute import Work, row_work, training_flops
from tests.flows.conftest import assert_all_ended, by_key, content

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\.venv/bin/ring ([^#\n]+?)\s*(?:#.*)?$", README, re.MULTILINE)
QUICK = [
    command for command in COMMANDS if command.split()[0] not in ("run", "up", "evaluate", "crosscheck", "chat")
]  # evaluate: commands/test_evaluate.py; crosscheck: an extra; chat: test_chat.py
RUNS = [command for command in COMMANDS if command.split()[0] == "run"]
AGAIN, EARLY, RERUN = "run smoke", "run laptop --until sft", "run laptop --rerun rl --arm mixed"
STAGES = ["curation", "base", "sft", "selection", "rl/phased", "rl/mixed", "rl/more-sft", "evaluation", "report"]


@pytest.fixture(scope="module")
def documented(smoke, tmp_path_factory) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a command of the README where `smoke` has run, once for all tests; `laptop` is the same chain as `smoke`.

    Those with a name above run to their end and print JSON, the others go until curation and print words.
    """
    own = tmp_path_factory.mktemp("own")  # a folder of the user's, with none of the recipe's sets
    pq.write_table(pq.read_table(next(smoke.ring.home.glob("artifacts/curation/*/rl.parquet"))), own / "own.parquet")

    @functools.cache
    def run(command: str) -> subprocess.CompletedProcess[str]:
        more = ["--json"] if command in (AGAIN, EARLY, RERUN) else ["--until", "curation"]
        return smoke.ring(*shlex.split(command.replace("laptop", "smoke").replace("DIR", str(own))), *more)

    return run


def runs_of(home: Path) -> list:
    client = MlflowClient(tracking_uri=tracking_uri(home))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, max_results=1000))


# ---------------------------------------------------------------- what a run leaves


def test_every_stage_runs_once_and_is_sealed(smoke) -> None:
    stages = by_key(smoke.document)
    assert list(stages) == STAGES
    assert {entry["status"] for entry in stages.values()} == {"ran"}
    for entry in stages.values():
        manifest = read_manifest(Path(entry["artifact"]))
        assert manifest.fingerprint == entry["fingerprint"]
        assert {"packages", "hardware", "code", "runtime", "mlflow_run_id"} <= manifest.document.keys()


def test_progress_is_told_on_standard_error_with_a_rate(smoke) -> None:
    for stage in ("curation", "base", "sft", "selection", "rl phased", "rl mixed", "evaluation"):
        lines = [line for line in smoke.terminal.splitlines() if line.startswith(stage)]
        assert "starting: not made yet" in lines[0], stage
        assert len(lines) > 1, stage
    assert "steps/s" in smoke.terminal


def test_a_chain_says_what_it_waits_for_and_how_long_it_will_take(smoke) -> None:
    lines = smoke.terminal.splitlines()
    assert any(line.startswith("starting Prefect's server") for line in lines[:2])
    assert any(line.startswith("chain ") and ("about" in line or "no forecast" in line) for line in lines)


def test_results_have_intervals_for_every_model_domain_and_the_harder_level(smoke) -> None:
    results = smoke.document["results"]
    for model in ("sft", "phased", "mixed", "more-sft"):
        for group in ("all", "math", "code", "science", "harder"):
            for metric in ("greedy", "pass@1", "pass@2"):
                entry = results[f"{model}/{group}/{metric}"]
                assert 0 <= entry["low"] <= entry["value"] <= entry["high"] <= 1
                assert entry["n"] > 0


def test_arms_train_on_equal_budgets(smoke) -> None:
    stages = by_key(smoke.document)
    steps = {key: stages[key]["metrics"]["train/steps"] for key in ("rl/phased", "rl/mixed")}
    assert steps == {"rl/phased": 5, "rl/mixed": 5}


def test_flops_of_sft_are_those_of_its_rows_in_every_epoch(smoke) -> None:
    stages = by_key(smoke.document)
    start, training = Path(stages["sft"]["artifact"]) / "epoch-01", load_recipe("smoke").recipe.sft.training
    problems = Path(stages["curation"]["artifact"]) / "sft.parquet"
    rows = rows_of(problems, Tokenizer.from_folder(start), training).rows
    work = sum((row_work(len(row.prompt), len(row.response)) for row in rows), Work())
    flops = training.epochs * training_flops(work, BailingMoeConfig.from_folder(start).shape)
    assert stages["sft"]["metrics"]["compute/total_flops"] == flops


def test_the_report_is_one_small_page_that_needs_no_network(smoke) -> None:
    page = Path(smoke.document["report"]).read_text(encoding="utf-8")
    assert len(page.encode()) < 1_000_000
    assert "<svg" in page
    assert not any(mark in page for mark in ("http://", "https://", "<script", "src="))


def test_a_chain_that_stops_early_has_a_page_of_what_there_is(documented) -> None:
    page = Path(json.loads(documented(EARLY).stdout)["report"]).read_text(encoding="utf-8")
    assert all(text in page for text in ("rows after each step", "loss by epoch", "Lineage"))
    assert not any(text in page for text in ("Reinforcement learning", "Responses and their verdicts"))


def test_every_number_of_the_last_table_is_in_mlflow_under_the_same_name(smoke) -> None:
    client = MlflowClient(tracking_uri=tracking_uri(smoke.ring.home))
    evaluation = read_manifest(Path(by_key(smoke.document)["evaluation"]["artifact"])).document["mlflow_run_id"]
    recorded = client.get_run(evaluation).data.metrics
    for name, entry in smoke.document["results"].items():
        for end, key in (("value", name), ("low", f"{name}/low"), ("high", f"{name}/high")):
            assert recorded[metric_name(key)] == pytest.approx(entry[end])


def test_the_chains_own_row_has_the_scores_over_all_problems_and_their_differences_alone(smoke) -> None:
    client = MlflowClient(tracking_uri=tracking_uri(smoke.ring.home))
    recorded = client.get_run(smoke.document["mlflow_run_id"]).data.metrics
    models, pairs = ("sft", "phased", "mixed", "more-sft"), 6  # every pair of four
    metrics = ("greedy", "pass@1")
    ends = ("", "/low", "/high")
    scores = {metric_name(f"{model}/all/{metric}{end}") for model in models for metric in metrics for end in ends}
    differences = {name for name in recorded if " - " in name}
    assert recorded.keys() - differences == scores
    assert len(differences) == pairs * len(metrics)
    for name in metrics:
        assert recorded[metric_name(f"mixed/all/{name}")] == smoke.document["results"][f"mixed/all/{name}"]["value"]


def test_mlflow_holds_every_parameter_data_set_and_model(smoke) -> None:
    client = MlflowClient(tracking_uri=tracking_uri(smoke.ring.home))
    runs = {run.info.run_name: run for run in runs_of(smoke.ring.home)}
    assert {
        "curation",
        "base",
        "sft",
        "selection",
        "rl phased",
        "rl mixed",
        "rl more-sft",
        "evaluation",
        "report",
    } < set(runs)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    mixed = runs["rl mixed"]
    assert mixed.data.params["rl.objective.token_budget"] == "400"
    assert mixed.data.params["rl.objective.clip_low"] == "0.2"  # a default
    assert mixed.data.tags["ring.stage"] == "rl"
    manifest = read_manifest(Path(by_key(smoke.document)["curation"]["artifact"]))
    digests = {
        entry.dataset.name: {tag.key: tag.value for tag in entry.tags}["sha256"]
        for entry in mixed.inputs.dataset_inputs
    }
    assert digests["curation/rl"] == manifest.document["files"]["rl.parquet"]["sha256"]
    made = {
        entry.dataset.name: {tag.key: tag.value for tag in entry.tags}
        for entry in runs["curation"].inputs.dataset_inputs
    }
    assert made["curation/dropped"]["sha256"] == manifest.document["files"]["dropped.parquet"]["sha256"]
    assert made["curation/dropped"]["mlflow.data.context"] == "output"
    assert "card.md" in {item.path for item in client.list_artifacts(runs["curation"].info.run_id)}
    history = client.get_metric_history(mixed.info.run_id, "reward/mean")
    assert sorted({metric.step for metric in history}) == [1, 2, 3, 4, 5]
    assert [metric.step for metric in client.get_metric_history(mixed.info.run_id, "train/steps")] == [5]  # a final one
    models = client.search_logged_models([mixed.info.experiment_id])
    folders = {Path(model.tags["ring.folder"]).name for model in models}
    assert {"model", "epoch-01", "epoch-02"} <= folders
    assert not list((smoke.ring.home / "mlruns").rglob("*.safetensors"))  # pointed at, not copied


def test_verify_and_lineage_read_what_stands_there(smoke) -> None:
    found = smoke.ring.json("verify", "--deep")
    assert (found["checked"], found["problems"], found["notes"]) == (9, {}, {})
    report = by_key(smoke.document)["report"]["fingerprint"]
    tree = smoke.ring("lineage", report[:12]).stdout
    for stage in ("curation", "base", "sft", "selection", "rl phased", "evaluation"):
        assert stage in tree


# ---------------------------------------------------------------- cache, damage, rerun


def test_the_same_command_again_is_answered_from_the_cache(smoke, documented) -> None:
    again = json.loads(documented(AGAIN).stdout)
    assert {entry["status"] for entry in again["stages"]} == {"cached"}
    assert again["results"] == smoke.document["results"]


def test_a_flipped_byte_is_found_and_that_result_alone_is_built_again(smoke) -> None:
    entry = by_key(smoke.document)["evaluation"]
    path = Path(entry["artifact"]) / "results.json"
    before = content(entry)
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    assert entry["fingerprint"] in smoke.ring("verify", "--json", code=1).stdout
    done = smoke.ring("run", "smoke", "--json")
    assert done.stderr.count("is damaged and is built again") == 1
    again = by_key(json.loads(done.stdout))
    assert {key for key, stage in again.items() if stage["status"] != "cached"} == {"evaluation"}
    assert content(again["evaluation"]) == before


def test_a_rerun_stage_gives_the_same_bytes_and_says_so(smoke, documented) -> None:
    before = content(by_key(smoke.document)["rl/mixed"])
    done = documented(RERUN)
    again = by_key(json.loads(done.stdout))
    assert {key for key, stage in again.items() if stage["status"] == "ran"} == {"rl/mixed"}
    assert content(again["rl/mixed"]) == before
    assert "reproduced byte for byte" in done.stderr


# ---------------------------------------------------------------- kills


def wait_for(process: subprocess.Popen[str], home: Path, pattern: str, *, seconds: float = 240) -> None:
    """Until a file under the home matches; the process must not end before."""
    deadline = time.monotonic() + seconds
    while not any(home.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{pattern} never appeared"
        time.sleep(0.01)


def test_interrupted_in_base_and_killed_in_sft_rl_and_evaluation_a_chain_ends_with_the_same_bytes(smoke, ring) -> None:
    command = ("run", "smoke", "--set", "runtime.checkpoint_seconds=0", "--json")
    process = ring.start(*command)
    wait_for(process, ring.home, "artifacts/base/*.partial/.state/training/state.json")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "stopped: base. What is half built is kept" in errors
    assert_all_ended(ring.home)
    assert {run.info.status for run in runs_of(ring.home)} == {"FINISHED", "KILLED"}
    for number, pattern in (
        (signal.SIGTERM, "artifacts/sft/*.partial/.state/training/state.json"),
        (signal.SIGKILL, "artifacts/rl/*.partial/.state/training/state.json"),
        (signal.SIGKILL, "artifacts/evaluation/*.partial/.state/samples/*/*.arrow"),
    ):
        process = ring.start(*command)
        wait_for(process, ring.home, pattern)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, "stopped: sft" in errors) in ((130, True), (-signal.SIGKILL, False))
        assert_all_ended(ring.home)
    document = json.loads(ring(*command).stdout)
    undisturbed, resumed = by_key(smoke.document), by_key(document)
    for key in STAGES[:-1]:  # the report names runs and seconds
        assert content(resumed[key]) == content(undisturbed[key]), key
    assert document["results"] == smoke.document["results"]
    assert {run.info.status for run in runs_of(ring.home)} <= {"FINISHED", "KILLED"}
    assert resumed["evaluation"]["status"] == "resumed"
    sealed = {key: read_manifest(Path(entry["artifact"])).document["status"] for key, entry in resumed.items()}
    assert sealed["base"] == sealed["sft"] == "resumed"
    assert "resumed" in {sealed[f"rl/{arm}"] for arm in ("phased", "mixed", "more-sft")}
    runs = ring.json("runs", "smoke")["runs"]
    assert [run["outcome"] for run in runs] == ["stopped", "stopped", "killed", "killed", "finished"]
    assert [run["try"] for run in runs] == [1, 2, 3, 4, 5]


def test_two_chains_at_once_in_one_home_share_and_do_not_corrupt(ring) -> None:
    first = ring.start("run", "smoke", "--until", "base", "--json")
    second = ring.start("run", "smoke", "--until", "base", "--json", "--set", "base.training.epochs=1")
    documents = []
    for process in (first, second):
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        documents.append(by_key(json.loads(out)))
    assert documents[0]["curation"]["artifact"] == documents[1]["curation"]["artifact"]
    assert sorted(document["curation"]["status"] for document in documents) == ["cached", "ran"]
    assert [document["curation"]["waited_seconds"] > 0 for document in documents].count(True) <= 1
    assert documents[0]["base"]["fingerprint"] != documents[1]["base"]["fingerprint"]
    found = ring.json("verify")
    assert (found["checked"], found["problems"]) == (3, {})


def test_a_tracking_database_that_cannot_be_written_stops_the_chain(ring) -> None:
    ring.home.mkdir(parents=True)
    with sqlite3.connect(ring.home / "mlflow.db") as database:
        database.execute("CREATE TABLE not_mlflow (x)")
    (ring.home / "mlflow.db").write_bytes(b"this is no database" * 100)
    done = ring("run", "smoke", code=2)
    assert "cannot record" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(ring.home.glob("artifacts/*/*"))


# ---------------------------------------------------------------- the README's commands


def test_the_readme_documents_every_command() -> None:
    names = {
        "run",
        "new",
        "show",
        "ls",
        "lineage",
        "verify",
        "status",
        "up",
        "judge",
        "sandbox",
        "data",
        "model",
        "rollouts",
        "evaluate",
        "rescore",
        "runs",
        "reproduce",
        "bundle",
        "crosscheck",
        "diff",
        "why",
        "chat",
        "export",
        "export-records",
        "plan",
    }
    assert {command.split()[0] for command in COMMANDS} == names


@pytest.mark.parametrize("command", QUICK)
def test_a_command_that_reads_works_as_documented(smoke, command: str) -> None:
    answers = smoke.ring.home / "answers.jsonl"
    answers.write_text(json.dumps({"id": "q1", "response": "so \\boxed{3}", "gold": "3"}) + "\n", encoding="utf-8")
    problem = pq.read_table(next(smoke.ring.home.glob("artifacts/curation/*/heldout.parquet")))["id"][0].as_py()
    meant = {
        "laptop": "smoke",
        "latest": smoke.document["chain"],
        "ID": by_key(smoke.document)["evaluation"]["fingerprint"],
        "ARM": by_key(smoke.document)["rl/mixed"]["fingerprint"],
        "answers.jsonl": str(answers),
        "MODEL": str(next(smoke.ring.home.glob("artifacts/base/*/model"))),
        "RESPONSE": f"{by_key(smoke.document)['evaluation']['fingerprint']}/sft/{problem}/greedy",
        **{name: str(smoke.ring.home.parent / name.lower()) for name in ("OUT", "RECORDS", "EXPORTED")},
        "ROW": pq.read_table(next(smoke.ring.home.glob("artifacts/curation/*/sft.parquet")))["id"][0].as_py(),
    }
    arguments = [meant.get(argument, argument) for argument in shlex.split(command)]
    assert smoke.ring(*arguments).stdout.strip()


@pytest.mark.parametrize("command", RUNS)
def test_a_documented_run_works_without_the_hub(documented, command: str) -> None:
    assert "curation" in documented(command).stdout
