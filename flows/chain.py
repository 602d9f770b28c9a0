"""WHEN things run: the whole pipeline, and a single stage of it, as Prefect flows.

`full_chain` is what `ring run` and `prefect deployment run full-chain/<recipe>` execute; `stage` is
`prefect deployment run stage/<recipe> -p stage=rl`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import ThreadPoolTaskRunner

from flows.launch import Chain, Display, Result
from flows.stage_task import StageCall, submit
from flows.terminal import active_display
from stages.artifact import Store, ring_home
from stages.config import STAGES, StageName
from stages.plan import PlannedStage, plan_chain, up_to_date
from stages.recipe import ResolvedRecipe, flatten, load_recipe
from stages.results import chain_results, publish_report
from stages.tracking import Tracker

MAX_PARALLEL = 8  # threads that wait for stages; `runtime.parallel_arms` says how many stages work at once


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks of a chain."""

    recipe: str
    until: StageName | None = None
    rerun: StageName | None = None
    arm: str | None = None
    overrides: tuple[str, ...] = ()
    data_dir: Path | None = None


@flow(  # ty: ignore[no-matching-overload] - the runner is generic in what it returns
    name="full-chain",
    flow_run_name="{recipe}",
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_PARALLEL),
    validate_parameters=True,
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
)
def single_stage(recipe: str, stage: StageName, arm: str | None = None, data_dir: str | None = None) -> dict[str, Any]:
    """Rerun one stage (of RL: one arm, or all), taking what it needs from the cache; says which later stages are out of date."""
    request = Request(recipe=recipe, until=stage, rerun=stage, arm=arm, data_dir=Path(data_dir) if data_dir else None)
    return run_request(request, display=active_display())


def run_request(request: Request, *, display: Display) -> dict[str, Any]:
    """Plan the chain, run its stages, record its results."""
    started = time.monotonic()
    resolved = load_recipe(request.recipe, overrides=request.overrides)
    specs = plan_chain(resolved.recipe, until=request.until, data_dir=request.data_dir)
    chain = open_chain(resolved, specs, request, display=display)
    try:
        results = run_stages(specs, request, chain=chain)
        document = _document(resolved, specs, results, chain=chain, started=started)
    except BaseException as error:
        chain.tracker.finish_chain(chain.run_id, status=f"failed: {error}"[:400], metrics={})
        raise
    report = [Path(document["report"])] if document["report"] else []
    chain.tracker.finish_chain(chain.run_id, status="done", metrics=_flat_results(document["results"]), files=report)
    _announce_outdated(resolved, request, chain=chain)
    return document


def open_chain(resolved: ResolvedRecipe, specs: Sequence[PlannedStage], request: Request, *, display: Display) -> Chain:
    """Open the home folder and the chain's run in MLflow."""
    home = ring_home()
    store = Store(home)
    store.root.mkdir(parents=True, exist_ok=True)
    context = FlowRunContext.get()
    flow_run = str(context.flow_run.id) if context and context.flow_run else None
    tracker = Tracker(home, resolved.recipe.name)
    name = f"{resolved.recipe.name} {time.strftime('%Y-%m-%d %H:%M')} {(flow_run or '--------')[:8]}"
    params = {
        **flatten(resolved.recipe),
        "request.until": request.until,
        "request.rerun": request.rerun,
        "request.overrides": request.overrides,
    }
    run_id = tracker.start_chain(name, tags={"ring.prefect_flow_run": flow_run or ""}, params=params)
    return Chain(
        specs,
        store=store,
        tracker=tracker,
        run_id=run_id,
        runtime=resolved.recipe.runtime,
        display=display,
        prefect_run=flow_run,
    )


def run_stages(specs: Sequence[PlannedStage], request: Request, *, chain: Chain) -> dict[str, Result]:
    """Submit each stage as soon as its inputs are there; stages that do not need each other run side by side."""
    calls: dict[str, StageCall] = {}
    futures: dict[str, PrefectFuture[str]] = {}
    for spec in specs:
        upstream = [futures[key] for key in spec.inputs]
        _await(upstream)
        calls[spec.key] = StageCall(spec=spec, chain=chain, rerun=_is_rerun(spec, request))
        futures[spec.key] = submit(calls[spec.key], upstream=upstream)
    _await(list(futures.values()))
    return {key: _finish(call) for key, call in calls.items()}


def _await(futures: list[PrefectFuture[str]]) -> None:
    """Wait for all; the first failure is raised as it is."""
    wait(futures)
    for future in futures:
        future.result()


def _is_rerun(spec: PlannedStage, request: Request) -> bool:
    return spec.stage == request.rerun and request.arm in (None, spec.arm)


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


def _document(
    resolved: ResolvedRecipe,
    specs: Sequence[PlannedStage],
    results: Mapping[str, Result],
    *,
    chain: Chain,
    started: float,
) -> dict[str, Any]:
    manifests = {key: result.manifest for key, result in results.items()}
    report = publish_report(manifests, home=chain.store.home, chain=chain.run_id)
    stages = [
        {
            "stage": spec.stage,
            "arm": spec.arm,
            "fingerprint": spec.fingerprint,
            "status": results[spec.key].status,
            "seconds": results[spec.key].seconds,
            "artifact": str(results[spec.key].manifest.folder),
            "metrics": results[spec.key].manifest.metrics,
        }
        for spec in specs
    ]
    return {
        "recipe": resolved.recipe.name,
        "chain": chain.run_id,
        "seconds": time.monotonic() - started,
        "mlflow_run_id": chain.run_id,
        "report": str(report) if report else None,
        "stages": stages,
        "results": chain_results(manifests),
    }


def _flat_results(results: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {name: entry["value"] for name, entry in results.items()}


def _announce_outdated(resolved: ResolvedRecipe, request: Request, *, chain: Chain) -> None:
    """After a single stage: which later stages no longer follow from what stands there."""
    if request.until in (None, "report"):
        return
    later = [
        spec
        for spec in plan_chain(resolved.recipe, data_dir=request.data_dir)
        if STAGES.index(spec.stage) > STAGES.index(request.until)
    ]
    outdated = [spec.title for spec in later if not up_to_date(spec, store=chain.store)]
    if outdated:
        chain.display.message(
            request.until,
            f"out of date or not made yet: {', '.join(outdated)}; `ring run {request.recipe}` brings them up to date",
        )
