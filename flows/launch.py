"""Make sure of a stage's result: take the one that stands there, or run the stage in a process of its own and seal what it made."""

import contextlib
import importlib.util
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flows.forecast import Countdown
from flows.slots import Slots
from flows.worker_process import Work, run_worker
from stages.config import RlArm, RlConfig, Runtime
from stages.errors import StageError, StoppedError, TrackingError
from stages.local_files import DATA_DIR, PROBLEMS, STANDINGS, TRAINED_ON
from stages.plan import PlannedStage, damage_of, input_contents, up_to_date
from stages.recipe import flatten
from stages.records.artifact import Manifest, Store
from stages.records.browsing import tables_read
from stages.records.code_digest import module_digests
from stages.records.provenance import code_version, hardware, package_versions
from stages.records.run_ledger import RunLedger
from stages.records.tracking import TIME_FORMAT, StageRun, Tracker
from stages.sampling.prompting import MODEL, start_model
from stages.stage import STATE
from stages.training.checkpoints import checkpoint_folders
from stages.worker import RECORD

_RUN_ID = "mlflow_run_id"
_POLL_SECONDS = 0.05
logger = logging.getLogger("ring")


class Display(Protocol):
    """Where progress is shown."""

    def progress(self, key: str, *, done: int, total: int, unit: str, detail: str) -> None:
        """`done` of `total` units."""

    def message(self, key: str, text: str) -> None:
        """One line for people."""

    def outlook(self, text: str) -> None:
        """What is left of the whole chain; told every second."""


@dataclass(frozen=True, slots=True)
class Result:
    """A stage of a chain, done: its manifest and how it came about (`ran`, `cached`, `resumed`)."""

    manifest: Manifest
    status: str
    seconds: float
    waited_seconds: float = 0.0  # for another run that built the same result


class Chain:
    """What all stages of one chain share. A plain class: Prefect looks into dataclasses, and must not look into this."""

    def __init__(
        self,
        specs: Sequence[PlannedStage],
        *,
        store: Store,
        tracker: Tracker,
        run_id: str,
        runtime: Runtime,
        display: Display,
        prefect_run: str | None,
        changed: Sequence[str] = (),
    ) -> None:
        self.store = store
        self.tracker = tracker
        self.run_id = run_id
        self.runtime = runtime
        self.display = display
        self.prefect_run = prefect_run
        self.changed = tuple(changed)  # what `--set` says
        self.ledger = RunLedger(store.home)
        self.specs = {spec.key: spec for spec in specs}
        self.countdown = Countdown(specs, places=runtime.parallel_arms)
        self.slots = Slots(runtime.parallel_arms)
        self.is_stopped = threading.Event()  # set when the chain ends before its stages do
        self.building: dict[str, str] = {}  # key -> title of each stage whose process runs

    def require_going(self, title: str) -> None:
        """Raises StoppedError where the chain has ended before its stages."""
        if self.is_stopped.is_set():
            raise StoppedError(f"{title} was stopped; the same command goes on from its last checkpoint")

    def manifest(self, key: str) -> Manifest:
        """The sealed result of a stage that has been made sure of. Raises StageError where it vanished."""
        spec = self.specs[key]
        manifest = self.store.find(spec.stage, spec.fingerprint)
        if manifest is None:
            raise StageError(f"the result of {spec.title} vanished while the chain ran", is_user_mistake=False)
        return manifest


def why_build(spec: PlannedStage, *, store: Store) -> str | None:
    """None where a sealed result stands there, every byte of it as its manifest says, made from the inputs that stand there now."""
    if damage := damage_of(spec, store=store, reads_all=False):
        return f"the result {spec.fingerprint[:12]} is damaged and is built again: {damage}"
    if store.find(spec.stage, spec.fingerprint) is None:
        return "not made yet"
    if not up_to_date(spec, store=store):
        return f"the result {spec.fingerprint[:12]} was made from other bytes than its inputs hold now: built again"
    return None


def is_settled(spec: PlannedStage, *, chain: Chain) -> bool:
    """Whether nothing is left to do: the result is valid, and so is its record, which a kill may have cut short."""
    return why_build(spec, store=chain.store) is None and not chain.tracker.is_unfinished(chain.manifest(spec.key))


def ensure(
    spec: PlannedStage, *, inputs: Mapping[str, Manifest], chain: Chain, rerun: bool, goes_on: bool = False
) -> Result:
    """The stage's result: the one that stands there and verifies, or a new one. One builder at a time per result.

    A rerun starts from the beginning: what was half built is forgotten, unless it `goes_on` where the same rerun was cut short.
    """
    chain.require_going(spec.title)
    with contextlib.ExitStack() as stack:
        waited = stack.enter_context(_alone(spec, chain=chain))
        stack.callback(chain.countdown.end, spec.key)
        started = time.monotonic()
        if not rerun and is_settled(spec, chain=chain):
            return Result(chain.manifest(spec.key), "cached", time.monotonic() - started, waited)
        waited += stack.enter_context(_alone_in_the_store(spec, chain=chain))
        reason = "made again, as asked" if rerun else _why_build_here(spec, chain=chain)
        if reason is None:
            manifest = chain.manifest(spec.key)
            if chain.tracker.is_unfinished(manifest):
                chain.tracker.finish_stage(manifest)
            return Result(manifest, "cached", time.monotonic() - started, waited)
        chain.display.message(spec.key, f"starting: {reason}")
        partial = chain.store.prepare(spec.stage, spec.fingerprint, afresh=rerun and not goes_on)
        return _build(spec, partial=partial, inputs=inputs, chain=chain, started=started)


