"""Whether what an answer returned is what is expected, in the judge's process: nothing that an answer made is hashed or asked.

In: expected values of a data set, and values that `tagged.parse` read. Members of sets and keys of dicts are compared by a text that is
the same for equal values.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from data.sandbox.tagged import Bag

_NUMBERS = (bool, int, float, complex)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What counts as equal."""

    strict: bool = False  # types are the same as well: 2.0 is not 2, True is not 1, a tuple is no list
    sequences_alike: bool = False  # a tuple may stand for a list, which JSON cannot tell apart
    tolerance: float = 0.0  # relative, of floats that are expected


PYTHON = Comparison()
JSON = Comparison(sequences_alike=True, tolerance=1e-6)
STRICT = Comparison(strict=True)
STRICT_JSON = Comparison(strict=True, sequences_alike=True, tolerance=1e-6)
_ABSOLUTE = 1e-9


def same(expected: object, value: object, how: Comparison) -> bool:
    """Equal as Python's `==` says, but for what `how` says."""
    if isinstance(expected, list | tuple):
        return _same_sequence(expected, value, how)
    if isinstance(expected, dict):
        return _same_dict(expected, value, how)
    if isinstance(expected, set | frozenset):
        is_set = isinstance(value, Bag) and value.tag in (
            (type(expected).__name__,) if how.strict else ("set", "frozenset")
        )
        return is_set and {_key(item, how) for item in expected} == {_key(item, how) for item in _items(value)}
    if type(expected) in _NUMBERS:
        return type(value) in _NUMBERS and _same_number(expected, value, how)
    return type(expected) is type(value) and expected == value


def _same_sequence(expected: Sequence[object], value: object, how: Comparison) -> bool:
    is_alike = type(value) in (list, tuple) if how.sequences_alike else type(value) is type(expected)
    if not is_alike or not isinstance(value, list | tuple):
        return False
    return len(expected) == len(value) and all(
        same(one, other, how) for one, other in zip(expected, value, strict=True)
    )


def _same_dict(expected: dict[object, object], value: object, how: Comparison) -> bool:
    if not (isinstance(value, Bag) and value.tag == "dict"):
        return False
    given = {_key(key, how): item for key, item in value.items}
    wanted = {_key(key, how): item for key, item in expected.items()}
    return given.keys() == wanted.keys() and all(same(item, given[key], how) for key, item in wanted.items())


def _same_number(expected: object, value: object, how: Comparison) -> bool:
    if how.strict and type(expected) is not type(value):
        return False
    if type(expected) is float and how.tolerance and type(value) in (int, float):
        try:
            return math.isclose(expected, value, rel_tol=how.tolerance, abs_tol=_ABSOLUTE)  # ty: ignore[invalid-argument-type]
        except OverflowError:  # an integer beyond all floats
            return False
    return expected == value


def _items(value: object) -> tuple[object, ...]:
    return value.items if isinstance(value, Bag) else ()


def _key(value: object, how: Comparison) -> str:
    """A text that is the same for keys that are equal, and for no others."""
    if isinstance(value, str):
        return f"s{len(value)}:{value}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({','.join(_key(item, how) for item in value)})"
    if isinstance(value, Bag | set | frozenset):
        items = value.items if isinstance(value, Bag) else value
        return f"set({','.join(sorted(_key(item, how) for item in items))})"
    if type(value) in _NUMBERS:
        return _number_key(value, how)
    return f"{type(value).__name__}:{value!r}" if value is not None else "None"


def _number_key(value: object, how: Comparison) -> str:
    kind = type(value).__name__ if how.strict else "number"
    if isinstance(value, complex) and not value.imag and not how.strict:
        value = value.real
    if isinstance(value, float):
        value = int(value) if value.is_integer() and not how.strict else value.hex()
    return f"{kind}:{hex(value) if isinstance(value, int) else value}"
