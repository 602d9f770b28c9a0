"""A process that has imported what is large and not ours, and runs pytest in forks of itself: a run of fast tests takes a second.

`python -P forked_pytest.py`: a request a line of standard input, an answer a line of standard output, both JSON. Nothing of the
project is imported before the fork, so that a fork takes the modules of the tree that the request names. A fork that does not
answer, or in which one test takes longer than its limit, has died, and says so by leaving no exit code.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOREIGN = (
    "torch", "numpy", "scipy", "pyarrow", "pyarrow.parquet", "pyarrow.feather", "pydantic", "xdist.scheduler", "safetensors.torch",
    "tokenizers", "jinja2", "deepspeed", "deepspeed.ops",
)  # fmt: skip
ONE_RANK = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
COLLECT_SECONDS = 60.0


class InOrder:
    """Runs the tests beside a file first and the slow ones last, and notes which one runs."""

    def __init__(self, request: dict[str, Any], notes: Path) -> None:
        self.beside, self.limits, self.default = request["beside"], request["limits"], request["default_limit"]
        self.notes, self.seconds, self.failed = notes, {}, ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: (item.get_closest_marker("slow") is not None, not self._is_beside(item)))

    def _is_beside(self, item: pytest.Item) -> bool:
        return item.nodeid.startswith(f"{self.beside}::")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.note(test=item.nodeid)
        started = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, self.limits.get(item.nodeid, self.default))  # SIGALRM ends the process
        result = yield
        self.seconds[item.nodeid] = time.monotonic() - started
        signal.setitimer(signal.ITIMER_REAL, COLLECT_SECONDS)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or (report.nodeid if report.failed else "")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.failed = self.failed or (report.nodeid if report.failed else "")

    def note(self, **what: object) -> None:
        with self.notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")


def main() -> None:
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _import_foreign()
    for line in sys.stdin:
        answers.write(json.dumps(_forked(json.loads(line))) + "\n")
        answers.flush()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _import_foreign() -> None:
    before = dict(os.environ)
    os.environ.update({"DS_ACCELERATOR": "cpu", **ONE_RANK})
    sys.modules["mlflow"] = None  # ty: ignore[invalid-assignment] - DeepSpeed looks for it
    for name in FOREIGN:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    del sys.modules["mlflow"]
    os.environ.clear()
    os.environ.update(before)
    gc.collect()
    gc.freeze()


def _forked(request: dict[str, Any]) -> dict[str, Any]:
    scratch = Path(request["scratch"])
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    notes = scratch / "notes.jsonl"
    notes.touch()
    child = os.fork()
    if not child:
        _run(request, scratch, notes)
    os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    answer: dict[str, Any] = {"code": None, "test": "", "seconds": {}}
    for line in notes.read_text(encoding="utf-8").splitlines():
        answer |= json.loads(line)
    return answer


def _run(request: dict[str, Any], scratch: Path, notes: Path) -> None:
    """The fork: never returns."""
    try:
        os.setsid()
        _die_with_parent()
        os.chdir(request["root"])
        os.environ |= {"PYTHONPATH": request["root"], "TMPDIR": str(scratch)}
        if not request["writes_bytecode"]:
            os.environ["PYTHONDONTWRITEBYTECODE"], sys.dont_write_bytecode = "1", True
        sys.path.insert(0, request["root"])
        sys.modules["__main__"] = ModuleType("__main__")  # what processes started by multiprocessing would import anew
        with (scratch / "output.txt").open("w") as output, Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        signal.setitimer(signal.ITIMER_REAL, COLLECT_SECONDS)
        order = InOrder(request, notes)
        basetemp = f"--basetemp={scratch / 'pytest'}"
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", basetemp, *request["arguments"]], plugins=[order])
        order.note(code=int(code), seconds=order.seconds, **({"test": order.failed} if order.failed else {}))
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
