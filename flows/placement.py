"""Stages that run elsewhere: a chain hands one to a Prefect work pool (`runtime.pools`), follows it there, and takes its result.

A worker of the pool starts the flow `placed-stage` (`flows.placed`) on its machine. Results and experiment records are where both reach
them: in a remote store (or one folder of both), and on a tracking server. A machine of which nothing is heard for `SILENT_SECONDS` is
taken for lost, and the stage is handed to the pool again: whoever holds the result's lock next goes on from what is there.
"""

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed

from flows.launch import Chain, Result, is_settled
from flows.placed import REFUSED, asked_of, placed_stage
from stages.config import Runtime
from stages.errors import StageError, StoppedError
from stages.plan import PlannedStage
from stages.records.tracking_uri import without_password

SILENT_SECONDS = 60.0  # without a sign of life
MOST_MACHINES = 3  # that may be lost with a stage
_UNREACHABLE_SECONDS = 300.0  # that Prefect's server may be away
_POLL_SECONDS = 1.0
_PATIENCE_SECONDS = 30.0  # before it is told that no worker has taken a stage


def pool_of(spec: PlannedStage, runtime: Runtime) -> str:
    """The work pool to which a stage is handed; empty: it runs where its chain does, be it because that runs in this pool itself."""
    pool = runtime.pools.get(spec.stage, "")
    context = FlowRunContext.get()
    own = context.flow_run.work_pool_name if context and context.flow_run else None
    return "" if pool == own else pool


def require_pools(specs: list[PlannedStage], runtime: Runtime) -> None:
    """Raises ValueError for a pool that the Prefect server has no deployment for: before anything is computed."""
    for pool in dict.fromkeys(filter(None, (pool_of(spec, runtime) for spec in specs))):
        with get_client(sync_client=True) as client:
            try:
                client.read_deployment_by_name(_deployment(pool))
            except ObjectNotFound as error:
                server = without_password(str(client.api_url)).rstrip("/")
                raise ValueError(
                    f"runtime.pools names {pool!r}, and the Prefect server at {server} has no deployment {_deployment(pool)}: "
                    "start `ring up`, or name a server with PREFECT_API_URL and call `prefect deploy --all` there; "
                    "a pool of one's own needs its deployment in prefect.yaml (docs/pools.md)"
                ) from error


def _deployment(pool: str) -> str:
    return f"{placed_stage.name}/{pool}"


def ensure_elsewhere(spec: PlannedStage, *, pool: str, chain: Chain, rerun: bool) -> Result:
    """As `flows.launch.ensure`, by a worker of a pool. Raises StageError where it failed there, or machine after machine was lost."""
    started = time.monotonic()
    if not rerun and is_settled(spec, chain=chain):
        return Result(chain.manifest(spec.key), "cached", time.monotonic() - started)
    for _ in range(MOST_MACHINES):
        with _Placed(spec, pool=pool, chain=chain, rerun=rerun) as placed:
            if placed.follow():
                return placed.result(seconds=time.monotonic() - started)
    raise StageError(
        f"{spec.title}: {MOST_MACHINES} machines of the pool {pool} were lost with it", is_user_mistake=False
    )