def _why_build_here(spec: PlannedStage, *, chain: Chain) -> str | None:
    """`why_build`, once a result that is whole on this machine and not in the remote store was brought there."""
    reason = why_build(spec, store=chain.store)
    if reason and chain.store.deliver(spec.stage, spec.fingerprint):
        chain.display.message(spec.key, "uploaded from this machine, where it is whole")
        return why_build(spec, store=chain.store)
    return reason


def _alone(spec: PlannedStage, *, chain: Chain) -> contextlib.AbstractContextManager[float]:
    """Hold the result's lock on this machine; yields the seconds that another run had it."""
    return _waiting(spec, chain.store.lock, chain=chain, other="run")


def _alone_in_the_store(spec: PlannedStage, *, chain: Chain) -> contextlib.AbstractContextManager[float]:
    """Be the one machine that builds the result; yields the seconds that another one did."""
    return _waiting(spec, chain.store.claim, chain=chain, other="machine")


@contextlib.contextmanager
def _waiting(spec: PlannedStage, lock: Callable[..., Any], *, chain: Chain, other: str) -> Generator[float]:
    """Hold a lock of the result. Say that another has it, and wait as long as this chain goes on."""
    began = time.monotonic()
    said = False

    def wait() -> None:
        nonlocal said
        if not said:
            chain.display.message(spec.key, f"waiting for another {other} that builds the same result")
        said = True
        chain.require_going(spec.title)
        time.sleep(_POLL_SECONDS)

    with lock(spec.stage, spec.fingerprint, meanwhile=wait):
        waited = time.monotonic() - began if said else 0.0
        if said:
            chain.display.message(spec.key, f"waited {waited:.0f} s for another {other}")
        yield waited


def _build(
    spec: PlannedStage, *, partial: Path, inputs: Mapping[str, Manifest], chain: Chain, started: float
) -> Result:
    before = chain.store.find(spec.stage, spec.fingerprint)
    run = _open_run(spec, partial=partial, inputs=inputs, chain=chain)
    chain.building[spec.key] = spec.title
    chain.countdown.begin(spec.key)
    try:
        (partial / STATE / _RUN_ID).write_text(run.run_id, encoding="utf-8")
        was_resumed = _run_child(spec, partial=partial, inputs=inputs, chain=chain, run=run)
        manifest = _seal(
            spec, partial=partial, inputs=inputs, chain=chain, run=run, started=started, was_resumed=was_resumed
        )
        run.finish(manifest)
    except BaseException as error:
        with contextlib.suppress(TrackingError):  # what went wrong first is what a person should read
            run.fail(error)
        raise
    del chain.building[spec.key]
    if before is not None:
        same = before.content == manifest.content
        chain.display.message(
            spec.key,
            "reproduced byte for byte"
            if same
            else "the new result differs from the one before; what follows is out of date",
        )
    return Result(manifest=manifest, status=manifest.document["status"], seconds=manifest.document["seconds"])


def _open_run(spec: PlannedStage, *, partial: Path, inputs: Mapping[str, Manifest], chain: Chain) -> StageRun:
    """The stage's MLflow run; its id is kept with the resume state, so that a killed stage goes on in the same run."""
    note = partial / STATE / _RUN_ID
    return chain.tracker.start_stage(
        spec.title,
        parent=chain.run_id,
        resume=note.read_text(encoding="utf-8") if note.exists() else None,
        tags={
            "ring.stage": spec.stage,
            "ring.arm": spec.arm or "",
            "ring.fingerprint": spec.fingerprint,
            "ring.prefect_flow_run": chain.prefect_run or "",
        },
        params=flatten(spec.config, prefix=f"{spec.stage}."),
        datasets=datasets_of(spec, inputs),
        models=_models(spec, inputs),
    )


def datasets_of(spec: PlannedStage, inputs: Mapping[str, Manifest]) -> list[tuple[str, Path, str]]:
    """Name, file and sha256 of every table that the stage reads, from earlier stages and from outside."""
    sealed = [
        (key, manifest.place, name, sha256)
        for key, manifest in inputs.items()
        for name, sha256 in tables_read(spec.module, key, manifest).items()
    ]
    outside = [
        (key, data.folder, name, sha256)
        for key, data in spec.data.items()
        if key in (DATA_DIR, PROBLEMS) or key.startswith("source/")
        for name, sha256 in data.files.items()
    ]
    return [
        (f"{key}/{name.removesuffix('.parquet')}", folder / name, sha256)
        for key, folder, name, sha256 in sealed + outside
    ]


