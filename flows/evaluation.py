"""WHEN one model is evaluated on named benchmarks: `ring evaluate`, and `prefect deployment run evaluate/benchmarks -p model=...`."""

import json
import time
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.chain import finish, open_chain, recorded, run_stages
from flows.evaluation_request import EXPERIMENT, EvaluationPlan, plan_evaluation, request_of
from flows.launch import Display
from flows.terminal import active_display
from stages.recipe import flatten
from stages.records.machine import machine_kind
from stages.results import chain_metrics


@flow(  # ty: ignore[no-matching-overload] - the runner is generic in what it returns
    name="evaluate",
    flow_run_name="{model}",
    task_runner=ThreadPoolTaskRunner(max_workers=1),
    validate_parameters=True,
    retries=0,
)
def evaluate_model(
    model: str,
    benchmarks: list[str],
    samples: int | None = None,
    data_dir: str | None = None,
    recipe: str = EXPERIMENT,
    overrides: list[str] | None = None,
    another_version: bool = False,
    rerun: bool = False,
    problems: str | None = None,
    columns: dict[str, str] | None = None,
) -> dict[str, Any]:
    """One model on named benchmarks and problems of one's own; returns what `ring evaluate --json` prints."""
    request = request_of(
        model=model,
        benchmarks=benchmarks,
        samples=samples,
        data_dir=data_dir,
        recipe=recipe,
        overrides=overrides,
        another_version=another_version,
        rerun=rerun,
        problems=problems,
        columns=columns,
    )
    return run_evaluation(plan_evaluation(request), display=active_display())


def run_evaluation(plan: EvaluationPlan, *, display: Display) -> dict[str, Any]:
    """Run the stage, or take its result from the cache, and record it."""
    started = time.monotonic()
    rerun = {plan.spec.key} if plan.request.rerun else set()
    chain = open_chain(
        [plan.spec],
        name=EXPERIMENT,
        runtime=plan.runtime,
        params=flatten(plan.spec.config, prefix="evaluation."),
        rerun=rerun,
        display=display,
    )
    with recorded(chain):
        done = run_stages([plan.spec], rerun=rerun, chain=chain)
        (result,) = done.values()
        results = json.loads((result.manifest.folder / "results.json").read_text(encoding="utf-8"))
        finish(chain, done, metrics=chain_metrics({"evaluation": result.manifest}), files=[])
    return {
        "model": plan.request.model,
        "fingerprint": plan.spec.fingerprint,
        "status": result.status,
        "seconds": time.monotonic() - started,
        "artifact": str(result.manifest.folder),
        "mlflow_run_id": chain.run_id,
        "machine": machine_kind(plan.runtime.device),
        "results": results,
        "not_available": plan.absent,
        "left_out": result.manifest.tables()["left_out"],
    }
