"""The records of a chain as a person browses them: read with MLflow's own client from a real chain, and seen in a real browser."""

import html
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from stages.records.artifact import read_manifest
from stages.records.tracking import Tracker
from stages.records.tracking_uri import tracking_uri
from tests.flows.conftest import ROOT, by_key
from tests.flows.servers import free_port

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def client(smoke) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking_uri(smoke.ring.home))


@pytest.fixture(scope="module")
def chain(smoke, client) -> Run:
    return client.get_run(smoke.document["chain"])


@pytest.fixture(scope="module")
def stages(smoke, client, chain) -> dict[str, Run]:
    """The runs below the chain, by name; each is read by itself, as MLflow's search leaves out the models that a run read."""
    query = f"tags.`mlflow.parentRunId` = '{chain.info.run_id}'"
    found = [client.get_run(run.info.run_id) for run in client.search_runs([chain.info.experiment_id], query)]
    return {run.info.run_name: run for run in found}


@pytest.fixture(scope="module")
def mlflow(smoke):
    """Address of MLflow's own server over the chain's records."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri(smoke.ring.home)]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        env={**smoke.ring.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        cwd=smoke.ring.home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield answering(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait()


def answering(address: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return address
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.2)


def seen(address: str, folder: Path) -> str:
    """A page as it stands after its scripts have run."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000", "--window-size=1200,900"]
    command = [str(CHROMIUM), *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout


def sets_of(run: Run) -> dict[str, str]:
    """Data set -> what it is to the run."""
    return {
        one.dataset.name: next(tag.value for tag in one.tags if tag.key == "mlflow.data.context")
        for one in run.inputs.dataset_inputs
    }


def table_of(client: MlflowClient, run: Run, name: str) -> list[dict]:
    stored = json.loads(Path(client.download_artifacts(run.info.run_id, f"{name}.json")).read_text(encoding="utf-8"))
    return [dict(zip(stored["columns"], row, strict=True)) for row in stored["data"]]


def test_the_chain_says_in_prose_what_it_is_what_ran_and_what_was_found(smoke, chain) -> None:
    said = chain.data.tags["mlflow.note.content"]
    assert "From data to scores: curation of the data; a base model; supervised fine-tuning" in said
    assert "further training in the arms phased, mixed, more-sft" in said
    assert "All 9 stages ran." in said
    assert "was chosen of 2 SFT checkpoints" in said and "Curation kept" in said
    assert smoke.document["report"] in said


def test_the_chain_shows_its_splits_and_its_models(client, chain, smoke) -> None:
    sets = sets_of(chain)
    assert {name for name, context in sets.items() if context == "split"} >= {"curation/sft", "curation/heldout"}
    models = [client.get_logged_model(one.model_id) for one in chain.outputs.model_outputs]
    chosen = chain.data.tags["ring.chosen"]
    assert {model.name for model in models} == {
        "final of base",
        f"{chosen} of sft",
        *(f"final of rl {arm}" for arm in ("phased", "mixed", "more-sft")),
    }
    by_name = {model.name: model.tags for model in models}
    why = json.loads((Path(by_key(smoke.document)["selection"]["artifact"]) / "choice.json").read_text())["why"]
    assert by_name[f"{chosen} of sft"]["ring.chosen"] == why
    assert by_name["final of rl mixed"]["greedy"].endswith("]")


def test_a_stage_shows_what_it_read_and_no_more(stages) -> None:
    read = {name: {one for one, context in sets_of(run).items() if context == "input"} for name, run in stages.items()}
    assert read["sft"] == read["rl more-sft"] == {"curation/sft", "curation/validation"}
    assert read["rl mixed"] == {"curation/rl", "curation/probe", "selection/graded"}
    assert read["evaluation"] == {"curation/heldout", "curation/rl"}
    assert read["curation"] == set()


def test_a_stage_shows_the_models_that_it_made_and_read(client, stages, chain) -> None:
    def names(models) -> set[str]:
        return {client.get_logged_model(one.model_id).name for one in models}

    chosen = f"{chain.data.tags['ring.chosen']} of sft"
    assert names(stages["sft"].outputs.model_outputs) == {"epoch-01 of sft", "epoch-02 of sft"}
    assert names(stages["sft"].inputs.model_inputs) == {"final of base"}
    assert names(stages["selection"].inputs.model_inputs) == {"epoch-01 of sft", "epoch-02 of sft"}
    assert names(stages["rl mixed"].inputs.model_inputs) == {chosen}
    assert names(stages["report"].inputs.model_inputs) == set()
    assert names(stages["evaluation"].inputs.model_inputs) == {
        chosen,
        *(f"final of rl {arm}" for arm in ("phased", "mixed", "more-sft")),
    }


def test_every_stage_has_system_metrics_and_no_result_holds_them(smoke, client, stages) -> None:
    assert len(stages) == 9
    for name, run in stages.items():
        points = client.get_metric_history(run.info.run_id, "system/stage_cpu_cores")
        assert points, name
        assert all(run.info.start_time <= point.timestamp <= run.info.end_time for point in points)
        assert run.data.metrics["system/stage_memory_usage_megabytes"] > 0
        assert "ring.system_metrics" not in run.data.tags
    for entry in smoke.document["stages"]:
        assert "system/" not in (Path(entry["artifact"]) / "manifest.json").read_text(encoding="utf-8")


@in_a_browser
@pytest.mark.parametrize("is_cached", [False, True])
def test_a_link_on_the_chains_page_leads_to_one_chart_with_a_curve_of_every_arm(
    smoke, mlflow, chain, tmp_path, is_cached
) -> None:
    shown = smoke.ring.json("run", "smoke")["chain"] if is_cached else chain.info.run_id
    page = seen(f"{mlflow}/#/experiments/{chain.info.experiment_id}/runs/{shown}", tmp_path)
    links = {
        text: html.unescape(link) for link, text in re.findall(r'<a[^>]*href="(#/metric[^"]*)"[^>]*>([^<]*)<', page)
    }
    assert [*links] == [
        "reward",
        "probe: share right, greedy",
        "response length, tokens",
        "policy entropy, nats per token",
    ]
    chart = seen(f"{mlflow}/{links['reward']}", tmp_path)
    assert len({*re.findall(r'class="js-line" d="(M[^"]*)"', chart)}) == 2
    assert all(f"rl {arm} (reward/mean)" in chart for arm in ("phased", "mixed"))


def test_the_charts_of_a_chain_hold_the_runs_that_the_records_know(smoke, stages) -> None:
    tracker = Tracker(smoke.ring.home, "smoke")
    arms = {name: stages[f"rl {name}"].info.run_id for name in ("phased", "mixed", "more-sft")}
    found = tracker.charts(["reward/mean", "train/loss", "no/metric"], runs=[*arms.values(), "0" * 32])
    runs = {name: json.loads(parse_qs(address.partition("?")[2])["runs"][0]) for name, address in found.items()}
    assert runs == {"reward/mean": [arms["phased"], arms["mixed"]], "train/loss": [*arms.values()]}


def test_every_search_of_the_docs_finds_something(client, chain, stages) -> None:
    text = (ROOT / "docs" / "browsing.md").read_text(encoding="utf-8")
    searches = re.search(r"In the search box.*?```\n(.*?)```", text, re.DOTALL).group(1).splitlines()
    assert len(searches) == 7
    for search in searches:
        search = search.replace("epoch-02", chain.data.tags["ring.chosen"])  # another machine may choose another one
        assert client.search_runs([chain.info.experiment_id], search), search
    one = stages["evaluation"].inputs.dataset_inputs[0].dataset
    found = client.search_runs([chain.info.experiment_id], f"datasets.digest = '{one.digest}'")
    assert {"evaluation", chain.info.run_name} <= {run.info.run_name for run in found}


def test_the_choice_stands_in_words_on_the_page_of_the_selection(stages) -> None:
    tags = stages["selection"].data.tags
    assert f"{tags['ring.chosen']} was chosen of 2 SFT checkpoints" in tags["mlflow.note.content"].replace("\\", "")


def test_rollouts_are_a_bounded_table_by_domain_and_reward_with_the_right_answer(smoke, client, stages) -> None:
    rows = table_of(client, stages["rl mixed"], "rollouts")
    assert 0 < len(rows) <= 240
    assert {row["step"] for row in rows} == {1, 2, 3, 4, 5}
    places = [(row["domain"], -row["reward"]) for row in rows]
    assert places == sorted(places)
    curation = read_manifest(Path(by_key(smoke.document)["curation"]["artifact"]))
    pool = {row["id"]: row for row in pq.read_table(curation.folder / "rl.parquet").to_pylist()}
    for row in rows:
        problem = pool[row["problem id"]]
        assert (row["problem"], row["right answer"]) == (problem["prompt"], problem["answer"] or problem["tests"])


def test_the_samples_of_the_evaluation_have_the_right_answer(client, stages) -> None:
    rows = table_of(client, stages["evaluation"], "samples")
    assert rows and all(row["right answer"] for row in rows)
    assert all(
        row["right answer"] == row["extracted"]
        for row in rows
        if row["status"] == "correct" and row["extracted"].isdigit()
    )


def test_a_chain_of_which_nothing_ran_and_a_changed_one_do_not_look_like_the_first(smoke, client, chain) -> None:
    again = smoke.ring.json("run", "smoke", "--until", "curation", "--set", "report.title=Other words")
    stored = client.get_run(again["chain"])
    assert stored.info.run_name.startswith("smoke report.title=Other words ")
    assert stored.info.run_name.endswith("(nothing ran)")
    assert json.loads(stored.data.tags["ring.ran"]) == []
    assert "**Nothing ran**" in stored.data.tags["mlflow.note.content"]
    assert json.loads(chain.data.tags["ring.ran"])[0] == "curation" and "nothing ran" not in chain.info.run_name
