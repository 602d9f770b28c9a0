"""The part that runs in the confined child: an answer as a program, or calls of its functions.

In: a job (JSON). Out: lines of JSON on the file descriptor RESULT_FD, one per call, and a last `{"end": ...}` unless the
answer ended the process itself. What is written there is a claim of the answer: the judge compares it, never believes it.
"""

import atexit
import builtins
import contextlib
import gc
import json
import os
import random
import signal
import sys
import types
from typing import Any, NoReturn

from data.sandbox import tagged

RESULT_FD = 3
END_OK = "ok"


def run(job: dict[str, Any]) -> NoReturn:
    """Run the job's code, then its calls, and end the process."""
    _python_as_answers_expect_it()
    end, status = _guarded(job)
    _tell({"end": end})
    os._exit(status)


def _guarded(job: dict[str, Any]) -> tuple[str, int]:
    """How the answer ended, and the exit status; any exception is the answer's."""
    try:
        _run_code(job)
        _finish_threads()
        sys.stdout.flush()
    except SystemExit as error:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        return ("exit", 0) if error.code in (None, 0) else ("SystemExit", 1)
    except BaseException as error:
        return _name(error), 1
    return END_OK, 0


def _python_as_answers_expect_it() -> None:
    gc.enable()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = ["answer.py"]
    sys.set_int_max_str_digits(0)
    random.seed(0)  # the same answer gives the same verdict
    for name in ("exit", "quit"):  # from the module `site`, which is not loaded
        setattr(builtins, name, sys.exit)


def _run_code(job: dict[str, Any]) -> None:
    module = types.ModuleType(job["module"])
    sys.modules[job["module"]] = module
    namespace = module.__dict__
    if job["values"]:
        namespace["_R"] = [tagged.loads(value) for value in job["values"]]
    needs_the_answer = False
    try:
        _execute(job["setup"], namespace)
    except NameError:  # it uses what the answer defines
        needs_the_answer = True
    _execute(job["code"], namespace)
    if needs_the_answer:
        _execute(job["setup"], namespace)
    _find_method(namespace, job["function"])
    for expression in job["calls"]:
        _tell(_call(expression, namespace, job["seconds"]))


def _execute(source: str, namespace: dict[str, Any]) -> None:
    if source:
        exec(compile(source, "<answer>", "exec"), namespace)


def _find_method(namespace: dict[str, Any], function: str) -> None:
    """A function asked for by name may be a method of a class Solution."""
    if function and function not in namespace and "Solution" in namespace:
        namespace[function] = getattr(namespace["Solution"](), function)


def _call(expression: str, namespace: dict[str, Any], seconds: float) -> dict[str, str]:
    """The value of one call; after `seconds` of processor time the default action of the signal ends the process."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return {"value": tagged.dumps(eval(compile(expression, "<call>", "eval"), namespace))}
    except tagged.NotPlainError as error:
        return {"error": f"returned {error}"}
    except BaseException as error:
        return {"error": _name(error)}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _finish_threads() -> None:
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit._run_exitfuncs()


def _name(error: BaseException) -> str:
    name = type(error).__name__
    return name[:40] if isinstance(name, str) and name.isidentifier() else "Exception"


def _tell(record: dict[str, str]) -> None:
    with contextlib.suppress(OSError):
        os.write(RESULT_FD, json.dumps(record).encode() + b"\n")
