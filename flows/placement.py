"""Stages that run elsewhere: a chain hands one to a Prefect work pool (`runtime.pools`), follows it there, and takes its result.

A worker of the pool starts the flow `placed-stage` (`flows.placed`) on its machine. Results and experiment records are where both reach
them: in a remote store (or one folder of both), and on a tracking server. A machine of which nothing is heard for `SILENT_SECONDS` is
taken for lost, and the stage is handed to the pool again: whoever holds the result's lock next goes on from what is there.
"""

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelling, Crashed

from flows.launch import Chain, Result, is_settled
from flows.placed import KEY, REFUSED, Asked, asked_of, placed_stage
from stages.config import Runtime
from stages.errors import StageError, StoppedError
from stages.plan import PlannedStage
from stages.records.machine import kind_of, machine_kind
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


def require_pools(specs: Sequence[PlannedStage], runtime: Runtime) -> None:
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
    before = chain.store.find(spec.stage, spec.fingerprint)
    asked = asked_of(spec, chain=chain, replaces=before.seal if rerun and before else "")
    for number in range(MOST_MACHINES):
        with _Placed(spec, pool=pool, chain=chain, asked=asked.model_copy(update={"goes_on": number > 0})) as placed:
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
    asked: Asked
    client: SyncPrefectClient = field(init=False)
    run: FlowRun = field(init=False)
    row: dict[str, Any] = field(default_factory=dict)  # the newest sign of life
    _exits: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _began: float = field(default_factory=time.monotonic)
    _heard: float = field(default_factory=time.monotonic)  # when the last sign of life came
    _is_told: bool = False  # that no worker has taken it

    def __enter__(self) -> "_Placed":
        parameters = {"asked": self.asked.model_dump(mode="json")}
        title = f"{self.chain.tracker.recipe} {self.spec.title}"
        with self._exits:
            if remote := self.chain.store.remote:
                self._exits.enter_context(remote.marked(self.asked.mark))
            run = run_deployment(
                _deployment(self.pool),
                parameters=parameters,
                timeout=0,
                flow_run_name=title,
                idempotency_key=uuid4().hex,  # one that is asked for again, when the answer was lost, is the same
            )
            self.run = run  # ty: ignore[invalid-assignment] - no coroutine here
            self._exits.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}))
            self.client = self._exits.enter_context(get_client(sync_client=True))
            self._exits = self._exits.pop_all()
        self.chain.building[self.spec.key] = self.spec.title
        self.chain.countdown.begin(self.spec.key)
        self._say(f"handed to the work pool {self.pool}")
        return self

    def __exit__(self, *_: object) -> None:
        self.chain.countdown.end(self.spec.key)
        with self._exits, contextlib.suppress(httpx.HTTPError, PrefectException):
            state = self.client.read_flow_run(self.run.id).state
            if state is None or not state.is_final():
                self.client.set_flow_run_state(self.run.id, Cancelling(message="the chain has ended before"))

    def follow(self) -> bool:
        """Wait for its end; whether the result was made. False: the machine was lost. Raises StageError where the stage failed."""
        while not (state := self._hear()).is_final():
            self.chain.require_going(self.spec.title)
            self._look(state)
            limit = SILENT_SECONDS if self.row else self.chain.runtime.pool_seconds
            if (silent := time.monotonic() - self._heard) > limit:
                return self._lose(f"nothing was heard of {self._host} for {silent:.0f} s")
            time.sleep(_POLL_SECONDS)
        return self._judge(state)

    def result(self, *, seconds: float) -> Result:
        """The result that stands in the store. Raises StageError where it does not."""
        manifest = self.chain.manifest(self.spec.key)
        here, there = machine_kind(self.chain.runtime.device), kind_of(manifest.document)
        if there != here:
            self._say(
                f"made on another kind of machine, {there}; its numbers may differ from those of this one, {here}"
            )
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
        with contextlib.suppress(httpx.HTTPError, PrefectException):
            self.client.set_flow_run_state(self.run.id, Crashed(message=why), force=True)
        self.chain.tracker.close_lost(self.chain.run_id, fingerprint=self.spec.fingerprint, why=why)
        self._say(f"{why}: it is handed to the pool again")
        return False

    @property
    def _host(self) -> str:
        return self.row.get("host", "its machine")

    def _hear(self) -> State[Any]:
        """The state of the flow run; shown is what the newest sign of life says. Prefect's server may be away for a while, and be slow."""
        deadline = time.monotonic() + _UNREACHABLE_SECONDS
        while True:
            began = time.monotonic()
            try:
                state, found = self._read()
            except ObjectNotFound as error:
                raise StoppedError(
                    f"{self.spec.title}: its flow run was deleted in Prefect; the same command goes on"
                ) from error
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                if time.monotonic() > deadline or not _may_pass(error):
                    raise
                self.chain.require_going(self.spec.title)
                time.sleep(_POLL_SECONDS)
                self._heard = time.monotonic()  # a machine cannot say that it lives either
                continue
            if time.monotonic() - began > SILENT_SECONDS / 4:
                self._heard = time.monotonic()
            if found and found != self.row:
                self._heard = time.monotonic()
                self._show(found)
            return state

    def _read(self) -> tuple[State[Any], dict[str, Any]]:
        """The state, and then the newest row: what is said last is not missed."""
        state = self.client.read_flow_run(self.run.id).state
        assert state is not None
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self.run.id]))
        found = [one for one in self.client.read_artifacts(artifact_filter=of_run) if (one.key or "").startswith(KEY)]
        rows = _rows(found[0].data) if found else []
        return state, rows[0] if rows else {}

    def _show(self, row: dict[str, Any]) -> None:
        before, self.row = self.row.get("said", 0), row
        messages = row["messages"][-(row["said"] - before) :] if row["said"] > before else []
        if missed := row["said"] - before - len(messages):
            self._say(f"{missed} messages are in the flow run's log alone")
        for text in messages:
            self._say(text)
        if "total" in row:
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


def _may_pass(error: httpx.HTTPError) -> bool:
    """Whether a server that is started anew, or has much to do, may answer so; no refusal is."""
    if not isinstance(error, httpx.HTTPStatusError):
        return True
    code = error.response.status_code
    return code >= HTTPStatus.INTERNAL_SERVER_ERROR or code == HTTPStatus.TOO_MANY_REQUESTS


def _rows(data: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a JSON value, or the text of one
    return json.loads(data) if isinstance(data, str) else data or []
