"""The process in which a stage runs: `python -m stages.worker JOB.json [PLACE]`, for one rank or (through `stages.ranks`) several.

The job file names the stage's module, its config, inputs, Runtime, output folder, where events go, and the process that wrote
it, with which this one dies. Exit codes: 0 done, 2 what a user can mend, such as a bad input or a training that diverged (its
message is an event, whichever rank met it), anything else a failure.
"""

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages import ranks
from stages.config import (
    BaseConfig,
    CurationConfig,
    EvaluationConfig,
    ModelEvaluationConfig,
    Record,
    ReportConfig,
    RlConfig,
    Runtime,
    SelectionConfig,
    SftConfig,
)
from stages.imports import heavy_imports
from stages.records.artifact import write_json
from stages.records.provenance import arithmetic
from stages.stage import STATE, StageLog, StageRecord

CONFIGS: dict[str, type[Record]] = {  # by module
    "stages.curation": CurationConfig,
    "stages.base": BaseConfig,
    "stages.sft": SftConfig,
    "stages.selection": SelectionConfig,
    "stages.rl": RlConfig,
    "stages.sft.further": SftConfig,
    "stages.evaluation.run": EvaluationConfig,
    "stages.evaluation.one_model": ModelEvaluationConfig,
    "stages.report": ReportConfig,
}
RECORD = "record.json"
_LEFT_TO_THE_WATCHER = 3.0  # seconds


def main(job_path: Path, place: str = "", **means: Any) -> int:  # noqa: ANN401 - further arguments of the stage
    """Run the job, as its launcher when it asks for several ranks and as a rank of it otherwise; with a `place` as one host's launcher.

    `means` go to the stage: how it does its work where that is no data (curation's `work_through`).
    """
    job = json.loads(job_path.read_text(encoding="utf-8"))
    is_rank = job["ranks"] > 1 and "RANK" in os.environ
    _die_with_parent(None if is_rank or place else job["parent"])
    os.environ.setdefault("OMP_NUM_THREADS", str(job["runtime"]["threads"]))
    if job["ranks"] > 1 and not is_rank:
        return _launch_ranks(job_path, job, place)
    rank = int(os.environ.get("RANK", "0"))
    where = f"rank {rank}: " if rank else ""
    with Path(job["events"]).open("a", encoding="utf-8") as stream:
        try:
            with ranks.beating(Path(job["out"])) if is_rank else contextlib.nullcontext():
                _run(job, StageLog(stream if rank == 0 else None), means)
        except (ValueError, OSError, FloatingPointError) as error:
            traceback.print_exc()
            StageLog(stream).error(where + (str(error) or type(error).__name__))
            return 2
        except Exception as error:
            if (
                is_rank
            ):  # a rank that dies breaks the others' connections: who watches them ends this one before it speaks
                time.sleep(_LEFT_TO_THE_WATCHER)
            StageLog(stream).failure(f"{where}{type(error).__name__}: {error}")
            raise
    return 0


def _die_with_parent(parent: int | None) -> None:
    """Ask the kernel to kill this process when its parent dies; if `parent`, who started it, has died before, go at once."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def _launch_ranks(job_path: Path, job: dict[str, Any], place: str) -> int:
    if place:
        ranks.end_with_connection()
        return ranks.run_host(job_path, job, ranks.Place.parse(place))
    try:
        return ranks.launch(job_path, job)
    except ValueError as error:
        with Path(job["events"]).open("a", encoding="utf-8") as stream:
            StageLog(stream).error(str(error))
        return 2


def _run(job: dict[str, Any], log: StageLog, means: dict[str, Any]) -> None:
    started = time.monotonic()
    config = CONFIGS[job["module"]].model_validate(job["config"])
    inputs = {name: Path(folder) for name, folder in job["inputs"].items()}
    out = Path(job["out"])
    with heavy_imports():
        stage = importlib.import_module(job["module"])
    imported = time.monotonic()
    runtime = Runtime.model_validate(job["runtime"])
    record: StageRecord = stage.run(config, inputs=inputs, runtime=runtime, out=out, log=log, **means)
    if os.environ.get("RANK", "0") == "0":
        write_json(out / "tables.json", record.tables)
        (out / STATE).mkdir(exist_ok=True)
        write_json(
            out / STATE / RECORD,
            {
                **asdict(record),
                "arithmetic": arithmetic(device=runtime.device),
                "timings": {**_usage(imported - started), "wall_seconds": time.monotonic() - started, **record.timings},
            },
        )


def _usage(import_seconds: float) -> dict[str, float]:
    """CPU seconds of all ranks, of which this is the first, and of its workers; the largest memory of one process."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))  # they do equal work; the first alone has workers
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "import_seconds": import_seconds,
        "cpu_seconds": ranks * (own.ru_utime + own.ru_stime) + children.ru_utime + children.ru_stime,
        "peak_memory_bytes": 1024 * max(own.ru_maxrss, children.ru_maxrss),
    }


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), *sys.argv[2:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # gloo's threads sometimes abort a process at exit, after all work succeeded (seen)
