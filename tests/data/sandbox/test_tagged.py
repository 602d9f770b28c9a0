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


def test_what_would_be_hashed_is_a_bag_for_the_judge():
    assert tagged.parse(tagged.dumps({1: {2}})) == tagged.Bag("dict", ((1, tagged.Bag("set", (2,))),))


@pytest.mark.parametrize(
    "text",
    [
        '{"bytes": 5}',
        '{"tuple": [' * 400 + "]}" * 400,
        '{"int": 5}',
        "[" * 100_000,
        '{"set": 1}',
        '"\\ud800',
        "9" * 5000,
    ],
)
def test_nothing_but_a_value_error_comes_of_a_text(text):
    for read in (tagged.loads, tagged.parse):
        with pytest.raises(ValueError):
            read(text)


def test_a_text_of_too_many_values_is_refused_at_once():
    with pytest.raises(ValueError, match="ValueError"):
        tagged.parse("[" + "{}," * 1_000_000 + "1]")
