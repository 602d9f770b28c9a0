"""Python values as JSON without loss of type, for values that leave or enter the process of an answer.

Only exact built-in types pass (`type(x) is int`): an object that claims to equal everything does not. Never pickle.
None, bool, int, str and list stand for themselves; the rest is `{tag: content}`, long integers as well, since reading many decimal
digits takes time that grows with their square. Iterators travel as their items.

`loads` makes Python values, and so hashes what it is given: for processes with limits of their own. The judge's process uses `parse`,
which hashes nothing: sets and dicts become `Bag`s, which are compared by their items' text (`data/domains/values.py`).
"""

import collections
import json
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

MAX_ITEMS = 200_000  # of an iterator that an answer returned
MAX_NODES = 500_000  # of one value that is read
MAX_DEPTH = 200
MAX_DECIMAL_BITS = 1024

_OF_DICT = (collections.Counter, collections.OrderedDict)
_ITERATORS = (types.GeneratorType, map, filter, zip, reversed, enumerate, range, type({}.keys()), type({}.values()))
Other = Callable[[object], object]  # makes JSON of a value that is not plain, or raises NotPlainError


class NotPlainError(TypeError):
    """A value of a type that does not pass."""


@dataclass(frozen=True, slots=True)
class Bag:
    """A value whose items would have to be hashed, or an iterator: its tag and its items, in the order they came."""

    tag: str  # set, frozenset, dict (items are pairs), iterator
    items: tuple[Any, ...]


def dumps(value: object, other: Other | None = None) -> str:
    """Raises NotPlainError, or RecursionError for what is nested too deep."""
    return json.dumps(encode(value, other))


def loads(text: str) -> Any:  # noqa: ANN401  any built-in value
    """Raises ValueError for text that `dumps` did not write."""
    return _read(text, make)


def parse(text: str) -> Any:  # noqa: ANN401  any built-in value, or a Bag
    """As `loads`, with Bags for what would have to be hashed."""
    return _read(text, Bag)


def count_nodes(text: str) -> int:
    """At least as many as the values in the JSON, by its punctuation."""
    return 1 + text.count(",") + text.count("[") + text.count("{")


def _read(text: str, bag: Callable[[str, tuple[Any, ...]], object]) -> Any:  # noqa: ANN401  any built-in value
    try:
        if count_nodes(text) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} items")
        return Reader(bag).decode(json.loads(text))
    except Exception as error:  # what an answer wrote: whatever is wrong with it, it is no value
        raise ValueError(f"not a tagged value: {type(error).__name__}") from None


# ---------------------------------------------------------------- writing


def encode(value: object, other: Other | None = None) -> object:
    """JSON of a value. With `other`, iterators are not plain either."""
    kind = type(value)
    if kind is int and value.bit_length() > MAX_DECIMAL_BITS:  # ty: ignore[missing-attribute]
        return {"int": hex(value)}  # ty: ignore[invalid-argument-type]
    if value is None or kind in (bool, int, str):
        return value
    if kind is list:
        return [encode(item, other) for item in value]  # ty: ignore[not-iterable]
    if kind in (dict, collections.defaultdict) or (kind in _OF_DICT and other is None):
        return {"dict": [[encode(key, other), encode(item, other)] for key, item in dict.items(value)]}  # ty: ignore[invalid-argument-type]
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [encode(item, other) for item in value]}  # ty: ignore[not-iterable]
    if kind in _ENCODERS:
        return {kind.__name__: _ENCODERS[kind](value)}
    if other is not None:
        return other(value)
    if kind in _ITERATORS:
        return {"iterator": [encode(item) for item in _bounded(iter(value))]}  # ty: ignore[no-matching-overload]
    raise NotPlainError(f"a value of type {_name(kind)}")


def plain_base(value: object) -> object:
    """What a value of a subclass of a built-in type holds, read without the subclass; raises NotPlainError for others."""
    for kind, read in _BASES.items():
        if kind in type(value).__mro__:  # not isinstance, which asks the value for its class
            return read(value)
    raise NotPlainError(f"a value of type {_name(type(value))}")


def _name(kind: type) -> str:
    name = kind.__name__
    return name[:40] if type(name) is str and name.isidentifier() else "object"


def _bounded(items: Iterator[object]) -> Iterator[object]:
    for count, item in enumerate(items):
        if count >= MAX_ITEMS:
            raise NotPlainError(f"an iterator of more than {MAX_ITEMS} items")
        yield item


_ENCODERS: dict[type, Callable[[Any], object]] = {
    float: float.hex,
    complex: lambda value: [value.real.hex(), value.imag.hex()],
    bytes: lambda value: value.decode("latin-1"),
    bytearray: lambda value: value.decode("latin-1"),
}

_BASES: dict[type, Callable[[Any], object]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    list: lambda value: list(list.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
}


# ---------------------------------------------------------------- reading


class Reader:
    """Values from JSON; `bag` makes a set, frozenset, dict or iterator, `others` the value of a tag that is not built in."""

    def __init__(
        self,
        bag: Callable[[str, tuple[Any, ...]], object],
        others: dict[str, Callable[[Any, "Reader"], object]] | None = None,
    ) -> None:
        self._bag = bag
        self._others = others or {}
        self._depth = 0

    def decode(self, value: Any) -> Any:  # noqa: ANN401  parsed JSON
        """Raises one exception or another where it is no value."""
        kind = type(value)
        if kind is list:
            return self.items(value)
        if kind is not dict:
            return value
        ((tag, content),) = value.items()
        if tag in _SCALARS:
            return _SCALARS[tag](content)
        if tag == "tuple":
            return tuple(self.items(content))
        if tag == "dict":
            return self._bag(tag, tuple(map(self._pair, content)))
        if tag in ("set", "frozenset", "iterator"):
            return self._bag(tag, tuple(self.items(content)))
        return self._others[tag](content, self)

    def items(self, values: Iterable[Any]) -> list[Any]:
        """The values of a list, one level deeper."""
        if type(values) is not list:
            raise TypeError("items are a list")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        decoded = [self.decode(value) if type(value) in (list, dict) else value for value in values]
        self._depth -= 1
        return decoded

    def _pair(self, pair: Any) -> tuple[Any, Any]:  # noqa: ANN401  parsed JSON
        key, value = self.items(pair)
        return key, value


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError("a text is needed")
    return value


_SCALARS: dict[str, Callable[[Any], object]] = {
    "int": lambda text: int(_text(text), 16),
    "float": lambda text: float.fromhex(_text(text)),
    "complex": lambda parts: complex(*(float.fromhex(_text(part)) for part in parts)),
    "bytes": lambda text: _text(text).encode("latin-1"),
    "bytearray": lambda text: bytearray(_text(text).encode("latin-1")),
}
_MAKERS: dict[str, Callable[[Any], object]] = {"set": set, "frozenset": frozenset, "dict": dict, "iterator": iter}


def make(tag: str, items: tuple[Any, ...]) -> object:
    """The built-in value that a Bag stands for: its items are hashed."""
    return _MAKERS[tag](items)
