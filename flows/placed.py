"""A stage on the machine of a work pool's worker: the flow `placed-stage`, which a chain elsewhere waits for (`flows.placement`).

The stage comes as it was planned. Before anything is computed this machine makes sure that it would make the same result: the same code,
the same files outside the store, the store and the experiment records of the chain. What it does shows in an artifact of the flow run, of
which a row is written again every few seconds: to a person it is the progress, to the chain a sign of life.
"""

import contextlib
import os
import platform
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from prefect import flow, get_client
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, ValidationError

from data.domain_names import VARIABLE, own_domain_files
from flows.launch import Chain, Result, ensure
from stages.config import Runtime, StageName
from stages.errors import StageError, StoppedError
from stages.plan import DataFolder, PlannedStage
from stages.records.artifact import Manifest, Store, file_digests, fingerprint, open_store, ring_home
from stages.records.code_digest import code_digest, file_digest
from stages.records.remote import is_address
from stages.records.run_ledger import RunLedger
from stages.records.tracking import Tracker
from stages.worker import CONFIGS

BEAT_SECONDS = 5.0
KEY = "placed-"  # begin of the artifact's key
REFUSED = "Refused"  # name of the state of a stage whose failure a person can mend
_MOST_MESSAGES = 50  # that the artifact keeps


class Asked(BaseModel):
    """A stage of a chain, as the parameter of a flow run."""

    model_config = ConfigDict(extra="forbid")

    recipe: str
    chain: str  # id of its run in MLflow
    store: str  # address of the remote store, empty: the home folder
    key: str
    stage: StageName
    arm: str | None
    module: str
    inputs: tuple[str, ...]
    ranks: int
    payload: dict[str, Any]
    fingerprint: str
    data: dict[str, DataFolder]
    runtime: Runtime
    replaces: str  # seal of the result that is to be made again; empty: one that is there is taken
    goes_on: bool = False  # where another machine was lost with it

    @property
    def mark(self) -> str:
        """Of the chain in its remote store, while it waits."""
        return f"{self.chain}-{self.fingerprint}"

    def planned(self) -> PlannedStage:
        """The stage."""
        config = CONFIGS[self.module].model_validate(self.payload["config"])
        return PlannedStage(
            key=self.key,
            stage=self.stage,
            arm=self.arm,
            module=self.module,
            config=config,
            inputs=self.inputs,
            ranks=self.ranks,
            payload=self.payload,
            fingerprint=self.fingerprint,
            data=self.data,
        )


def asked_of(spec: PlannedStage, *, chain: Chain, replaces: str) -> Asked:
    """What a worker is told of a stage. Hosts work in folders of their own, so that a file's path is whole."""
    hosts = chain.runtime.hosts and str(Path(chain.runtime.hosts).absolute())
    return Asked(
        recipe=chain.tracker.recipe,
        chain=chain.run_id,
        store=chain.store.remote.url if chain.store.remote else "",
        key=spec.key,
        stage=spec.stage,
        arm=spec.arm,
        module=spec.module,
        inputs=spec.inputs,
        ranks=spec.ranks,
        payload=spec.payload,
        fingerprint=spec.fingerprint,
        data=spec.data,
        runtime=chain.runtime.model_copy(update={"hosts": hosts}),
        replaces=replaces,
    )


# ---------------------------------------------------------------- signs of life


class Beat:
    """A `Display` that is read elsewhere: the table of an artifact, written again while the stage works; used as a context."""

    def __init__(self, title: str) -> None:
        self.row: dict[str, Any] = {"stage": title, "host": _host(), "beats": 0, "said": 0, "messages": []}
        self._lock = threading.Lock()
        self._has_ended = threading.Event()
        self._logger = get_run_logger()
        key = f"{KEY}{title.replace(' ', '-')}".lower()
        self._artifact = create_table_artifact([self.row], key=key, description=f"signs of life of {title}")
        self._teller = threading.Thread(target=self._tell, name="beat", daemon=True)

    def __enter__(self) -> Self:
        self._teller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._has_ended.set()
        self._teller.join()

    def note(self, **values: Any) -> None:  # noqa: ANN401 - JSON values
        """Further columns."""
        with self._lock:
            self.row.update(values)

    def progress(self, key: str, *, done: int, total: int, unit: str, detail: str) -> None:
        """`done` of `total` units."""
        self.note(done=done, total=total, unit=unit, detail=detail)

    def message(self, key: str, text: str) -> None:
        """A line for people, here and where the chain runs."""
        self._logger.info(text)
        with self._lock:
            self.row["messages"] = [*self.row["messages"], text][-_MOST_MESSAGES:]
            self.row["said"] += 1

    def outlook(self, text: str) -> None:
        """The chain says what is left of all stages."""

    def _tell(self) -> None:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as client:
            is_last = False
            while not is_last:
                is_last = self._has_ended.wait(BEAT_SECONDS)
                with self._lock:
                    self.row["beats"] += 1
                    update = ArtifactUpdate(data=[{**self.row}])
                with contextlib.suppress(httpx.HTTPError, PrefectException):  # the server may be started anew
                    client.update_artifact(self._artifact, update)  # ty: ignore[invalid-argument-type] - no coroutine here


def _host() -> str:
    """This machine and the worker on it, for people."""
    return f"{platform.node()} ({worker})" if (worker := os.environ.get("PREFECT__WORKER_NAME")) else platform.node()


# ---------------------------------------------------------------- the flow


