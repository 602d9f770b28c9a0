"""The part that runs in the confined child of tests: the tests, with stand-ins for what they test.

In: a job whose code are the tests, with `_ran(k)` behind each assertion (`data/domains/asserts.py`), and the connection to the answer's
process. Out: which assertions ran, how the tests ended and where, whether the answer was asked at all, and whether an operator of a
class of its own decided. No code of an answer runs here.
"""

import io
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from data.sandbox import handles, preamble, pytest_subset

ANSWER_MODULES = (
    "solution",
    "main",
    "answer",
    "candidate",
    "submission",
    "your_module",
    "my_module",
    "implementation",
    "program",
)
_COROUTINE = 0x80  # flag of the code of an `async def`
_ROOT = 0  # number of the answer's names


def run(
    job: dict[str, Any], fd: int, builtins_: dict[str, Any], *, name_of: Callable[[BaseException], str]
) -> dict[str, str]:
    """Run the tests; the report about them."""
    end = handles.Endpoint(fd, local_class=_shared_class, operators=job["operators"], is_guarded=True)
    tests = _Tests(end, job, builtins_)
    sys.stdin, sys.stdout = io.StringIO(), io.StringIO()
    record = {"end": "ok"}
    try:
        tests.run()
    except handles.LostError:
        record["end"] = "lost"
    except BaseException as error:
        record["end"] = name_of(error)
    return record | {
        "where": tests.where,
        "ran": " ".join(map(str, sorted(tests.ran))),
        "asked": str(end.num_requests - tests.num_first_requests or ""),
        "loaded": "yes" if tests.is_loaded else "",
        "weak": "yes" if end.operator_decided else "",
    }


def _shared_class(name: str) -> type | None:
    found = preamble.NAMES.get(name) if name in ("ListNode", "TreeNode") else None
    return found if isinstance(found, type) else None


class _Tests:
    """The tests of one answer."""

    def __init__(self, end: handles.Endpoint, job: dict[str, Any], builtins_: dict[str, Any]) -> None:
        self.where = "the tests"  # where they are, or ended
        self.ran: set[int] = set()  # assertions that held
        self.num_first_requests = 0  # for names alone
        self.is_loaded = False  # the answer's code ran, and its names are here
        self._end, self._job = end, job
        self._module = types.ModuleType("__main__")
        self._names = self._module.__dict__
        self._names.update(__builtins__=builtins_, _ran=self.ran.add)

    def run(self) -> None:
        """Run the module, then what pytest and unittest would collect. Raises what fails."""
        loaded = self._end.receive()
        if loaded:
            self.where = "the code"
            raise _named(loaded)
        sys.modules["__main__"] = self._module
        sys.modules["pytest"] = pytest_subset.module()
        for name in ANSWER_MODULES:
            sys.modules[name] = _AnswerModule(name, self._end)
        given = {name: self._ask_for(name) for name in self._job["names"]}
        self.num_first_requests = self._end.num_requests
        self.is_loaded = True
        self._names.update({name: value for name, value in given.items() if value is not _MISSING})
        self._execute(self._job["setup"])
        if self._job["function"] in given and given[self._job["function"]] is not _MISSING:
            self._names[self._job["function"]] = given[self._job["function"]]  # not the setup's stub
        self._execute(self._job["code"])
        for name in self._job["collect"]:
            self._collected(name, self._names[name])

    def _ask_for(self, name: str) -> object:
        try:
            return self._end.request("get", handles.Reference(_ROOT), name)
        except AttributeError:
            return _MISSING

    def _execute(self, source: str) -> None:
        if source:
            exec(compile(source, "<tests>", "exec"), self._names)

    def _collected(self, name: str, found: Any) -> None:  # noqa: ANN401  of a test
        unittest = sys.modules.get("unittest")
        if isinstance(found, types.FunctionType):
            self._function(name, found)
        elif unittest is not None and isinstance(found, type) and issubclass(found, unittest.TestCase):
            self._test_case(name, found, unittest)
        elif isinstance(found, type):
            self._class(name, found)

    # ------------------------------------------------------------ pytest

    def _function(self, name: str, function: Callable[..., Any]) -> None:
        for row in getattr(function, "ring_rows", [{}]):
            self.where = name
            made = _Fixtures(self._names, row)
            _call(function, {parameter: made.value(parameter) for parameter in _parameters(function)})
            made.finish()

    def _class(self, name: str, kind: type) -> None:
        for method in [attribute for attribute in vars(kind) if attribute.startswith("test")]:
            instance = kind()
            for before in ("setup_method", "setUp", "setup"):
                if hasattr(instance, before):
                    getattr(instance, before)(*([None] * (len(_parameters(getattr(instance, before))) > 0)))
                    break
            self._function(f"{name}.{method}", getattr(instance, method))

    # ------------------------------------------------------------ unittest

    def _test_case(self, name: str, kind: type, unittest: Any) -> None:  # noqa: ANN401  the module
        result = _first_failure(unittest)()
        unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(result)
        if result.error is not None:
            self.where = f"{name}.{result.method}"
            raise result.error


