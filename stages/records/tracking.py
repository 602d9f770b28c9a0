"""Experiment records. Beside `system_metrics` the only module that imports MLflow; `chains` reads what it wrote, and `recorded` compares.

One experiment a recipe (`ring/<recipe>`), one run a chain, one nested run an executed stage; a cached stage is linked from
the chain's run by a tag. Everything goes through `MlflowClient`, which has no global state, so stages may run side by side.
A record that cannot be written raises `TrackingError`: the chain stops rather than go on unseen. The tag `ring.status` of a
chain is running, done, failed or killed, of a stage running, ran, resumed, failed or killed; the reason is in `ring.error`.

MLflow allows no `@` in a metric's name: `pass@1` is recorded as `pass_at_1`.
"""

import calendar
import contextlib
import json
import os
import platform
import re
import sqlite3
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # of runs on a server: ours is the result alone
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault(
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5"
)  # a server that is gone is told after half a minute, not after four
os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"  # a record that was accepted stands there

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - a second, which would else follow when the database is opened
import psutil
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunStatus,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from stages.errors import StoppedError, TrackingError
from stages.records.artifact import Manifest, held, open_store
from stages.records.browsing import (
    browsing_tables,
    chosen_of,
    experiment_description,
    model_name,
    stage_description,
)
from stages.records.system_metrics import PREFIX, SystemSampler
from stages.records.tracking_uri import is_server, sqlite_path, tracking_uri, without_password
from stages.results import RESULTS, interval_metrics
from stages.stage import Row

Table = tuple[str, Path, str]  # name, file, sha256
Made = tuple[Manifest, str]  # a result, and the folder of one of its models
PARAMS_PER_CALL = 100
METRICS_PER_CALL = 1000
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"  # of `made_at` in a manifest
PROCESS = "ring.process"  # pid and start time of the process that holds a run open
HOME = (
    "ring.home"  # machine and folder of the process that holds it open: a tracking server has the runs of others, too
)
CHOSEN = "ring.chosen"  # of a selection and of a chain: the SFT checkpoint; of a model: why it was chosen
PARENT = "mlflow.parentRunId"
CACHED = "ring.cached."  # and the stage: its result, where the chain took it as it stood
_NOT_MEASURED = "ring.system_metrics"  # of a stage: why its system metrics are not there, or not to its end
NOTE = "mlflow.note.content"  # what the UI shows as a description
_MODELS_OF_RUN = 1000
UNTIL = "request.until"  # parameter of every chain of a recipe
_DELETED = re.compile(r"The (experiment|run) (\S+) must be in the 'active' state")
_ID_OPTION = {"experiment": "--experiment-id", "run": "--run-id"}
_ENDS = {"done": RunStatus.FINISHED, "failed": RunStatus.FAILED, "killed": RunStatus.KILLED}


@contextlib.contextmanager
def _reported(what: str) -> Generator[None]:
    try:
        yield
    except (MlflowException, OSError) as error:
        raise TrackingError(f"cannot record {what}: {_first_line(error)}. {_advice(error)}") from error
    except Exception as error:
        if type(error).__module__.startswith("sqlalchemy"):
            raise TrackingError(f"cannot record {what}: {_first_line(error)}") from error
        raise


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def _advice(error: Exception) -> str:
    """What a person can do."""
    if deleted := _DELETED.search(str(error)):
        kind, identity = deleted.groups()
        return f"It was deleted in MLflow: `mlflow {kind}s restore {_ID_OPTION[kind]} {identity}` brings it back"
    return (
        "The chain stops, because a run without records cannot be checked: "
        "is the disk full, the home folder read-only, or the tracking server gone?"
    )


def metric_name(name: str) -> str:
    """The name under which MLflow holds a metric."""
    return name.replace("@", "_at_")


def process_stamp(pid: int) -> str | None:
    """`pid:start time` of a living process, None for a dead one; a reused pid has another start time."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return f"{pid}:{text.rpartition(')')[2].split()[19]}"


def _close(client: MlflowClient, run_id: str, *, status: str, error: str) -> None:
    client.set_tag(run_id, "ring.status", status)
    client.set_tag(run_id, "ring.error", error[:4000])
    client.set_terminated(run_id, RunStatus.to_string(_ENDS[status]))


@contextlib.contextmanager
def _closed_on_failure(client: MlflowClient, run_id: str) -> Generator[None]:
    """Close the run when what follows fails, as far as that can still be recorded; the failure goes on."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(MlflowException, OSError):
            _close(client, run_id, status=_status(error), error=_described(error))
        raise


