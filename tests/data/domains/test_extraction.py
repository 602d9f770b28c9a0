"""What counts as the answer of a response."""

import pytest

from data.domains.extraction import after_thinking, last_box, last_code_block


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("steps </think> rest", " rest"),
        ("<think> steps </think> rest", " rest"),
        ("a </think> b </think> c", " c"),
        ("steps < / think > rest", " rest"),
        ("no tag", None),
        ("<think> never closed", None),
        ("a </think> b <think> again", None),
        ("", None),
    ],
)
def test_only_the_text_after_the_last_closing_tag_counts(response, text):
    assert after_thinking(response, requires_thinking=True) == text


def test_a_plain_solution_counts_as_a_whole_when_thinking_is_not_required():
    assert after_thinking("\\boxed{3}", requires_thinking=False) == "\\boxed{3}"
    assert after_thinking("<think> \\boxed{3}", requires_thinking=False) is None


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("\\boxed{3}", "3"),
        ("\\boxed { 3 }", "3"),
        ("\\boxed{1} \\boxed{2}", "2"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{\\boxed{3}}", "3"),
        ("\\boxed{\n3\n}", "3"),
        ("\\boxed{}", ""),
        ("\\boxed{1} \\boxed{2", None),
        ("the answer is 3", None),
    ],
)
def test_the_last_box_counts_if_it_is_closed(text, box):
    assert last_box(text) == box


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        (" ```python\nx = 1\n ```", "x = 1"),
        ("```python x = 1 ```", "x = 1"),
        ("```\nx = 1\n```", "x = 1"),
        ("~~~py\nx = 1\n~~~", "x = 1"),
        ("```python\nx = 1\n```\n```python\nx = 2\n```", "x = 2"),
        ("```python\nx = 1\n```\noutput:\n```\n5\n```", "x = 1"),
        ("```cpp\nint x;\n```", None),
        ("```python\nx = 1\n```\n```python\nx = 2", None),
        ("```python\ns = '```'\n```", "s = '```'"),
        ("x = 1", None),
    ],
)
def test_the_last_closed_python_block_counts(text, code):
    assert last_code_block(text) == code
