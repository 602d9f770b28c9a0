"""The part of pytest that tests of functions use: `raises`, `approx`, `fail`, marks with parameters, fixtures."""

import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self


class raises:  # noqa: N801  pytest's name
    """A block that must raise one of these exceptions, whose text must match."""

    def __init__(self, kinds: type | tuple[type, ...], *call: Any, match: str | None = None, **keywords: Any) -> None:  # noqa: ANN401
        self.kinds, self.match = kinds, match
        if call:
            with self:
                call[0](*call[1:], **keywords)

    def __enter__(self) -> Self:
        self.type = self.value = None
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> bool:
        if kind is None:
            raise AssertionError("nothing was raised")
        if not issubclass(kind, self.kinds):
            return False
        self.type, self.value = kind, error
        assert self.match is None or re.search(self.match, str(error)), "the text does not match"
        return True


class approx:  # noqa: N801  pytest's name
    """A number, or numbers in a sequence or mapping, up to a relative error of 1e-6 or an absolute one of 1e-12."""

    def __init__(self, expected: Any, rel: float | None = None, abs: float | None = None, nan_ok: bool = False) -> None:  # noqa: ANN401
        self.expected, self.rel, self.abs, self.nan_ok = expected, rel, abs, nan_ok

    __hash__ = None

    def __eq__(self, given: object) -> bool:
        return self._equal(self.expected, given)

    def _equal(self, expected: Any, given: Any) -> bool:  # noqa: ANN401  of a test
        if isinstance(expected, Mapping):
            return expected.keys() == given.keys() and all(self._equal(expected[key], given[key]) for key in expected)
        if isinstance(expected, Sequence) and not isinstance(expected, str):
            return len(expected) == len(given) and all(map(self._equal, expected, given))
        if expected == given or not isinstance(expected, int | float):
            return bool(expected == given)
        if type(given) not in (int, float):
            return False
        if self.nan_ok and expected != expected and given != given:
            return True
        relative = 1e-6 if self.rel is None and self.abs is None else self.rel or 0.0
        return abs(expected - given) <= max(1e-12 if self.abs is None else self.abs, relative * abs(expected))


def fail(reason: str = "", **_: object) -> None:
    """The test fails."""
    raise AssertionError(reason)


def fixture(function: Callable[..., Any] | None = None, **_: object) -> Any:  # noqa: ANN401  a decorator, or what it decorated
    """Marks a function that makes what a test takes."""
    if function is None:
        return fixture
    function.ring_fixture = True  # ty: ignore[missing-attribute]
    return function


def param(*values: object, **_: object) -> tuple[object, ...]:
    """One set of parameters."""
    return values


class _Marks:
    def parametrize(self, names: str | Sequence[str], values: Iterable[Any], **_: object) -> Callable[..., Any]:
        """The test runs once for each of the values."""
        names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)

        def mark(function: Callable[..., Any]) -> Callable[..., Any]:
            rows = [dict(zip(names, value if len(names) > 1 else _one(value), strict=True)) for value in values]
            known = getattr(function, "ring_rows", [{}])
            function.ring_rows = [{**one, **other} for one in known for other in rows]  # ty: ignore[missing-attribute]
            return function

        return mark

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **_: args[0] if args and callable(args[0]) else lambda function: function


def _one(value: object) -> tuple[object, ...]:
    return value if type(value) is tuple and len(value) == 1 else (value,)


def module() -> types.ModuleType:
    """What `import pytest` gives to tests."""
    made = types.ModuleType("pytest")
    names = {"raises": raises, "approx": approx, "fail": fail, "fixture": fixture, "param": param, "mark": _Marks()}
    made.__dict__.update(names, main=lambda *_, **__: 0)
    return made