@flow(name="placed-stage", retries=0)
def placed_stage(asked: dict[str, Any]) -> State[Any]:
    """Make sure of the stage's result, in the chain's store and records. Ends as failed, with the reason, where that cannot be."""
    title = str(asked.get("key", "")).replace("/", " ")
    with Beat(title) as beat:
        try:
            result = _made_sure(understood(asked), beat=beat)
        except StoppedError:
            raise
        except Exception as error:
            is_mistake = isinstance(error, ValueError) or (isinstance(error, StageError) and error.is_user_mistake)
            return Failed(message=str(error) or type(error).__name__, name=REFUSED if is_mistake else "Failed")
        beat.note(status=result.status, waited_seconds=result.waited_seconds)
    return Completed(message=f"{result.status}: {result.manifest.fingerprint}")


def understood(asked: dict[str, Any]) -> Asked:
    """Raises ValueError where the chain's version asks for what this one does not know."""
    try:
        found = Asked.model_validate(asked)
        found.planned()
    except (ValidationError, KeyError) as error:
        raise ValueError(f"{_other('code', 'the project in the same version')} ({error})") from error
    return found


def _made_sure(asked: Asked, *, beat: Beat) -> Result:
    spec = asked.planned()
    require_same_stage(spec)
    require_whole_paths()
    store = open_store(ring_home())
    tracker = Tracker(store.home, asked.recipe)
    for note in tracker.notes:
        beat.message("records", note)
    _require_same_places(asked, store=store, tracker=tracker)
    chain = Chain(
        [spec],
        store=store,
        tracker=tracker,
        run_id=asked.chain,
        runtime=asked.runtime,
        display=beat,
        prefect_run=flow_run.id,
    )
    try:
        inputs = inputs_of(spec, store=store)
        return ensure(spec, inputs=inputs, chain=chain, rerun=is_to_replace(asked, store=store), goes_on=asked.goes_on)
    finally:
        chain.is_stopped.set()


def is_to_replace(asked: Asked, *, store: Store) -> bool:
    """Whether the result that is to be made again still stands there: a machine that was only cut off may have made it meanwhile."""
    there = store.find(asked.stage, asked.fingerprint)
    return bool(asked.replaces) and there is not None and there.seal == asked.replaces


def require_whole_paths() -> None:
    """Prefect's process worker runs each flow in a folder that is removed afterwards. Raises ValueError for a relative path."""
    for name in ("RING_HOME", "RING_CACHE"):
        named = os.environ.get(name, "" if name == "RING_CACHE" else ".ring")
        if named and not is_address(named) and not Path(named).expanduser().is_absolute():
            raise ValueError(
                f"the worker on {platform.node()} runs with {name}={named}, and a flow run works in a folder of its own: "
                "start the worker with the whole path"
            )


def require_same_stage(spec: PlannedStage) -> None:
    """Raises ValueError where this machine would make another result: another version, or other files outside the store."""
    if fingerprint(spec.payload) != spec.fingerprint:
        raise ValueError(f"{spec.title}: what came is not what {spec.fingerprint[:12]} was made of")
    here = {"code": code_digest(spec.module), "domains": {n: file_digest(p) for n, p in own_domain_files().items()}}
    asked = {"code": spec.payload["code"], "domains": spec.payload.get("domains", {})}
    for name, what in (("code", "the project in the same version"), ("domains", f"the same {VARIABLE}")):
        if here[name] != asked[name]:
            raise ValueError(f"{spec.title}: {_other(name, what)}")
    for name, data in spec.data.items():
        _require_same_files(name, data, title=spec.title)


def _other(name: str, what: str) -> str:
    return f"the {name} on {platform.node()} is not the chain's: give this host {what}, and start its worker again"


def _require_same_files(name: str, data: DataFolder, *, title: str) -> None:
    paths = [data.folder / file for file in data.files]
    missing = [path for path in paths if not path.is_file()]
    changed = file_digests([path for path in paths if path not in missing], below=data.folder)
    other = [data.folder / file for file, sha256 in changed.items() if sha256 != data.files[file]]
    if found := missing + other:
        what = "is missing" if missing else "is another file than where the chain runs"
        raise ValueError(
            f"{title} reads {name}, and {found[0]} {what} on {platform.node()} ({len(found)} of {len(paths)} files): "
            "give it the same files under the same path, or let the stage run where the chain does"
        )


def _require_same_places(asked: Asked, *, store: Store, tracker: Tracker) -> None:
    """Raises ValueError where the chain would not find what is made here."""
    remote = store.remote
    here = remote.url if remote else ""
    place = here or f"the folder {store.home}"
    knows = remote.is_marked(asked.mark) if remote else asked.chain in RunLedger(store.home).named_runs()
    if here != asked.store or not knows:
        raise ValueError(
            f"the worker on {platform.node()} has its results in {place}, the chain in {asked.store or 'a folder of its own'}: "
            "start it with the chain's RING_STORE and endpoint (docs/storage.md), or with a RING_HOME that is the same folder"
        )
    if not tracker.knows(asked.chain):
        raise ValueError(
            f"the records of the worker on {platform.node()} do not know the chain's run {asked.chain[:8]}: "
            "start both with the same MLFLOW_TRACKING_URI, the address of a tracking server"
        )


def inputs_of(spec: PlannedStage, *, store: Store) -> Mapping[str, Manifest]:
    """The results that the stage is made from. Raises StageError for one that is not in the store."""
    found = {key: store.find(key.partition("/")[0], spec.payload["inputs"][key]) for key in spec.inputs}
    if missing := [key for key, manifest in found.items() if manifest is None]:
        raise StageError(f"{spec.title}: the results of {', '.join(missing)} are not there", is_user_mistake=False)
    return {key: manifest for key, manifest in found.items() if manifest}