class _AnswerModule(types.ModuleType):
    """What a test imports as the answer's module."""

    def __init__(self, name: str, end: handles.Endpoint) -> None:
        super().__init__(name)
        self.__dict__["_end"] = end

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  any value
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        return self.__dict__["_end"].request("get", handles.Reference(_ROOT), name)


class _Fixtures:
    """What a test function takes: parameters of its marks, fixtures of the tests, and the few of pytest that are here."""

    def __init__(self, names: dict[str, Any], row: dict[str, Any]) -> None:
        self._names, self._values = names, dict(row)
        self._open: list[Iterator[Any]] = []

    def value(self, name: str) -> Any:  # noqa: ANN401  any value
        """Of a parameter."""
        if name not in self._values:
            self._values[name] = self._made(name)
        return self._values[name]

    def _made(self, name: str) -> Any:  # noqa: ANN401  any value
        function = self._names.get(name)
        if name == "capsys":
            return _Captured()
        if not getattr(function, "ring_fixture", False):
            raise TypeError(f"no fixture {name}")
        made = _call(function, {parameter: self.value(parameter) for parameter in _parameters(function)})
        if isinstance(made, types.GeneratorType):
            self._open.append(made)
            return next(made)
        return made

    def finish(self) -> None:
        """Run what fixtures do after the test."""
        for made in reversed(self._open):
            next(made, None)


class _Captured:
    """pytest's `capsys`."""

    def __init__(self) -> None:
        self.readouterr()

    def readouterr(self) -> Any:  # noqa: ANN401  a named pair
        """What was printed since."""
        assert isinstance(sys.stdout, io.StringIO)
        text = sys.stdout.getvalue()
        sys.stdout = io.StringIO()
        return types.SimpleNamespace(out=text, err="")


def _call(function: Any, values: dict[str, Any]) -> Any:  # noqa: ANN401  of a test
    made = function(**values)
    if _code(function).co_flags & _COROUTINE:
        import asyncio

        return asyncio.run(made)
    return made


def _parameters(function: Any) -> tuple[str, ...]:  # noqa: ANN401  of a test
    """Those without a default."""
    code = _code(function)
    names = code.co_varnames[: code.co_argcount][int(isinstance(function, types.MethodType)) :]
    return names[: len(names) - len(function.__defaults__ or ())]


def _code(function: Any) -> types.CodeType:  # noqa: ANN401  of a test
    return getattr(function, "__func__", function).__code__


def _first_failure(unittest: Any) -> type:  # noqa: ANN401  the module
    class Result(unittest.TestResult):
        """Keeps the first error and stops."""

        error: BaseException | None = None
        method = ""

        def addError(self, test: Any, err: Any) -> None:  # noqa: N802, ANN401  unittest's name
            self._keep(test, err)

        def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802, ANN401  unittest's name
            self._keep(test, err)

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802, ANN401  unittest's name
            if err is not None:
                self._keep(test, err)

        def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802, ANN401  unittest's name
            self._keep(test, (None, AssertionError(), None))

        def _keep(self, test: Any, err: Any) -> None:  # noqa: ANN401  unittest's
            if self.error is None:
                self.error, self.method = err[1], getattr(test, "_testMethodName", "")
            self.stop()

    return Result


_MISSING = object()


def _named(name: object) -> BaseException:
    """An exception that is told by this name."""
    text = name if type(name) is str and name.isidentifier() else "Exception"
    return type(text[:40], (Exception,), {})()
