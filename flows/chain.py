"""WHEN things run: the whole pipeline, and a single stage of it, as Prefect flows.

`full_chain` is what `ring run` and `prefect deployment run full-chain/<recipe>` execute; `stage` is
`prefect deployment run stage/<recipe> -p stage=rl`.
"""

import contextlib
import json
import threading
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.context import FlowRunContext
from prefect.exceptions import CancelledRun
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import ThreadPoolTaskRunner

from flows.chain_page import chain_page
from flows.forecast import forecast, in_words
from flows.launch import Chain, Display, Result
from flows.placement import require_pools
from flows.request import Plan, Request, plan_request
from flows.stage_task import StageCall, submit
from flows.terminal import active_display
from stages.config import STAGES, Runtime, StageName
from stages.errors import StoppedError, TrackingError
from stages.plan import PlannedStage, kept_results, outdated, plan_chain
from stages.recipe import flatten
from stages.records.artifact import Store, file_digest, open_store, ring_home
from stages.records.browsing import run_name
from stages.records.machine import elsewhere_line, machine_kind, made_elsewhere
from stages.records.provenance import code_version
from stages.records.reference import compare, read_reference
from stages.records.run_ledger import FAILED, FINISHED, STOPPED
from stages.records.tracking import Tracker
from stages.results import chain_metrics, chain_results, publish_report

_MOST_OF_ERROR = 500  # characters of an error in the ledger of runs
MAX_PARALLEL = 8  # threads that wait for stages; `runtime.parallel_arms` says how many stages work at once


@flow(  # ty: ignore[no-matching-overload] - the runner is generic in what it returns
    name="full-chain",
    flow_run_name="{recipe}",
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_PARALLEL),
    validate_parameters=True,
    retries=0,
)
def full_chain(
    recipe: str,
    until: StageName | None = None,
    rerun: StageName | None = None,
    arm: str | None = None,
    overrides: list[str] | None = None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """The whole chain of a recipe; finished stages are answered from the cache. Returns what `ring run --json` prints."""
    request = Request(
        recipe=recipe,
        until=until,
        rerun=rerun,
        arm=arm,
        overrides=tuple(overrides or ()),
        data_dir=Path(data_dir) if data_dir else None,
    )
    return run_request(request, display=active_display())


@flow(  # ty: ignore[no-matching-overload] - the runner is generic in what it returns
    name="stage",
    flow_run_name="{recipe} {stage}",
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_PARALLEL),
    validate_parameters=True,
    retries=0,
)
def single_stage(recipe: str, stage: StageName, arm: str | None = None, data_dir: str | None = None) -> dict[str, Any]:
    """Rerun one stage (of RL: one arm, or all), taking what it needs from the cache; says which later stages are out of date."""
    request = Request(recipe=recipe, until=stage, rerun=stage, arm=arm, data_dir=Path(data_dir) if data_dir else None)
    return run_request(request, display=active_display())


def run_request(request: Request, *, display: Display) -> dict[str, Any]:
    """Plan the chain, run its stages, record its results."""
    started = time.monotonic()
    plan = plan_request(request)
    recipe = plan.resolved.recipe
    asked = {"request.until": request.until, "request.rerun": request.rerun, "request.overrides": request.overrides}
    chain = open_chain(
        plan.specs,
        name=recipe.name,
        runtime=recipe.runtime,
        params={**flatten(recipe), **asked},
        rerun=_reruns(plan),
        display=display,
        changed=request.overrides,
    )
    with recorded(chain):
        with _foretold(plan, chain=chain):
            results = run_stages(plan.specs, rerun=_reruns(plan), chain=chain)
        document = _document(plan, results, chain=chain, started=started)
        metrics = chain_metrics({key: result.manifest for key, result in results.items()})
        finish(chain, results, metrics=metrics, files=[Path(document["report"])])
    for line in document["reference"]:
        display.message("reference", line)
    _announce_outdated(plan, chain=chain)
    return document


@contextlib.contextmanager
def recorded(chain: Chain) -> Generator[None]:
    """Around what a run does: when it fails or is stopped, its records and the ledger of runs say so."""
    try:
        with chain.ledger.going_on(chain.run_id):
            yield
    except BaseException as error:
        chain.is_stopped.set()
        is_stopped = not isinstance(error, Exception) or isinstance(error, StoppedError)
        if not isinstance(error, Exception):
            chain.display.message("chain", _what_stopped(chain))
        with contextlib.suppress(OSError):  # what went wrong first is what a person should read, as a full disk
            chain.ledger.end(chain.run_id, outcome=STOPPED if is_stopped else FAILED, error=str(error)[:_MOST_OF_ERROR])
        with contextlib.suppress(TrackingError):
            chain.tracker.fail_chain(chain.run_id, error)
        raise


