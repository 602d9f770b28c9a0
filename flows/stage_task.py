"""The one generic Prefect task: cache key, refresh rule, readable names, tags, and a Markdown artifact with the result.

Prefect's own cache policies leave the code of a stage out of the key and never look at the files a result names, so the key
is our fingerprint and a hit is honoured only where the artifact verifies.
"""

from collections.abc import Mapping
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, State

from flows.launch import Chain, Result, ensure, is_settled
from flows.placement import ensure_elsewhere, pool_of
from stages.errors import StoppedError
from stages.markdown import plain, table
from stages.plan import PlannedStage


class StageCall:
    """What a stage task takes. A plain class: Prefect must not look into it."""

    def __init__(self, *, spec: PlannedStage, chain: Chain, rerun: bool) -> None:
        self.spec = spec
        self.chain = chain
        self.rerun = rerun
        self.result: Result | None = None


def _cache_key(_context: TaskRunContext, parameters: Mapping[str, Any]) -> str:
    spec = parameters["call"].spec
    return f"{spec.stage}-{spec.fingerprint}"


@task(
    name="stage",
    task_run_name="{title}",
    cache_key_fn=_cache_key,
    persist_result=True,
    result_serializer="json",
    retries=0,
)
def stage_task(title: str, call: StageCall, upstream: list[str]) -> str | State:
    """Make sure that the stage's result stands in the store; returns its fingerprint, or that the task was cancelled."""
    spec, chain = call.spec, call.chain
    inputs = {key: chain.manifest(key) for key in spec.inputs}
    try:
        if pool := pool_of(spec, chain.runtime):
            call.result = ensure_elsewhere(spec, pool=pool, chain=chain, rerun=call.rerun)
        else:
            with chain.slots.taken(spec.ranks):
                call.result = ensure(spec, inputs=inputs, chain=chain, rerun=call.rerun)
    except StoppedError as error:
        return Cancelled(message=str(error))
    create_markdown_artifact(
        markdown(spec, call.result),
        key=_artifact_key(chain, spec),
        description=f"{spec.title} of {chain.tracker.recipe}",
    )
    return spec.fingerprint


def submit(call: StageCall, *, upstream: list[PrefectFuture[str]]) -> PrefectFuture[str]:
    """Start the task; Prefect's cached answer is refused for a rerun, and where the result does not verify or its record has no end."""
    spec, chain = call.spec, call.chain
    configured = stage_task.with_options(
        tags=[f"ring.stage={spec.stage}", f"fingerprint={spec.fingerprint[:12]}", f"recipe={chain.tracker.recipe}"],
        refresh_cache=call.rerun or not is_settled(spec, chain=chain),
    )
    return configured.submit(spec.title, call, upstream)  # ty: ignore[invalid-argument-type] - futures are resolved


def _artifact_key(chain: Chain, spec: PlannedStage) -> str:
    return f"{chain.tracker.recipe}-{spec.key}".replace("/", "-").lower()


def markdown(spec: PlannedStage, result: Result) -> str:
    """A stage's result for the Prefect UI: how it came about, notes, metrics, tables."""
    document = result.manifest.document
    lines = [
        f"# {spec.title}",
        "",
        f"`{spec.fingerprint}` {result.status} in {document['seconds']:.1f} s, MLflow run `{document['mlflow_run_id']}`",
        "",
    ]
    lines += [f"> {plain(note)}\n" for note in document["notes"]]
    metrics = [{"metric": name, "value": value} for name, value in sorted(document["metrics"].items())]
    lines += [*table(metrics, digits=".6g"), ""]
    for name, rows in result.manifest.tables().items():
        lines += [f"## {plain(name)}", "", *(table(rows[:50]) if rows else ["(empty)"]), ""]
    return "\n".join(lines)