@dataclass(slots=True)
class _Placed:
    """One flow run that makes a stage's result; used as a context: who leaves it early cancels it."""

    spec: PlannedStage
    pool: str
    chain: Chain
    rerun: bool
    client: SyncPrefectClient = field(init=False)
    run: FlowRun = field(init=False)
    row: dict[str, Any] = field(default_factory=dict)  # the newest sign of life
    _exits: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _said: int = 0
    _began: float = field(default_factory=time.monotonic)
    _heard: float = field(default_factory=time.monotonic)  # when the last sign of life came
    _is_told: bool = False  # that no worker has taken it

    def __enter__(self) -> "_Placed":
        self.client = self._exits.enter_context(get_client(sync_client=True))
        asked = asked_of(self.spec, chain=self.chain, rerun=self.rerun).model_dump(mode="json")
        title = f"{self.chain.tracker.recipe} {self.spec.title}"
        self.run = run_deployment(_deployment(self.pool), parameters={"asked": asked}, timeout=0, flow_run_name=title)  # ty: ignore[invalid-assignment]
        self.chain.building[self.spec.key] = self.spec.title
        self.chain.countdown.begin(self.spec.key)
        self._say(f"handed to the work pool {self.pool}")
        return self

    def __exit__(self, *_: object) -> None:
        self.chain.countdown.end(self.spec.key)
        with self._exits, contextlib.suppress(httpx.HTTPError):
            if not self._state().is_final():
                self.client.set_flow_run_state(self.run.id, Cancelling(message="the chain has ended before"))

    def follow(self) -> bool:
        """Wait for its end; whether the result was made. False: the machine was lost. Raises StageError where the stage failed."""
        while not (state := self._state()).is_final():
            self.chain.require_going(self.spec.title)
            self._hear()
            self._look(state)
            limit = SILENT_SECONDS if self.row else self.chain.runtime.pool_seconds
            if (silent := time.monotonic() - self._heard) > limit:
                return self._lose(f"nothing was heard of {self._host} for {silent:.0f} s")
            time.sleep(_POLL_SECONDS)
        self._hear()
        return self._judge(state)

    def result(self, *, seconds: float) -> Result:
        """The result that stands in the store. Raises StageError where it does not."""
        manifest = self.chain.manifest(self.spec.key)
        status, waited = self.row.get("status", manifest.document["status"]), self.row.get("waited_seconds", 0.0)
        return Result(manifest, status, seconds if status == "cached" else manifest.document["seconds"], waited)

    def _judge(self, state: State[Any]) -> bool:
        if state.is_completed():
            self.chain.building.pop(self.spec.key, None)
            return True
        if state.is_crashed():
            return self._lose(f"its run on {self._host} crashed ({state.message})")
        if state.is_cancelled():
            raise StoppedError(f"{self.spec.title} was cancelled in Prefect; the same command goes on")
        raise StageError(
            f"{self.spec.title}, in the pool {self.pool} on {self._host}: {state.message}",
            is_user_mistake=state.name == REFUSED,
        )

    def _lose(self, why: str) -> bool:
        """The machine is gone: so do the records say, and the caller may hand the stage to another one."""
        with contextlib.suppress(httpx.HTTPError):
            self.client.set_flow_run_state(self.run.id, Crashed(message=why), force=True)
        self.chain.tracker.close_lost(self.chain.run_id, fingerprint=self.spec.fingerprint, why=why)
        self._say(f"{why}: it is handed to the pool again")
        return False

    @property
    def _host(self) -> str:
        return self.row.get("host", "its machine")

    def _state(self) -> State[Any]:
        """Of the flow run; the server may be away for a while."""
        deadline = time.monotonic() + _UNREACHABLE_SECONDS
        while True:
            try:
                state = self.client.read_flow_run(self.run.id).state
                assert state is not None
                return state
            except (httpx.TransportError, httpx.HTTPStatusError):
                if time.monotonic() > deadline:
                    raise
                self._heard = time.monotonic()
                time.sleep(_POLL_SECONDS)

    def _hear(self) -> None:
        """Show what the newest sign of life says."""
        found = self.client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self.run.id]))
        )
        placed = next((one for one in found if (one.key or "").startswith("placed-")), None)
        if placed is None or not (rows := _rows(placed.data)) or rows[0] == self.row:
            return
        self._heard, self.row = time.monotonic(), rows[0]
        lines = (placed.description or "").split("\n")
        for line in lines[-(self.row["said"] - self._said) :] if self.row["said"] > self._said else ():
            self._say(line)
        self._said = self.row["said"]
        if "total" in self.row:
            self._progress()

    def _look(self, state: State[Any]) -> None:
        """As long as no worker has taken it there is nothing to hear of a machine; a person hears that none has."""
        if not state.is_scheduled():
            return
        self._heard = time.monotonic()
        if not self._is_told and self._heard - self._began > _PATIENCE_SECONDS:
            self._is_told = True
            self._say(f"no worker of the pool {self.pool} has taken it yet: `prefect worker start --pool {self.pool}`")

    def _progress(self) -> None:
        done, total, unit, detail = (self.row[name] for name in ("done", "total", "unit", "detail"))
        self.chain.countdown.progress(self.spec.key, done=done, total=total, unit=unit)
        self.chain.display.progress(self.spec.key, done=done, total=total, unit=unit, detail=detail)

    def _say(self, text: str) -> None:
        self.chain.display.message(self.spec.key, text)


def _rows(data: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a JSON value, or the text of one
    return json.loads(data) if isinstance(data, str) else data or []