def _status(error: BaseException) -> str:
    """What a person stopped (Ctrl-C, SIGTERM, a cancelled flow run) was killed; anything else failed."""
    return "failed" if isinstance(error, Exception) and not isinstance(error, StoppedError) else "killed"


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def place_of(home: Path) -> str:
    """What the tag `HOME` of a run says that is made from a home folder on this machine."""
    return f"{platform.node()}:{home}"


@contextlib.contextmanager
def reading(home: Path) -> Generator[MlflowClient | None]:
    """A client for who only reads the records of a home folder; None where there are none yet.

    Raises TrackingError where they cannot be read, then or while they are.
    """
    uri = tracking_uri(home)
    if (database := sqlite_path(uri)) and not database.exists():
        yield None
        return
    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except Exception as error:
        if isinstance(error, MlflowException) or type(error).__module__.startswith("sqlalchemy"):
            place = without_password(uri)
            raise TrackingError(
                f"cannot read the records in {place}: {_first_line(error)}. Is the tracking server gone?"
            ) from error
        raise


def find_run(client: MlflowClient, run_id: str) -> Run | None:
    """A run, deleted ones included; None where there is none of this id."""
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


@dataclass(frozen=True, slots=True)
class ChainPage:
    """What the run of a finished chain shows beside its numbers."""

    description: str  # Markdown
    tags: Mapping[str, str]
    datasets: Mapping[str, Sequence[Table]]  # by what they are to the chain
    models: Mapping[str, Made]  # by the name that they have in results, as far as they have one
    scores: Mapping[str, Mapping[str, str]]  # model -> metric -> score with its interval
    suffix: str = ""  # of the run's name