def _models(spec: PlannedStage, inputs: Mapping[str, Manifest]) -> list[tuple[Manifest, str]]:
    """The models that the stage reads, of earlier stages: of selection every checkpoint, after it the one that is started from."""
    arms = [(manifest, MODEL) for key, manifest in inputs.items() if manifest.stage == "rl"]
    if spec.stage == "selection":
        return [(inputs["sft"], path.name) for path in checkpoint_folders(inputs["sft"].folder)]
    if spec.stage in ("rl", "evaluation") and "selection" in inputs:
        arm = spec.config.arms[0] if isinstance(spec.config, RlConfig) else None
        start = arm.start if isinstance(arm, RlArm) else None
        folders = {key: manifest.folder for key, manifest in inputs.items()}
        return [(inputs["sft"], start_model(folders, start).name), *arms]
    return [(inputs["base"], MODEL)] if spec.stage == "sft" else []


def _run_child(
    spec: PlannedStage, *, partial: Path, inputs: Mapping[str, Manifest], chain: Chain, run: StageRun
) -> bool:
    """Start the worker and follow it to its end; returns whether the stage resumed. Raises StageError when it failed."""
    work = Work(
        title=spec.title,
        program=_program(spec, chain.runtime),
        job=job_of(spec, partial=partial, inputs=inputs, runtime=chain.runtime),
        log=chain.store.home / "logs" / f"{spec.stage}-{spec.fingerprint[:12]}.log",
    )

    def meanwhile(pid: int) -> None:
        chain.require_going(spec.title)
        if told := run.watch(pid, device=chain.runtime.device):
            chain.display.message(spec.key, told)

    return run_worker(work, tell=lambda event: _handle(event, spec=spec, chain=chain, run=run), meanwhile=meanwhile)


def _program(spec: PlannedStage, runtime: Runtime) -> str:
    """The module that runs the stage. Raises StageError where curation shall run on a cluster and the extra for it is missing."""
    if spec.stage != "curation" or not runtime.dask_address:
        return "stages.worker"
    if importlib.util.find_spec("prefect_dask") is None:
        raise StageError(
            "runtime.dask_address needs the extra `cluster`: pip install -e '.[cluster]' -c constraints.txt",
            is_user_mistake=True,
        )
    return "flows.shards"


def job_of(spec: PlannedStage, *, partial: Path, inputs: Mapping[str, Manifest], runtime: Runtime) -> dict[str, Any]:
    """What the worker reads, but where its events go (`stages.worker`)."""
    folders = {key: str(_input_folder(spec, manifest)) for key, manifest in inputs.items()}
    given = (DATA_DIR, PROBLEMS, STANDINGS, TRAINED_ON)
    folders |= {name: str(item.path) for name, item in spec.data.items() if name in given}
    return {
        "stage": spec.stage,
        "module": spec.module,
        "config": spec.config.model_dump(mode="json"),
        "inputs": folders,
        "runtime": runtime.model_dump(mode="json"),
        "ranks": spec.ranks,
        "out": str(partial),
        "parent": os.getpid(),
    }


def _input_folder(spec: PlannedStage, manifest: Manifest) -> Path:
    """A report opens no model."""
    return manifest.folder_of_responses if spec.stage == "report" else manifest.whole_folder


def _handle(event: Mapping[str, Any], *, spec: PlannedStage, chain: Chain, run: StageRun) -> None:
    if event["event"] == "metrics":
        run.metrics(event["step"], event["values"])
    elif event["event"] == "progress":
        chain.countdown.progress(spec.key, done=event["done"], total=event["total"], unit=event["unit"])
        chain.display.progress(
            spec.key, done=event["done"], total=event["total"], unit=event["unit"], detail=event["detail"]
        )
    else:
        chain.display.message(spec.key, event["text"])
        logger.info("%s: %s", spec.title, event["text"])


def _seal(
    spec: PlannedStage,
    *,
    partial: Path,
    inputs: Mapping[str, Manifest],
    chain: Chain,
    run: StageRun,
    started: float,
    was_resumed: bool,
) -> Manifest:
    record = json.loads((partial / STATE / RECORD).read_text(encoding="utf-8"))
    document = {
        "payload": spec.payload,
        "inputs": input_contents(spec, inputs),
        "metrics": record["metrics"],
        "notes": record["notes"],
        "timings": record["timings"],
        "seconds": time.monotonic() - started,
        "status": "resumed" if was_resumed else "ran",
        "runtime": chain.runtime.model_dump(mode="json"),
        "ranks": spec.ranks,
        "code": code_version(),
        "modules": module_digests(spec.module),
        "packages": package_versions(),
        "hardware": {**hardware(device=chain.runtime.device), "arithmetic": record["arithmetic"]},
        "mlflow_run_id": run.run_id,
        "prefect_flow_run_id": chain.prefect_run,
        "made_at": time.strftime(TIME_FORMAT, time.gmtime()),
        "recipe": chain.tracker.recipe,
    }
    return chain.store.seal(stage=spec.stage, identity=spec.fingerprint, document=document)
