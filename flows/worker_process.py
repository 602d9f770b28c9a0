"""The process in which a stage works: started, followed by its events, and ended with the one that asked for it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.config import Runtime
from stages.errors import StageError
from stages.ranks import shares_hosts
from stages.stage import STATE

ROOT = Path(__file__).resolve().parent.parent
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # of sums, whose order decides about bytes
_POLL_SECONDS = 0.05
_ALLOCATION = ":".join(
    (
        "glibc.malloc.hugetlb=1",  # pages of 2 MB
        f"glibc.malloc.mmap_threshold={1 << 25}",  # what is freed stays, and is not asked of the kernel again: up to 32 MB a piece,
        f"glibc.malloc.trim_threshold={1 << 30}",  # 1 GB in all,
        f"glibc.malloc.top_pad={1 << 26}",  # in steps of 64 MB
    )
)
"""How the C library gets memory from the kernel. Huge pages: 12 to 22 % fewer CPU seconds a training step, 1 % more memory; keeping
what is freed: 5 to 15 % fewer in RL's trainer, 3 % more memory (Intel Xeon, docs/model.md)."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker does. `job` is that of `stages.worker` but its events, `program` the module that reads it, `log` what it prints."""

    title: str
    program: str
    job: Mapping[str, Any]
    log: Path


def run_worker(work: Work, *, tell: Callable[[Mapping[str, Any]], None], meanwhile: Callable[[int], None]) -> bool:
    """Start the worker and follow it to its end; returns whether the stage resumed. The worker ends with this call.

    `tell` hears of each event; `meanwhile` is called over and over with the worker's process id, and may raise to give up. Raises
    StageError when the worker failed.
    """
    work.log.parent.mkdir(parents=True, exist_ok=True)
    state = Path(work.job["out"]) / STATE
    beside = state if shares_hosts(Runtime.model_validate(work.job["runtime"])) else None
    with tempfile.TemporaryDirectory(prefix="ring-", dir=beside) as scratch, work.log.open("ab") as log_file:
        job = Path(scratch) / "job.json"
        events = Path(scratch) / "events.jsonl"
        events.touch()
        job.write_text(json.dumps({**work.job, "events": str(events)}), encoding="utf-8")
        child = subprocess.Popen(
            [sys.executable, "-m", work.program, str(job)],
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            env=worker_environment(Runtime.model_validate(work.job["runtime"])),
            start_new_session=True,  # Ctrl-C is for us, who then end it and say so
        )
        try:
            return _follow(child, events=events, work=work, tell=tell, meanwhile=meanwhile)
        finally:
            child.kill()
            child.wait()


def worker_environment(runtime: Runtime) -> dict[str, str]:
    """The worker works where the command runs; a folder `data` there is not taken for ours, by it or by its ranks."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        **dict.fromkeys(THREADS, str(runtime.threads)),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "GLIBC_TUNABLES": ":".join(filter(None, [os.environ.get("GLIBC_TUNABLES"), _ALLOCATION])),
    }


def _follow(
    child: subprocess.Popen[bytes],
    *,
    events: Path,
    work: Work,
    tell: Callable[[Mapping[str, Any]], None],
    meanwhile: Callable[[int], None],
) -> bool:
    was_resumed, reasons = False, {}
    with events.open(encoding="utf-8") as stream:
        while True:
            has_ended = child.poll() is not None
            for line in _whole_lines(stream):
                event = json.loads(line)
                was_resumed |= event["event"] == "resumed"
                if event["event"] in ("error", "failure"):
                    reasons.setdefault(event["event"], event["text"])  # the first; others of other ranks follow from it
                    continue
                tell(event)
            if has_ended:
                break
            meanwhile(child.pid)
            time.sleep(_POLL_SECONDS)
    if child.returncode != 0:
        mistake, failure = reasons.get("error"), reasons.get("failure", "")
        message = f"{mistake}\nLog: {work.log}" if mistake else _failure(child.returncode, work, failure)
        raise StageError(message, is_user_mistake=mistake is not None)
    return was_resumed


def _whole_lines(stream: Any) -> list[str]:  # noqa: ANN401 - a text stream that can seek
    lines = []
    while True:
        position = stream.tell()
        line = stream.readline()
        if not line.endswith("\n"):
            stream.seek(position)
            return lines
        lines.append(line)


def _failure(code: int, work: Work, reason: str) -> str:
    tail = "\n".join(work.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    why = f" ({reason})" if reason else ""
    return f"stage {work.title} ended with {how}{why}; the same command goes on from its last checkpoint.\n{tail}\nLog: {work.log}"
