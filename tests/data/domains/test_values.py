"""Values are compared as Python compares them, without hashing any of an answer's."""

import time

import pytest

from data.domains.values import JSON, PYTHON, STRICT, same
from data.sandbox import tagged


def read(value: object) -> object:
    return tagged.parse(tagged.dumps(value))


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (2, 2.0),
        (1, True),
        ({1: "a", 2.0: "b"}, {True: "a", 2: "b"}),
        ({1, 2}, frozenset({2.0, 1})),
        ((1, 2), (1, 2)),
        ([1], (1,)),
        ({(1, 2): 3}, {(1, 2.0): 3}),
        ({(1,): 3}, {(2,): 3}),
        (float("nan"), float("nan")),
        (10**400, 1e308),
        ("1", 1),
        (b"a", "a"),
        ({}, set()),
        ([[1, {2: {3}}]], [[1, {2: {3}}]]),
        (0.1 + 0.2, 0.3),
        (None, None),
        (1j, 1j),
        (2, 2 + 0j),
        ([], None),
        ({1}, {1, 2}),
        ({"a": 1}, {"b": 1}),
        (-0.0, 0),
        (2**70, float(2**70)),
        ("", []),
        (frozenset({frozenset({1})}), {frozenset({1.0})}),
    ],
)
def test_plain_values_are_equal_as_python_says(expected, value):
    assert same(expected, read(value), PYTHON) is (expected == value)


@pytest.mark.parametrize(
    ("expected", "value", "python", "json", "strict"),
    [
        (2, 2.0, True, True, False),
        (1, True, True, True, False),
        ([1, [2]], (1, (2,)), False, True, False),
        (0.1 + 0.2, 0.3, False, True, False),
        (2, 2.0000001, False, False, False),
        ({1: 2}, {1.0: 2}, True, True, False),
    ],
)
def test_how_much_must_agree_is_a_choice(expected, value, python, json, strict):
    assert [same(expected, read(value), how) for how in (PYTHON, JSON, STRICT)] == [python, json, strict]


@pytest.mark.parametrize("wrap", ['{"set": [%s]}', '{"frozenset": [%s]}', '{"dict": [%s]}'])
def test_keys_that_collide_cost_nothing(wrap):
    keys = [n * (2**61 - 1) for n in range(60_000)] + list(range(60_000))
    text = wrap % ",".join(f"[{key}, 0]" if "dict" in wrap else str(key) for key in keys)
    started = time.process_time()
    assert same({1, 2}, tagged.parse(text), PYTHON) is False
    assert time.process_time() - started < 1
