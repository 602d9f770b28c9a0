"""Values survive with their types, and only built-in ones do."""

import collections

import pytest

from data.sandbox import tagged

VALUES = [
    None,
    True,
    1,
    -(10**30),
    -(10**9000),
    1.5,
    float("inf"),
    "é\n",
    b"\xff",
    1j,
    [],
    [1, [2]],
    (1, (2,)),
    {1, 2},
    frozenset({3}),
    {1: "a", (2,): None},
]


@pytest.mark.parametrize(
    "value", VALUES, ids=lambda value: repr(value)[:40] if not isinstance(value, int) else hex(value)[:40]
)
def test_a_built_in_value_comes_back_as_it_was(value):
    back = tagged.loads(tagged.dumps(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value",
    [object(), int, collections.deque([1]), len, type("E", (int,), {})(3)],
    ids=lambda value: type(value).__name__,
)
def test_another_type_is_refused(value):
    with pytest.raises(tagged.NotPlainError):
        tagged.dumps(value)


def test_an_iterator_travels_as_its_items():
    back = tagged.loads(tagged.dumps(map(str, (1, 2))))
    assert back != ["1", "2"]
    assert list(back) == ["1", "2"]


def test_a_counter_travels_as_a_dict():
    assert tagged.loads(tagged.dumps(collections.Counter("aab"))) == {"a": 2, "b": 1}


@pytest.mark.parametrize("text", ['{"x": 1}', '{"float": 1}', '{"dict": [[[], 1]]}', "{}", "[", '{"float": "x"}'])
def test_text_that_is_no_value_is_a_value_error(text):
    with pytest.raises(ValueError):
        tagged.loads(text)


def test_keys_that_collide_are_refused():
    with pytest.raises(ValueError, match="hashes"):
        tagged.loads(tagged.dumps([{n * (2**61 - 1) for n in range(2000)}]))