@dataclass(slots=True)
class StageRun:
    """An open run of a stage; metrics are buffered and written in batches.

    recorded: metric -> last step that the run recorded before it was killed; it is not recorded twice.
    """

    client: MlflowClient
    experiment_id: str
    run_id: str
    home: Path  # where the results lie that it was made from
    recorded: dict[str, int] = field(default_factory=dict)
    began: float = field(default_factory=time.time)  # seconds since 1970, when the run was opened first
    last_step: int = -1  # of the stage; system metrics have seconds for steps
    _buffer: list[Metric] = field(default_factory=list)
    _written: float = 0.0
    _sampler: SystemSampler | None = None
    _is_unmeasured: bool = False

    def __post_init__(self) -> None:
        """Go on after the last step of any metric."""
        self.last_step = max([self.last_step, *self.recorded.values()])

    @property
    def lock(self) -> Path:
        """Two runs that bring the same new data set at once break a constraint of MLflow's."""
        return _lock_of(self.home)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record per-step values."""
        now = int(time.time() * 1000)
        self.last_step = max(self.last_step, step)
        named = {metric_name(name): float(value) for name, value in values.items()}
        self._buffer += [
            Metric(name, value, now, step) for name, value in named.items() if step > self.recorded.get(name, -1)
        ]
        self._write_in_time()

    def watch(self, pid: int, *, device: str) -> str | None:
        """Record what the machine and a stage's process use, whenever it is time; call it over and over while the stage works.

        Where it fails the stage goes on without: returns what a person should hear, once; a tag of the run says it, too.
        """
        if self._is_unmeasured:
            return None
        elapsed, told = time.time() - self.began, None
        try:
            if self._sampler is None:
                self._sampler = SystemSampler(pid, device=device, elapsed=elapsed)
                told = self._sampler.lacks
            values = self._sampler.due(elapsed)
        except (psutil.Error, OSError) as error:
            self._is_unmeasured, values = True, {}
            told = f"system metrics are not recorded any further: {_described(error)}"
        if told:
            with _reported("a note in MLflow"):
                self.client.set_tag(self.run_id, _NOT_MEASURED, told)
        at = int(1000 * (self.began + elapsed))
        self._buffer += [Metric(name, value, at, int(elapsed)) for name, value in values.items()]
        self._write_in_time()
        return told

    def _write_in_time(self) -> None:
        if len(self._buffer) >= METRICS_PER_CALL or (self._buffer and time.monotonic() - self._written > 5):
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        self._written = time.monotonic()
        pending, self._buffer = self._buffer, []
        for start in range(0, len(pending), METRICS_PER_CALL):
            with _reported("metrics in MLflow"):
                self.client.log_batch(self.run_id, metrics=pending[start : start + METRICS_PER_CALL])

    def finish(self, manifest: Manifest) -> None:
        """Final metrics, timings, tables, pages, data sets, the manifest, and models that point at the artifact; then close the run.

        May be called again after it was cut short: what stands there already is not recorded twice.
        """
        document, final = manifest.document, recorded_metrics(manifest)
        made_at = calendar.timegm(time.strptime(document["made_at"], TIME_FORMAT)) * 1000  # an equal point is one point
        step = max(self.last_step, 0)
        self._buffer += [Metric(metric_name(name), float(value), made_at, step) for name, value in final.items()]
        self.flush()
        with _reported("tables and models in MLflow"):
            self._log_tables(manifest)
            self._log_files(manifest)
            self.client.log_dict(self.run_id, document, "manifest.json")
            self._log_models(manifest)
            self._mark_chosen(manifest)
            self.client.set_tag(self.run_id, NOTE, stage_description(manifest))
            self.client.set_tag(self.run_id, "ring.status", document["status"])
            _drop_error(self.client, self.run_id)
            self.client.set_terminated(self.run_id, RunStatus.to_string(RunStatus.FINISHED))

    def fail(self, error: BaseException) -> None:
        """Close the run of a stage that failed, or that a person stopped."""
        with _reported("a failed stage in MLflow"):
            self.flush()
            _close(self.client, self.run_id, status=_status(error), error=_described(error))

    def _log_tables(self, manifest: Manifest) -> None:
        there = {
            item.path for item in self.client.list_artifacts(self.run_id)
        }  # MLflow appends to a table that is there
        for name, rows in browsing_tables(manifest, open_store(self.home)).items():
            if rows and f"{name}.json" not in there:
                self.client.log_table(self.run_id, data=_columns(rows), artifact_file=f"{name}.json")

    def _log_files(self, manifest: Manifest) -> None:
        """Pages as artifacts; each table that the stage made as a data set with its hash, whether or not another stage reads it."""
        files = {name: entry["sha256"] for name, entry in manifest.document["files"].items() if "/" not in name}
        for name in files:
            if name.endswith(".md"):
                self.client.log_artifact(self.run_id, str(manifest.file(name)))
        made = [
            _dataset_input(
                f"{manifest.stage}/{name.removesuffix('.parquet')}", manifest.place / name, sha256, context="output"
            )
            for name, sha256 in files.items()
            if name.endswith(".parquet")
        ]
        if made:
            with held(self.lock):
                self.client.log_inputs(self.run_id, made)

    def _log_models(self, manifest: Manifest) -> None:
        folders = {path.split("/")[0] for path in manifest.document["files"] if path.endswith("/config.json")}
        known = _models_of(self.client, self.run_id)
        for folder in sorted(folders - known.keys()):
            known[folder] = self._log_model(manifest, folder)
        _link_models(self.client, self.run_id, known.values(), step=max(self.last_step, 0))

    def _mark_chosen(self, manifest: Manifest) -> None:
        """Of a selection: its run and the model say which checkpoint was chosen, the model also why."""
        if (chosen := chosen_of(manifest)) is None:
            return
        checkpoint, why = chosen
        self.client.set_tag(self.run_id, CHOSEN, checkpoint)
        sft = open_store(self.home).find("sft", manifest.inputs["sft"]["fingerprint"])
        models = _models_of(self.client, sft.document["mlflow_run_id"]) if sft else {}
        if checkpoint in models:
            self.client.set_logged_model_tags(models[checkpoint], {CHOSEN: why})

    def _log_model(self, manifest: Manifest, folder: str) -> str:
        weights = {
            name: entry["sha256"]
            for name, entry in manifest.document["files"].items()
            if name.startswith(f"{folder}/") and name.endswith(".safetensors")
        }
        model = self.client.create_logged_model(
            self.experiment_id,
            name=model_name(manifest, folder),
            source_run_id=self.run_id,
            model_type="bailing_moe",
            tags={
                "mlflow.model.isExternal": "true",
                "ring.folder": str(manifest.place / folder),
                "ring.fingerprint": manifest.fingerprint,
                "ring.sha256": json.dumps(weights)[:5000],
            },
        )
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        return model.model_id


class Tracker:
    """The records of one recipe in one home folder."""

    def __init__(self, home: Path, recipe: str) -> None:
        """Open (or make) the database and the experiment, and close runs whose process died."""
        self.recipe = recipe
        self.notes: list[str] = []  # what a person should hear of how it was opened
        home.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._lock = _lock_of(home)
        uri = tracking_uri(home)
        with _reported(f"in {without_password(uri)}"), held(self._lock):
            if database := sqlite_path(uri):
                _open_database(database, uri, files=home / "mlruns")
            self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            self.experiment_id = self._experiment(uri)
            self._close_dead_runs()

    def _experiment(self, uri: str) -> str:
        name = f"ring/{self.recipe}"
        known = self.client.get_experiment_by_name(name)
        if known is None:
            place = None if is_server(uri) else (self._home / "mlruns" / self.recipe).as_uri()
            made = self.client.create_experiment(name, artifact_location=place)
            self.client.set_experiment_tag(made, NOTE, experiment_description(self.recipe))
            return made
        if known.artifact_location.startswith("mlflow-artifacts:") and not is_server(uri):
            raise TrackingError(
                f"the files of the experiment {name} in {without_password(uri)} are kept by a tracking server: "
                "set MLFLOW_TRACKING_URI to its address (http://host:5000)"
            )
        if known.lifecycle_stage != LifecycleStage.ACTIVE:
            self.client.restore_experiment(known.experiment_id)
            self.notes.append(
                f"the experiment {name} had been deleted in MLflow and is restored, with its runs, to record this one"
            )
        return known.experiment_id

    def _close_dead_runs(self) -> None:
        """Runs of any recipe that were made from this home: one database may serve several, on several machines."""
        experiments = self.client.search_experiments(filter_string="name LIKE 'ring/%'", max_results=1000)
        ids = [experiment.experiment_id for experiment in experiments]
        for run in self.client.search_runs(ids, "attributes.status = 'RUNNING'", max_results=10_000):
            is_ours = run.data.tags.get(HOME, place_of(self._home)) == place_of(self._home)
            stamp = run.data.tags.get(PROCESS, "")
            if is_ours and stamp != process_stamp(int(stamp.partition(":")[0] or 0)):
                _close(self.client, run.info.run_id, status="killed", error="the process that held the run open died")

    def _stamp(self) -> dict[str, str]:
        return {
            PROCESS: process_stamp(os.getpid()) or "",
            HOME: place_of(self._home),
            "mlflow.source.name": "ring",
            "mlflow.user": "ring",
        }

    def start_chain(self, name: str, *, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        """Open the run of a chain; returns its id."""
        with _reported("the chain in MLflow"):
            return self._create(name, tags=tags, params=params)

    def _create(
        self,
        name: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        datasets: Sequence[Table] = (),
        models: Sequence[Made] = (),
    ) -> str:
        run = self.client.create_run(
            self.experiment_id,
            run_name=name,
            tags={"ring.recipe": self.recipe, "ring.status": "running", **self._stamp(), **tags},
        )
        with _closed_on_failure(self.client, run.info.run_id):
            self._log_params(run.info.run_id, params)
            self._log_inputs(run.info.run_id, datasets=datasets, models=models)
        return run.info.run_id

    def _log_inputs(
        self, run_id: str, *, datasets: Sequence[Table], models: Sequence[Made], context: str = "input"
    ) -> None:
        used = [LoggedModelInput(model) for model in self._ids_of(models)]
        if datasets or used:
            with held(self._lock):
                self.client.log_inputs(run_id, [_dataset_input(*item, context=context) for item in datasets], used)

    def _ids_of(self, models: Sequence[Made]) -> list[str]:
        """Those that the records know: a result may have been made where other records are kept."""
        found = {manifest.place: _models_of(self.client, manifest.document["mlflow_run_id"]) for manifest, _ in models}
        return [found[manifest.place][name] for manifest, name in models if name in found[manifest.place]]

    def start_stage(
        self,
        name: str,
        *,
        parent: str,
        resume: str | None,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        datasets: Sequence[Table],
        models: Sequence[Made] = (),
    ) -> StageRun:
        """Open the run of a stage, or go on with the one that a kill left. `datasets` and `models` are what it reads."""
        with _reported(f"the stage {name} in MLflow"):
            if resume and self._known(resume):
                return self._continue(resume, parent=parent)
            stage_tags = {PARENT: parent, **tags}
            run_id = self._create(name, tags=stage_tags, params=params, datasets=datasets, models=models)
        return StageRun(self.client, self.experiment_id, run_id, self._home)

    def _known(self, run_id: str) -> bool:
        """Whether a stage can go on in a run: it is there, was not deleted, and belongs to this recipe."""
        run = self._find(run_id)
        return run is not None and run.info.experiment_id == self.experiment_id

    def knows(self, run_id: str) -> bool:
        """Whether a run is there and was not deleted."""
        with _reported("in the records of the chain"):
            return self._find(run_id) is not None

    def close_lost(self, chain_run: str, *, fingerprint: str, why: str) -> None:
        """Close what a machine left open that was lost with a stage."""
        left = f"attributes.status = 'RUNNING' AND tags.`{PARENT}` = '{chain_run}' AND tags.`ring.fingerprint` = '{fingerprint}'"
        with _reported("a stage whose machine was lost in MLflow"):
            for run in self.client.search_runs([self.experiment_id], left):
                _close(self.client, run.info.run_id, status="killed", error=why)

    def _find(self, run_id: str) -> Run | None:
        """None where the run was deleted, or the records are other ones."""
        run = find_run(self.client, run_id)
        return run if run is not None and run.info.lifecycle_stage == LifecycleStage.ACTIVE else None

    def _continue(self, run_id: str, *, parent: str) -> StageRun:
        """First say which process holds the run, then that it runs: else another chain's start would take it for dead."""
        for key, value in {PARENT: parent, **self._stamp(), "ring.status": "running"}.items():
            self.client.set_tag(run_id, key, value)
        with _closed_on_failure(self.client, run_id):
            _drop_error(self.client, run_id)
            self.client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
            return self._stage_run(run_id)

    def _stage_run(self, run_id: str) -> StageRun:
        run = self.client.get_run(run_id)
        steps = {
            name: max(metric.step for metric in self.client.get_metric_history(run_id, name))
            for name in run.data.metrics
            if not name.startswith(PREFIX)
        }
        began = run.info.start_time / 1000
        return StageRun(self.client, run.info.experiment_id, run_id, self._home, recorded=steps, began=began)

    def is_unfinished(self, manifest: Manifest) -> bool:
        """Whether the run that made a sealed result is there, but was cut short before its end was recorded."""
        with _reported("a cached stage in MLflow"):
            run = self._find(manifest.document["mlflow_run_id"])
        return run is not None and run.info.status != RunStatus.to_string(RunStatus.FINISHED)

    def finish_stage(self, manifest: Manifest) -> None:
        """Finish the run of a sealed result from its manifest. Call it under the result's lock."""
        with _reported("a cached stage in MLflow"):
            run = self._stage_run(manifest.document["mlflow_run_id"])
        run.finish(manifest)

    def link_cached(self, chain_run: str, *, stage: str, run_id: str | None, identity: str) -> None:
        """Point from the chain's run to the run that made a cached result."""
        with _reported("a cached stage in MLflow"):
            self.client.set_tag(chain_run, f"{CACHED}{stage}", json.dumps({"fingerprint": identity, "run_id": run_id}))

    def charts(self, metrics: Sequence[str], *, runs: Sequence[str]) -> dict[str, str]:
        """Metric -> address of MLflow's page that draws it for several runs on one chart, as far as the records know runs that have it.

        Addresses hold on every page of MLflow's, wherever it is served.
        """
        with _reported("what the runs of the chain have in MLflow"):
            found = [run for run_id in runs if (run := self._find(run_id))]
        shown = {name: [run for run in found if metric_name(name) in run.data.metrics] for name in metrics}
        return {name: _chart_address(metric_name(name), having) for name, having in shown.items() if having}

    def finish_chain(
        self, run_id: str, *, metrics: Mapping[str, float], files: Sequence[Path] = (), page: ChainPage | None = None
    ) -> None:
        """Record the chain's results (the first numbers of the last table, under the same names) and close its run."""
        now = int(time.time() * 1000)
        entries = [Metric(metric_name(name), float(value), now, 0) for name, value in metrics.items()]
        with _reported("the chain's results in MLflow"):
            for start in range(0, len(entries), METRICS_PER_CALL):
                self.client.log_batch(run_id, metrics=entries[start : start + METRICS_PER_CALL])
            for path in files:
                self.client.log_artifact(run_id, str(path))
            if page is not None:
                self._show(run_id, page)
            self.client.set_tag(run_id, "ring.status", "done")
            self.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))

    def _show(self, run_id: str, page: ChainPage) -> None:
        for name, value in {NOTE: page.description, **page.tags}.items():
            self.client.set_tag(run_id, name, value)
        if page.suffix:
            name = self.client.get_run(run_id).info.run_name
            self.client.update_run(run_id, name=f"{name} {page.suffix}")
        for context, datasets in page.datasets.items():
            self._log_inputs(run_id, datasets=datasets, models=(), context=context)
        _link_models(self.client, run_id, self._ids_of([*page.models.values()]), step=0)
        for model, scores in page.scores.items():
            for identity in self._ids_of([page.models[model]] if model in page.models else []):
                self.client.set_logged_model_tags(identity, {metric_name(name): text for name, text in scores.items()})

    def fail_chain(self, run_id: str, error: BaseException) -> None:
        """Close the run of a chain that failed, or that a person stopped."""
        with _reported("a failed chain in MLflow"):
            _close(self.client, run_id, status=_status(error), error=_described(error))

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        entries = [Param(key, str(value)[:6000]) for key, value in params.items()]
        for start in range(0, len(entries), PARAMS_PER_CALL):
            self.client.log_batch(
                run_id,
                params=entries[start : start + PARAMS_PER_CALL],
                tags=[RunTag("ring.num_params", str(len(entries)))],
            )