def finish(chain: Chain, results: Mapping[str, Result], *, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
    """Close the records of a run that did what it was asked: its numbers, and in the ledger the seals of its results and its pages."""
    page = chain_page(chain.specs, results, changed=chain.changed, files=files, tracker=chain.tracker)
    chain.tracker.finish_chain(chain.run_id, metrics=dict(metrics), files=list(files), page=page)
    seals = {key: result.manifest.document["seal"] for key, result in results.items()}
    ran = sum(result.status != "cached" for result in results.values())
    pages = {path.name: file_digest(path) for path in files}
    chain.ledger.end(chain.run_id, outcome=FINISHED, seals=seals, ran=ran, pages=pages)


@contextlib.contextmanager
def _foretold(plan: Plan, *, chain: Chain) -> Generator[None]:
    """Beside the chain: say how long it will take, then every second what is left. Nothing where all is there already."""
    stale = outdated(plan.specs, store=chain.store)
    rerun = _reruns(plan)
    todo = [spec for spec in plan.specs if spec.key in stale or spec.key in rerun]
    is_over = threading.Event()

    def tell() -> None:
        known = forecast(todo, recipe=plan.resolved.recipe, store=chain.store, is_over=is_over)
        if not is_over.is_set():
            chain.display.message("chain", in_words(known, plan.specs, places=chain.runtime.parallel_arms))
        chain.countdown.expect(known)
        while not is_over.wait(1.0):
            chain.display.outlook(chain.countdown.left())

    teller = threading.Thread(target=tell, name="forecast", daemon=True)
    if todo:
        teller.start()
    try:
        yield
    finally:
        is_over.set()
        if todo:
            teller.join()


def _what_stopped(chain: Chain) -> str:
    if not chain.building:
        return "stopped; what was finished is kept, and the same command goes on from there"
    titles = ", ".join(sorted(chain.building.values()))
    return (
        f"stopped: {titles}. What is half built is kept: the same command goes on from the last checkpoint, "
        f"which is made every {chain.runtime.checkpoint_seconds:g} s"
    )


def open_chain(
    specs: Sequence[PlannedStage],
    *,
    name: str,
    runtime: Runtime,
    params: Mapping[str, Any],
    rerun: Collection[str],
    display: Display,
    changed: Sequence[str] = (),
) -> Chain:
    """Open the home folder and the run in MLflow of what is to be done, under the experiment `name`.

    `rerun` are keys of stages, `changed` what `--set` says. Raises ValueError for a work pool that is not there.
    """
    require_pools(specs, runtime)
    home = ring_home()
    store = open_store(home)
    store.root.mkdir(parents=True, exist_ok=True)
    context = FlowRunContext.get()
    flow_run = str(context.flow_run.id) if context and context.flow_run else None
    tracker = Tracker(home, name)
    for note in tracker.notes:
        display.message("records", note)
    here = machine_kind(runtime.device)
    elsewhere = _kept_elsewhere(specs, rerun=rerun, store=store, here=here)
    title = run_name(name, changed=changed, at=time.strftime("%Y-%m-%d %H:%M"))
    tags = {"ring.prefect_flow_run": flow_run or "", "ring.machine": here, "ring.made_elsewhere": json.dumps(elsewhere)}
    run_id = tracker.start_chain(title, tags=tags, params=params)
    if elsewhere:
        display.message("machine", elsewhere_line(elsewhere, here=here))
    chain = Chain(
        specs,
        store=store,
        tracker=tracker,
        run_id=run_id,
        runtime=runtime,
        display=display,
        prefect_run=flow_run,
        changed=changed,
    )
    chain.ledger.start(
        run_id,
        recipe=name,
        fingerprints={spec.key: spec.fingerprint for spec in specs},
        rerun=sorted(rerun),
        commit=code_version()["commit"],
        dirty=code_version()["dirty"],
        machine=here,
    )
    return chain


def _kept_elsewhere(
    specs: Sequence[PlannedStage], *, rerun: Collection[str], store: Store, here: str
) -> dict[str, str]:
    """Stages whose result this run takes as it stands and another kind of machine made, with that kind."""
    kept = kept_results(specs, store=store)
    return made_elsewhere({key: one.document for key, one in kept.items() if key not in rerun}, here=here)


def run_stages(specs: Sequence[PlannedStage], *, rerun: Collection[str], chain: Chain) -> dict[str, Result]:
    """Submit each stage as soon as its inputs are there; stages that do not need each other run side by side."""
    calls: dict[str, StageCall] = {}
    futures: dict[str, PrefectFuture[str]] = {}
    for spec in specs:
        upstream = [futures[key] for key in spec.inputs]
        _await(upstream)
        calls[spec.key] = StageCall(spec=spec, chain=chain, rerun=spec.key in rerun)
        futures[spec.key] = submit(calls[spec.key], upstream=upstream)
    _await(list(futures.values()))
    return {key: _finish(call) for key, call in calls.items()}


def _await(futures: list[PrefectFuture[str]]) -> None:
    """Wait for all; the first failure is raised as it is. Raises StoppedError for a stage that a person stopped."""
    wait(futures)
    for future in futures:
        try:
            future.result()
        except CancelledRun as error:
            raise StoppedError(str(error)) from error


def _reruns(plan: Plan) -> set[str]:
    """Keys of the stages that are asked to run although their results are there."""
    request = plan.request
    return {spec.key for spec in plan.specs if spec.stage == request.rerun and request.arm in (None, spec.arm)}


def _finish(call: StageCall) -> Result:
    """The stage's result; where Prefect answered from its cache the body did not run, and the sealed artifact is the result."""
    spec, chain = call.spec, call.chain
    if call.result is None:
        call.result = Result(manifest=chain.manifest(spec.key), status="cached", seconds=0.0)
    if call.result.status == "cached":
        chain.tracker.link_cached(
            chain.run_id,
            stage=spec.key,
            run_id=call.result.manifest.document["mlflow_run_id"],
            identity=spec.fingerprint,
        )
    return call.result


def _document(plan: Plan, results: dict[str, Result], *, chain: Chain, started: float) -> dict[str, Any]:
    manifests = {key: result.manifest for key, result in results.items()}
    recipe, here = plan.resolved.recipe, machine_kind(chain.runtime.device)
    title = f"{recipe.report.title}: {recipe.name}"
    report = publish_report(manifests, title=title, home=chain.store.home, chain=chain.run_id)
    stages = [
        {
            "stage": spec.stage,
            "arm": spec.arm,
            "fingerprint": spec.fingerprint,
            "status": results[spec.key].status,
            "seconds": results[spec.key].seconds,
            "waited_seconds": results[spec.key].waited_seconds,
            "artifact": str(results[spec.key].manifest.folder),
            "metrics": results[spec.key].manifest.metrics,
        }
        for spec in plan.specs
    ]
    return {
        "recipe": recipe.name,
        "chain": chain.run_id,
        "seconds": time.monotonic() - started,
        "mlflow_run_id": chain.run_id,
        "report": str(report),
        "stages": stages,
        "results": chain_results(manifests),
        "machine": here,
        "made_elsewhere": made_elsewhere({key: one.document for key, one in manifests.items()}, here=here),
        "reference": compare(manifests, recipe=recipe.name, seed=recipe.seed, kind=here, entries=read_reference()),
    }


def _announce_outdated(plan: Plan, *, chain: Chain) -> None:
    """After a chain that stops early: which later stages no longer follow from what stands there, or that all do."""
    request, recipe = plan.request, plan.resolved.recipe
    if request.until is None:
        return
    if STAGES.index(request.until) >= STAGES.index(recipe.until):
        chain.display.message(request.until, "nothing comes after it")
        return
    try:
        specs = plan_chain(recipe, data_dir=request.data_dir)
    except ValueError as error:
        chain.display.message(request.until, f"what comes later cannot be planned yet: {error}")
        return
    stale = outdated(specs, store=chain.store)
    later = [spec for spec in specs if STAGES.index(spec.stage) > STAGES.index(request.until) and spec.key in stale]
    chain.display.message(
        request.until,
        f"out of date or not made yet: {', '.join(spec.title for spec in later)}; "
        f"`ring run {request.recipe}` brings them up to date"
        if later
        else "nothing is out of date after it",
    )
