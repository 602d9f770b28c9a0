"""Curation on many machines: its process is a Prefect flow, and the batches of its steps are mapped tasks on a Dask cluster.

A shard is a batch of the funnel, a parquet file in the artifact store, and the function is the one that a process of this machine would
apply. So the store (`RING_HOME`) must stand on a file system that all workers see under the same path, each worker must have the same
version of this project, and `PREFECT_API_URL` must name a server that they reach. Dask speaks pickle: its ports belong on loopback, on
a network of your own, or behind its TLS (`tls://`).
"""

import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

from distributed import Client
from distributed.client import FutureCancelledError
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect_dask import DaskTaskRunner

from stages import worker
from stages.config import Runtime
from stages.errors import StageError
from stages.sampling.cluster import GO_ON, code_of, connected, require_same_code
from stages.sampling.workers import borrowed_worker
from stages.stage import StageLog

NO_WORKER_SECONDS = 60
_LOOK_SECONDS = 5  # between two looks at the cluster, while no shard is done
_SHARDS_PER_THREAD = 4  # in flight; half of them are waited for before more are mapped
_MODULE = "stages.curation"


class Shard:
    """A chunk of work and what is done with it. A plain class: Prefect looks into dataclasses, and must not look into this."""

    def __init__(self, work: Any, chunk: Any, *, runtime: Runtime, run: str, code: str) -> None:  # noqa: ANN401 - see `work_through`
        self.work = work
        self.chunk = chunk
        self.runtime = runtime
        self.run = run
        self.code = code


@task(name="shard", task_run_name="shard {number}", cache_policy=NO_CACHE, persist_result=False)
def shard_task(number: int, shard: Shard) -> Any:  # noqa: ANN401 - what the function makes of the chunk
    """Work on one shard in a process of the cluster. Raises ValueError where that process runs another version of the code."""
    with borrowed_worker(shard.runtime, run=shard.run) as borrowed:
        require_same_code(borrowed.kept, _MODULE, shard.code)
        return shard.work(borrowed, shard.chunk)


def work_through(function: Any, chunks: Iterable[Any], *, runtime: Runtime) -> Iterator[tuple[int, Any]]:  # noqa: ANN401 - as stages.sampling.workers
    """As `stages.sampling.workers.work_through`, on the cluster of the running flow: as many shards are mapped as keep its threads busy.

    Raises ValueError when the scheduler is gone, or has had no worker for `NO_WORKER_SECONDS`.
    """
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None and isinstance(context.task_runner, DaskTaskRunner)
    client = context.task_runner.client
    run, code = str(context.flow_run.id), code_of(_MODULE)
    waiting = enumerate(chunks)
    positions: dict[UUID, int] = {}  # of the shards in flight, by task run
    finished: SimpleQueue[PrefectFuture[Any]] = SimpleQueue()
    while True:
        most = _SHARDS_PER_THREAD * max(sum(client.nthreads().values()), 1)
        numbered = list(islice(waiting, most - len(positions))) if len(positions) <= most // 2 else []
        shards = [Shard(function, chunk, runtime=runtime, run=run, code=code) for _, chunk in numbered]
        for (position, _), future in zip(numbered, shard_task.map([n for n, _ in numbered], shards), strict=True):
            positions[future.task_run_id] = position
            future.add_done_callback(finished.put)
        if not positions:
            return
        future = _next(finished, client)
        yield positions.pop(future.task_run_id), _result(future)


def _result(future: PrefectFuture[Any]) -> Any:  # noqa: ANN401 - what the function makes of the chunk
    try:
        return future.result()
    except FutureCancelledError as error:
        raise ValueError(f"the Dask cluster is lost ({error.reason}); {GO_ON}") from error


def _next(finished: "SimpleQueue[PrefectFuture[Any]]", client: Client) -> PrefectFuture[Any]:
    """The next shard that is done. Workers may come and go meanwhile, but not stay away."""
    deserted = 0
    while deserted < NO_WORKER_SECONDS:
        try:
            return finished.get(timeout=_LOOK_SECONDS)
        except Empty:
            deserted = 0 if client.nthreads() else deserted + _LOOK_SECONDS
    raise ValueError(f"the Dask cluster has had no worker for {NO_WORKER_SECONDS} s; {GO_ON}")


@flow(name="curation shards", flow_run_name="{name}", validate_parameters=False)
def curate(name: str, job: str) -> None:
    """Curation with `work_through` on the cluster."""
    if worker.main(Path(job), work_through=work_through):
        raise StageError("curation stopped; the reason is among its events", is_user_mistake=True)


def main(job_path: Path) -> int:
    """Run the job of curation; exit codes as those of `stages.worker`."""
    job = json.loads(job_path.read_text(encoding="utf-8"))
    address = job["runtime"]["dask_address"]
    try:
        connected(address).close()
        runner = DaskTaskRunner(address=address)
        on_cluster = curate.with_options(task_runner=runner)  # ty: ignore[invalid-argument-type] - generic in its futures
        on_cluster(Path(job["out"]).name[:12], str(job_path))
    except ValueError as error:
        with Path(job["events"]).open("a", encoding="utf-8") as stream:
            StageLog(stream).error(str(error))
        return 2
    except StageError:
        return 2
    return 0


if __name__ == "__main__":
    by_name = importlib.import_module("flows.shards")  # tasks are sent by their module's name, which `__main__` is not
    sys.exit(by_name.main(Path(sys.argv[1])))