def _open_database(database: Path, uri: str, *, files: Path) -> None:
    """Make the database, or see that it can be written: MLflow tries for 100 s before it gives up (measured); this tells at once.

    MLflow gives a new one an experiment 0 with files below the folder where the command runs, whose name it does not quote.
    """
    is_new = not database.exists()
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE ring_probe (x)")
            connection.rollback()
    except sqlite3.Error as error:
        raise OSError(f"{database}: {error}") from error
    if is_new:
        SqlAlchemyStore(uri, files.as_uri())


def _drop_error(client: MlflowClient, run_id: str) -> None:
    if "ring.error" in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, "ring.error")


def recorded_metrics(manifest: Manifest) -> dict[str, float]:
    """What the run of a stage shows at its end: metrics and timings of the manifest, and of an evaluation the ends of every interval."""
    document = manifest.document
    timings = {f"time/{name}": value for name, value in document["timings"].items()}
    has_intervals = manifest.stage == "evaluation" and RESULTS in document["files"]
    return {**document["metrics"], **timings, **(interval_metrics(manifest) if has_intervals else {})}


def _lock_of(home: Path) -> Path:
    return home / "mlflow.lock"


def _models_of(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Folder -> id of each model that a run made; none where the records do not know it."""
    run = find_run(client, run_id)
    if run is None:
        return {}
    made = client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'", max_results=_MODELS_OF_RUN
    )
    return {Path(model.tags["ring.folder"]).name: model.model_id for model in made if "ring.folder" in model.tags}


def _link_models(client: MlflowClient, run_id: str, models: Iterable[str], *, step: int) -> None:
    """Show models on the page of a run; those that are there already stay."""
    outputs = client.get_run(run_id).outputs
    there = {model.model_id for model in outputs.model_outputs} if outputs else set()
    if new := [LoggedModelOutput(model, step) for model in models if model not in there]:
        client.log_outputs(run_id, new)


def _chart_address(metric: str, runs: Sequence[Run]) -> str:
    query = {
        "runs": [run.info.run_id for run in runs],
        "experiments": sorted({run.info.experiment_id for run in runs}),
        "metric": metric,
        "plot_metric_keys": [metric],
    }
    texts = {name: json.dumps(value, separators=(",", ":")) for name, value in query.items()}
    return f"#/metric?{urlencode({**texts, 'x_axis': 'step'}, quote_via=quote)}"


def _dataset_input(name: str, path: Path, sha256: str, *, context: str = "input") -> DatasetInput:
    """MLflow's own digest ignores rows past 10 000, so ours is given: its column holds 36 characters, the tag all 64."""
    dataset = Dataset(name=name, digest=sha256[:36], source_type="local", source=json.dumps({"uri": str(path)}))
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", context), InputTag("sha256", sha256)])


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    return {key: [row.get(key) for row in rows] for key in rows[0]}
