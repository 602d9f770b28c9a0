"""Python values as JSON without loss of type, for results that leave the process of an answer.

Only exact built-in types pass (`type(x) is int`): an object that claims to equal everything does not. Never pickle.
None, bool, int, str and list stand for themselves; the rest is `{tag: content}`, long integers as well, since reading many decimal
digits takes time that grows with their square. Iterators travel as their items.
"""

import collections
import itertools
import json
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

MAX_ITEMS = 200_000  # of an iterator that an answer returned
MAX_COLLIDING = 1000
MAX_DECIMAL_BITS = 1024

_DICTS = (dict, collections.Counter, collections.defaultdict, collections.OrderedDict)
_ITERATORS = (types.GeneratorType, map, filter, zip, reversed, enumerate, range, type({}.keys()), type({}.values()))


class NotPlainError(TypeError):
    """A value of a type that does not pass."""


def dumps(value: object) -> str:
    """Raises NotPlainError, or RecursionError for what is nested too deep."""
    return json.dumps(_encode(value))


def loads(text: str) -> Any:  # noqa: ANN401  any built-in value
    """Raises ValueError or RecursionError for text that `dumps` did not write."""
    try:
        return _decode(json.loads(text))
    except (KeyError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(f"not a tagged value: {type(error).__name__}") from None


def _encode(value: object) -> object:
    kind = type(value)
    if kind is int and value.bit_length() > MAX_DECIMAL_BITS:  # ty: ignore[missing-attribute]
        return {"int": hex(value)}  # ty: ignore[invalid-argument-type]
    if value is None or kind in (bool, int, str):
        return value
    if kind is list:
        return [_encode(item) for item in value]  # ty: ignore[not-iterable]
    if kind in _DICTS:
        return {"dict": [[_encode(key), _encode(item)] for key, item in dict.items(value)]}  # ty: ignore[invalid-argument-type]
    if kind in _ITERATORS:
        return {"iterator": [_encode(item) for item in _bounded(iter(value))]}  # ty: ignore[no-matching-overload]
    if kind not in _ENCODERS:
        raise NotPlainError(f"a value of type {kind.__name__[:40]}")
    return {kind.__name__: _ENCODERS[kind](value)}


def _bounded(items: Iterator[object]) -> Iterator[object]:
    for count, item in enumerate(items):
        if count >= MAX_ITEMS:
            raise NotPlainError(f"an iterator of more than {MAX_ITEMS} items")
        yield item


def _encode_items(value: Any) -> list[object]:  # noqa: ANN401  a tuple, set or frozenset
    return [_encode(item) for item in value]


_ENCODERS: dict[type, Callable[[Any], object]] = {
    float: float.hex,
    complex: lambda value: [value.real.hex(), value.imag.hex()],
    bytes: lambda value: value.decode("latin-1"),
    bytearray: lambda value: value.decode("latin-1"),
    tuple: _encode_items,
    set: _encode_items,
    frozenset: _encode_items,
}

_DECODERS: dict[str, Callable[[Any], object]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda parts: complex(float.fromhex(parts[0]), float.fromhex(parts[1])),
    "bytes": lambda text: text.encode("latin-1"),
    "bytearray": lambda text: bytearray(text.encode("latin-1")),
    "tuple": lambda items: tuple(map(_decode, items)),
    "set": lambda items: set(_hashable(items)),
    "frozenset": lambda items: frozenset(_hashable(items)),
    "dict": lambda pairs: dict(
        zip(_hashable(pair[0] for pair in pairs), (_decode(pair[1]) for pair in pairs), strict=True)
    ),
    "iterator": lambda items: iter([_decode(item) for item in items]),
}


def _hashable(items: Iterable[Any]) -> list[Any]:
    """Keys, refused when they were made to collide: hashing them here would take minutes."""
    keys = [_decode(item) for item in items]
    hashes = sorted(map(hash, keys))
    num_distinct = sum(left != right for left, right in itertools.pairwise(hashes)) + 1
    if len(keys) > MAX_COLLIDING and 2 * num_distinct < len(keys):
        raise ValueError(f"{len(keys)} keys with {num_distinct} hashes")
    return keys


def _decode(value: Any) -> Any:  # noqa: ANN401  parsed JSON
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, dict):
        ((tag, content),) = value.items()
        return _DECODERS[tag](content)
    return value
