"""Tracking with the real MLflow: nothing stays RUNNING, nothing is recorded twice, and a record that fails stops the run."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stages.errors import StoppedError, TrackingError
from stages.records.artifact import Store, fingerprint
from stages.records.tracking import ChainPage, Tracker, metric_name, process_stamp

EPOCH = {"epoch": 1, "train_loss": 0.5, "validation_loss": 0.25}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def tracker(home):
    return Tracker(home, "test")


def open_stage(tracker, *, resume=None, datasets=()):
    chain = tracker.start_chain("chain", tags={}, params={"a.b": 1})
    return tracker.start_stage(
        "sft", parent=chain, resume=resume, tags={"ring.stage": "sft"}, params={"sft.x": 0.5}, datasets=list(datasets)
    )


def sealed(home, metrics, *, run_id="", tables=None):
    payload = {"stage": "sft", "arm": None, "config": {"m": [*metrics]}, "code": "c", "inputs": {}}
    store, identity = Store(home), fingerprint(payload)
    folder = store.partial("sft", identity)
    (folder / "epoch-01").mkdir(parents=True)
    (folder / "epoch-01" / "config.json").write_text("{}")
    (folder / "epoch-01" / "model.safetensors").write_text("w")
    (folder / "tables.json").write_text(json.dumps(tables or {"epochs": [EPOCH]}))
    document = {
        "payload": payload,
        "inputs": {},
        "metrics": metrics,
        "timings": {"cpu_seconds": 1.0},
        "notes": [],
        "code": {},
        "recipe": "test",
        "status": "ran",
        "seconds": 1.0,
        "made_at": "2026-01-01T00:00:00Z",
        "mlflow_run_id": run_id,
    }
    return store.seal(stage="sft", identity=identity, document=document)


def test_a_stage_records_params_datasets_steps_tables_and_models(tracker, home, tmp_path):
    data = tmp_path / "rows.parquet"
    data.write_bytes(b"rows")
    run = open_stage(tracker, datasets=[("curation/sft", data, "a" * 64)])
    for step in range(3):
        run.metrics(step, {"train/loss": 1.0 / (step + 1)})
    run.finish(sealed(home, {"sft/all/pass@1": 0.25}))
    stored = tracker.client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"sft.x": "0.5"}
    assert stored.data.metrics[metric_name("sft/all/pass@1")] == 0.25
    assert [m.value for m in tracker.client.get_metric_history(run.run_id, "train/loss")] == [
        1.0,
        0.5,
        pytest.approx(1 / 3),
    ]
    assert stored.inputs.dataset_inputs[0].dataset.digest == "a" * 36
    assert {"epochs.json", "manifest.json"} <= {item.path for item in tracker.client.list_artifacts(run.run_id)}
    models = tracker.client.search_logged_models([tracker.experiment_id])
    assert next(model.tags["ring.folder"] for model in models if model.source_run_id == run.run_id).endswith("epoch-01")


def test_a_model_is_linked_to_the_run_that_made_it_and_to_those_that_read_it(tracker, home):
    maker = open_stage(tracker)
    manifest = sealed(home, {"linked": 1.0}, run_id=maker.run_id)
    maker.finish(manifest)
    (output,) = tracker.client.get_run(maker.run_id).outputs.model_outputs
    assert tracker.client.get_logged_model(output.model_id).name == "epoch-01 of sft"
    reader = tracker.start_stage(
        "rl mixed",
        parent=tracker.start_chain("chain", tags={}, params={}),
        resume=None,
        tags={},
        params={},
        datasets=[],
        models=[(manifest, "epoch-01"), (manifest, "not made")],
    )
    (used,) = tracker.client.get_run(reader.run_id).inputs.model_inputs
    assert used.model_id == output.model_id


def test_the_page_of_a_stage_says_in_words_what_it_found_and_where_it_lies(tracker, home):
    run = open_stage(tracker)
    manifest = sealed(home, {"words": 1.0})
    run.finish(manifest)
    said = tracker.client.get_run(run.run_id).data.tags["mlflow.note.content"]
    assert "SFT ended with a loss of 0.500 nats per token in epoch 1; on rows not trained on 0.250" in said
    assert str(manifest.folder) in said


def test_an_experiment_says_what_it_holds_and_a_users_own_words_stay(tracker, home):
    def said():
        return tracker.client.get_experiment(tracker.experiment_id).tags["mlflow.note.content"]

    assert said().startswith("Chains of the recipe `test`.")
    before = said()
    tracker.client.set_experiment_tag(tracker.experiment_id, "mlflow.note.content", "my own words")
    Tracker(home, "test")
    assert said() == "my own words"
    tracker.client.set_experiment_tag(tracker.experiment_id, "mlflow.note.content", before)


def test_a_chain_page_adds_words_data_sets_and_a_suffix(tracker, tmp_path):
    data = tmp_path / "split.parquet"
    data.write_bytes(b"rows")
    run_id = tracker.start_chain("smoke 2026-01-01 00:00", tags={}, params={})
    page = ChainPage(
        description="what was found",
        tags={"ring.ran": "[]"},
        datasets={"raw source": [], "split": [("curation/split", data, "b" * 64)]},
        models={},
        scores={},
        suffix="(nothing ran)",
    )
    tracker.finish_chain(run_id, metrics={"mixed/all/pass@1": 0.5}, page=page)
    stored = tracker.client.get_run(run_id)
    assert stored.info.run_name == "smoke 2026-01-01 00:00 (nothing ran)"
    assert stored.data.tags["mlflow.note.content"] == "what was found"
    (found,) = stored.inputs.dataset_inputs
    assert {tag.key: tag.value for tag in found.tags} == {"mlflow.data.context": "split", "sha256": "b" * 64}
    assert (stored.info.status, stored.data.metrics) == ("FINISHED", {"mixed/all/pass_at_1": 0.5})


def test_a_resumed_run_does_not_record_a_step_twice(tracker):
    first = open_stage(tracker)
    for step in range(4):
        first.metrics(step, {"loss": float(step)})
    first.flush()
    second = open_stage(tracker, resume=first.run_id)
    for step in range(2, 6):
        second.metrics(step, {"loss": float(step)})
    second.flush()
    assert second.run_id == first.run_id
    assert [m.step for m in tracker.client.get_metric_history(first.run_id, "loss")] == [0, 1, 2, 3, 4, 5]


def test_the_final_metrics_stand_at_the_last_step(tracker, home):
    run = open_stage(tracker)
    for step in (1, 2, 3):
        run.metrics(step, {"loss": 1.0})
    run.finish(sealed(home, {"loss": 0.5}))
    history = tracker.client.get_metric_history(run.run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == [(1, 1.0), (2, 1.0), (3, 0.5), (3, 1.0)]


def test_a_resumed_run_goes_on_after_the_last_step_of_any_metric(tracker):
    first = open_stage(tracker)
    for step in range(4):
        first.metrics(step, {"often": 1.0, **({"seldom": 1.0} if step == 0 else {})})
    first.flush()
    tracker.client.set_tag(first.run_id, "ring.error", "killed")
    second = open_stage(tracker, resume=first.run_id)
    assert second.last_step == 3
    stored = tracker.client.get_run(first.run_id)
    assert stored.info.status == "RUNNING"
    assert stored.data.tags["ring.status"] == "running" and "ring.error" not in stored.data.tags
    assert stored.data.tags["ring.process"] == process_stamp(os.getpid())


def test_a_run_cut_short_between_seal_and_end_is_finished_from_the_manifest_and_recorded_once(tracker, home):
    run = open_stage(tracker)
    run.metrics(2, {"loss": 1.0})
    manifest = sealed(home, {"cut": 0.5}, run_id=run.run_id)
    run.finish(manifest)
    tracker.client.update_run(run.run_id, status="KILLED")
    assert tracker.is_unfinished(manifest)
    tracker.finish_stage(manifest)
    assert not tracker.is_unfinished(manifest)
    assert [(m.step, m.value) for m in tracker.client.get_metric_history(run.run_id, "cut")] == [(2, 0.5)]
    models = tracker.client.search_logged_models([tracker.experiment_id])
    assert len([model for model in models if model.source_run_id == run.run_id]) == 1
    assert stored_table(tracker, run, "epochs")["data"] == [[*EPOCH.values()]]


def stored_table(tracker, run, name):
    path = tracker.client.download_artifacts(run.run_id, f"{name}.json")
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_a_table_of_text_is_recorded_as_it_is(tracker, home):
    rows = [
        {"model": "mixed", "response": "a | b\nc ∎", "extracted": None},
        {"model": "sft", "response": "", "extracted": "3"},
    ]
    run = open_stage(tracker)
    run.finish(sealed(home, {"text": 1.0}, tables={"samples": rows}))
    stored = stored_table(tracker, run, "samples")
    assert [dict(zip(stored["columns"], row, strict=True)) for row in stored["data"]] == rows


@pytest.mark.parametrize(
    ("error", "status", "ended"),
    [
        (ValueError("no"), "failed", "FAILED"),
        (StoppedError("by a person"), "killed", "KILLED"),
        (KeyboardInterrupt(), "killed", "KILLED"),
    ],
)
def test_a_chain_and_its_stage_that_stop_say_how_and_why(tracker, error, status, ended):
    run_id = tracker.start_chain("chain", tags={}, params={})
    tracker.fail_chain(run_id, error)
    stage = open_stage(tracker)
    stage.fail(error)
    for stored in map(tracker.client.get_run, (run_id, stage.run_id)):
        assert (stored.info.status, stored.data.tags["ring.status"]) == (ended, status)
        assert stored.data.tags["ring.error"].startswith(type(error).__name__)


def test_a_run_whose_parameters_cannot_be_recorded_is_closed_as_failed(tracker):
    with pytest.raises(TrackingError):
        tracker.start_chain("bad", tags={}, params={"a=b": 1})
    runs = tracker.client.search_runs([tracker.experiment_id], "attributes.run_name = 'bad'")
    assert [run.info.status for run in runs] == ["FAILED"]


def test_a_run_whose_process_was_killed_is_closed_by_the_next_start_of_any_recipe(home, tracker):
    script = "import os,signal;from pathlib import Path;from stages.records.tracking import Tracker;"
    script += f"t=Tracker(Path({str(home)!r}),'other');"
    script += "print(t.start_chain('dead',tags={},params={}),flush=True);os.kill(os.getpid(),signal.SIGKILL)"
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    run_id = killed.stdout.strip()
    assert tracker.client.get_run(run_id).info.status == "RUNNING"
    Tracker(home, "test")
    stored = tracker.client.get_run(run_id)
    assert (stored.info.status, stored.data.tags["ring.status"]) == ("KILLED", "killed")


def test_a_process_stamp_tells_a_reused_pid():
    assert process_stamp(1) is not None and process_stamp(1).startswith("1:")
    assert process_stamp(2**22 + 1) is None


def test_a_database_that_cannot_be_written_stops_with_what_to_do(tmp_path):
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match="cannot record"):
        Tracker(tmp_path, "test")


def test_runs_that_bring_the_same_new_data_set_at_once_are_all_recorded(tracker, tmp_path):
    data = tmp_path / "shared.parquet"
    data.write_bytes(b"rows")
    datasets = [(f"curation/{index}", data, f"{index:064d}") for index in range(5)]
    with ThreadPoolExecutor(4) as pool:
        runs = [future.result() for future in [pool.submit(open_stage, tracker, datasets=datasets) for _ in range(4)]]
    for run in runs:
        assert len(tracker.client.get_run(run.run_id).inputs.dataset_inputs) == 5
        run.fail(RuntimeError("over"))


# ---------------------------------------------------------------- system metrics


def watched(tracker, run, *, pid, seconds):
    """What a person hears while a stage works for so long."""
    end = time.monotonic() + seconds
    told = []
    while time.monotonic() < end:
        told += filter(None, [run.watch(pid, device="cpu")])
        time.sleep(0.05)
    run.flush()
    return told


def system_points(tracker, run):
    return tracker.client.get_metric_history(run.run_id, "system/stage_memory_usage_megabytes")


def test_system_metrics_stand_at_the_seconds_of_the_stage_and_move_no_other_metric(tracker, home):
    run = open_stage(tracker)
    assert watched(tracker, run, pid=os.getpid(), seconds=2.5) == []
    seconds = [point.step for point in system_points(tracker, run)]
    assert len(seconds) == 2 and seconds[0] >= 1 and seconds[1] > seconds[0]
    run.finish(sealed(home, {"beside system metrics": 0.5}, run_id=run.run_id))
    (final,) = tracker.client.get_metric_history(run.run_id, "beside system metrics")
    assert final.step == 0
    assert len(system_points(tracker, run)) == 2  # nothing samples on after the end


def test_a_resumed_stage_goes_on_in_its_seconds(tracker):
    first = open_stage(tracker)
    watched(tracker, first, pid=os.getpid(), seconds=1.3)
    second = open_stage(tracker, resume=first.run_id)
    assert second.last_step == -1 and second.recorded == {}
    watched(tracker, second, pid=os.getpid(), seconds=1.3)
    before, after = [point.step for point in system_points(tracker, second)]
    assert after > before
    second.fail(RuntimeError("over"))


def test_a_stage_whose_process_cannot_be_watched_says_so_once_and_goes_on(tracker, home):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = open_stage(tracker)
    (told,) = watched(tracker, run, pid=gone.pid, seconds=0.3)
    assert told.startswith("system metrics are not recorded any further: NoSuchProcess: ")
    run.metrics(1, {"loss": 1.0})
    run.finish(sealed(home, {"unwatched": 1.0}))
    stored = tracker.client.get_run(run.run_id)
    assert (stored.info.status, stored.data.tags["ring.system_metrics"]) == ("FINISHED", told)


# ---------------------------------------------------------------- what a user deletes, sets or shares


@pytest.fixture
def deleted_from(tmp_path):
    tracker = Tracker(tmp_path, "test")
    return tmp_path, tracker


def test_a_deleted_experiment_is_restored_and_a_person_hears_of_it(deleted_from):
    home, tracker = deleted_from
    before = tracker.start_chain("before", tags={}, params={})
    tracker.client.delete_experiment(tracker.experiment_id)
    with pytest.raises(TrackingError, match=f"mlflow experiments restore --experiment-id {tracker.experiment_id}`"):
        tracker.start_chain("now", tags={}, params={})
    again = Tracker(home, "test")
    assert again.experiment_id == tracker.experiment_id
    assert "ring/test" in again.notes[0]
    assert again.client.get_run(before).info.lifecycle_stage == "active"
    assert not Tracker(home, "test").notes


def test_a_stage_does_not_go_on_in_a_run_that_was_deleted(tracker, home):
    first = open_stage(tracker)
    manifest = sealed(home, {"gone": 1.0}, run_id=first.run_id)
    tracker.client.delete_run(first.run_id)
    assert open_stage(tracker, resume=first.run_id).run_id != first.run_id
    assert not tracker.is_unfinished(manifest)
    with pytest.raises(TrackingError, match=f"mlflow runs restore --run-id {first.run_id}`"):
        first.finish(manifest)


def test_a_run_of_another_machine_or_home_is_not_closed(tracker, home):
    run_id = tracker.start_chain("elsewhere", tags={}, params={})
    for key, value in {"ring.home": "other:/home", "ring.process": "1:1"}.items():
        tracker.client.set_tag(run_id, key, value)
    Tracker(home, "test")
    assert tracker.client.get_run(run_id).info.status == "RUNNING"
    tracker.client.set_tag(
        run_id, "ring.home", tracker.client.get_run(open_stage(tracker).run_id).data.tags["ring.home"]
    )
    Tracker(home, "test")
    assert tracker.client.get_run(run_id).info.status == "KILLED"


def test_no_variable_of_mlflow_diverts_or_delays_a_record(tmp_path):
    other = {
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
        "MLFLOW_REGISTRY_URI": f"sqlite:///{tmp_path}/registry.db",
        "MLFLOW_EXPERIMENT_NAME": "other",
        "MLFLOW_EXPERIMENT_ID": "77",
        "MLFLOW_RUN_ID": "0" * 32,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"{tmp_path}/elsewhere",
        "MLFLOW_TRACKING_URI": "sqlite:///records.db",
    }
    script = """
import os, sys; from pathlib import Path; from stages.records.tracking_uri import pin_tracking; pin_tracking()
from stages.records.tracking import Tracker
tracker = Tracker(Path(sys.argv[1]), "test")
run = tracker.start_stage("sft", parent="p", resume=None, tags={}, params={}, datasets=[])
run.metrics(1, {"loss": 1.0}); run.flush()
tracker.client.log_dict(run.run_id, {}, "x.json")
print([m.value for m in tracker.client.get_metric_history(run.run_id, "loss")], flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "home")],
        env={**os.environ, **other, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[1.0]", done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"home", "records.db"}
    assert len(list(tmp_path.glob("home/mlruns/test/*/artifacts/x.json"))) == 1


def test_an_experiment_whose_files_a_server_keeps_is_refused_without_that_server(tmp_path):
    tracker = Tracker(tmp_path, "test")
    tracker.client.create_experiment("ring/served", artifact_location="mlflow-artifacts:/1")
    with pytest.raises(TrackingError, match="set MLFLOW_TRACKING_URI to its address"):
        Tracker(tmp_path, "served")
