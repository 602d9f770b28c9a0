"""The part that runs in the confined child: an answer as a program, calls of its functions, or its objects at the service of tests.

In: a job (JSON). Out: lines of JSON on the file descriptor RESULT_FD, one per call, and a last `{"end": ...}` unless the
answer ended the process itself. What is written there is a claim of the answer: the judge compares it, never believes it.
Of an answer at the service of tests RESULT_FD is the connection to them (`handles`); the tests run in another child (`checking`).
"""

import atexit
import builtins
import contextlib
import gc
import io
import json
import mmap
import os
import random
import signal
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

from data.sandbox import checking, handles, preamble, tagged

RESULT_FD = 3
END_OK = "ok"


def run(job: dict[str, Any], *, is_calling: mmap.mmap) -> NoReturn:
    """Run the job's code, then its calls, and end the process; the server learns from a byte when the calls begin."""
    _python_as_answers_expect_it()
    if job["role"] == "tests":
        report = json.dumps(checking.run(job, RESULT_FD, _with_preamble(), name_of=_name))
        os.write(1, report.encode())
        os._exit(0)
    if job["role"] == "answer":
        _serve(job)
    end, status = _guarded(job, is_calling)
    _tell({"end": end})
    os._exit(status)


def _serve(job: dict[str, Any]) -> NoReturn:
    """Load the answer, tell whether that worked, and serve its tests until they end."""
    module = types.ModuleType(job["module"])
    end = handles.Endpoint(RESULT_FD, local_class=lambda name: _own_class(module, name), is_guarded=False)
    end.number(_Names(module.__dict__, job["function"]))
    end.around = lambda work: _around(work, job["seconds"])
    failure = ""
    try:
        _load(job, module)
    except BaseException as error:
        failure = _name(error)
    try:
        end.send(failure)
        end.serve()
    finally:
        os._exit(0)


class _Names:
    """The names that an answer defines; a function may be a method of its class Solution."""

    def __init__(self, namespace: dict[str, Any], function: str) -> None:
        self._namespace, self._function = namespace, function

    def __getattr__(self, name: str) -> object:
        if name == "__all__":
            return [name for name in self._namespace if not name.startswith("_")]
        if name == self._function:
            _find_method(self._namespace, name)
        if name not in self._namespace:
            raise AttributeError(name)
        return self._namespace[name]


def _own_class(module: types.ModuleType, name: str) -> type | None:
    found = vars(module).get(name, preamble.NAMES.get(name))
    return found if type(found) is type else None


def _around(work: Callable[[], object], seconds: float) -> tuple[object, str]:
    """The value of some work of limited processor time, and what was printed meanwhile; work inside other work counts as that."""
    if signal.getitimer(signal.ITIMER_PROF)[0]:
        return work(), ""
    sys.stdout = printed = io.StringIO()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return work(), printed.getvalue()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _guarded(job: dict[str, Any], is_calling: mmap.mmap) -> tuple[str, int]:
    """How the answer ended, and the exit status; any exception is the answer's."""
    try:
        _run_code(job, is_calling)
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


def _run_code(job: dict[str, Any], is_calling: mmap.mmap) -> None:
    module = types.ModuleType(job["module"])
    _load(job, module)
    is_calling[0] = 1
    for expression in job["calls"]:
        _tell(_call(expression, module.__dict__, job["seconds"]))


def _load(job: dict[str, Any], module: types.ModuleType) -> None:
    """Execute setup and code; functions see the preamble behind the answer's own names, programs do not."""
    sys.modules[job["module"]] = module
    namespace = module.__dict__
    if job["preamble"]:
        namespace["__builtins__"] = _with_preamble()
    needs_the_answer = False
    try:
        _execute(job["setup"], namespace)
    except NameError:  # it uses what the answer defines
        needs_the_answer = True
    _execute(job["code"], namespace)
    if needs_the_answer:
        _execute(job["setup"], namespace)
    _find_method(namespace, job["function"])
    for name in job["names"] if job["calls"] else ():
        if name not in namespace:  # what the preamble has under this name is not the answer's
            raise NameError(name)


def _with_preamble() -> dict[str, Any]:
    return {**preamble.NAMES, **vars(builtins)}


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
        value = eval(compile(expression, "<call>", "eval"), namespace)
        return {"value": _text(value)}
    except tagged.NotPlainError as error:
        return {"error": f"returned {error}"}
    except BaseException as error:
        return {"error": _name(error)}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _text(value: object) -> str:
    """Of a plain value; of a value of a subclass of a built-in type what it holds, whatever the subclass says."""
    try:
        return tagged.dumps(value)
    except tagged.NotPlainError:
        return tagged.dumps(value, lambda part: tagged.encode(tagged.plain_base(part)))


def _finish_threads() -> None:
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit._run_exitfuncs()


def _name(error: BaseException) -> str:
    """The class of an exception; that of memory also where the interpreter says that no more threads may be started."""
    if type(error) is RuntimeError and error.args == ("can't start new thread",):
        return MemoryError.__name__
    name = type(error).__name__
    return name[:40] if type(name) is str and name.isidentifier() else "Exception"


def _tell(record: dict[str, str]) -> None:
    with contextlib.suppress(OSError):
        os.write(RESULT_FD, json.dumps(record).encode() + b"\n")
