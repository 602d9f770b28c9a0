"""What counts as the answer of a response."""

import time

import pytest

from data.domains.extraction import (
    FinalLine,
    after_thinking,
    all_boxes,
    final_answer,
    final_boxes,
    final_line,
    language_named,
    last_box,
    last_code_block,
)


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
    ("text", "box"),
    [
        ("\\boxed 7", "7"), ("\\boxed7", "7"), ("so $\\boxed 1{,}", "1"), ("so $\\boxed 3.$", "3"), ("\\boxed 1,000.", "1,000"),
        ("\\boxed -3.5", "-3.5"), ("\\boxed .5", ".5"), ("\\boxed 1/2", "1/2"), ("\\fbox A.", "A"), ("$\\boxed x$", "x"),
        ("\\boxed\\frac12", "\\frac12"), ("\\boxed \\frac{1}{2}", "\\frac{1}{2}"), ("\\boxed\\sqrt {2}", "\\sqrt {2}"),
        ("\\boxed\\pi$", "\\pi"), ("\\boxed\\boxed{3}", "3"), ("\\boxed\\frac{1}{2", None),
        ("put it in \\boxed form", None), ("\\boxed{3}, as asked in \\boxed", "3"), ("\\boxedpi", None),
    ],
)  # fmt: skip
def test_a_box_without_braces_holds_a_number_a_letter_or_a_command(text, box):
    assert last_box(text) == box
    assert final_boxes(text) == (None if box is None else [box])


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{1} and \\boxed{2}",
        "\\boxed { 1 } , \\boxed { 2 }",
        "\\boxed{1}\\boxed{2}",
        "\\boxed 1 or \\boxed 2",
        "First \\boxed{9}. The solutions are $x=\\boxed{1}$ or $x=\\boxed{2}$.",
        "\\(\\boxed{1}\\) and \\(\\boxed{2}\\).",
        "$$\\boxed{1} \\quad \\text{and} \\quad \\boxed{2}$$",
        "$$\\boxed{1} \\text{ for part (a) and } \\boxed{2}$$",
        "\\($y_1 = \\boxed{1} \\) and \\( y_{2} = \\boxed{2} \\)",
        "f(1) = \\boxed{1}; f(2) = \\boxed{2}",
        "$\\angle ABC = \\boxed{1}$, $\\theta_1 = \\boxed{2}$",
        "x &= \\boxed{1} \\\\ y &= \\boxed{2}",
        "\\boxed{1} papers and \\boxed{2} bins",
        "\\boxed{1}\n\\boxed{2}",
        "(a) $\\boxed{1}$\n(b) $\\boxed{2}$",
        "1. \\boxed{1}\n2. \\boxed{2}",
        "\\[\n\\boxed{1}\n\\]\n\nand\n\n\\[\n\\boxed{2}\n\\]",
        "\\boxed{1}和\\boxed{2}",
        "\\boxed{1}、\\boxed{2}",
        "\\boxed{1}个或\\boxed{2}个",
        "\\boxed{\\boxed{1}} and \\boxed{\\boxed{2}}",
        "\\boxed{1}, \\boxed{}, \\boxed{2}, \\boxed{1}",
    ],
)
def test_boxes_that_stand_together_are_one_answer(text):
    assert final_boxes(text) == ["1", "2"]


@pytest.mark.parametrize(
    "text",
    [
        "First \\boxed{3}, no wait, actually \\boxed{5}.",
        "\\boxed{3}. So the answer is \\boxed{5}",
        "\\boxed{3}\nso the answer is \\boxed{5}",
        "\\boxed{3}\n\n\\boxed{5}",
        "\\boxed{3}, then \\boxed{5}",
        "\\boxed{3} and so \\boxed{5}",
        "\\boxed{3} is wrong and \\boxed{5}",
        "\\boxed{3} = \\boxed{5}",
        "\\boxed{3} \\times \\boxed{5}",
        "\\boxed{3} \\Rightarrow x = \\boxed{5}",
        "\\boxed{3}不对，\\boxed{5}",
        "\\boxed{3}或者说\\boxed{5}",
        "x = \\boxed{3}, so y = \\boxed{5}",
        "\\boxed{1} \\boxed{2} no no no no no \\boxed{5}",
        "\\boxed{3 and \\boxed{5}",
        "\\boxed{3}" + ", " * 60 + "\\boxed{5}",
    ],
)
def test_a_later_statement_counts_alone(text):
    assert final_boxes(text) == ["5"]


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("the answer is 3", None),
        ("\\boxed{1} and \\boxed{2", None),
        ("\\boxed{1} and \\boxed{ }", [""]),
        ("\\boxed{7} \\boxed{7} \\boxed{7}", ["7"]),
        ("\\boxed{\\boxed{3}}", ["3"]),
        ("\\boxed{x = \\boxed{3}}", ["3"]),
        ("So \\boxed{004} is it.\n\n**Final Answer**\n\\boxed{004}", ["004"]),
    ],
)
def test_the_final_statement_needs_a_closed_box_and_equal_boxes_count_once(text, boxes):
    assert final_boxes(text) == boxes


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("\\boxed{1}. Then \\boxed{2}, \\boxed{1}", ["1", "2"]),
        ("\\boxed{1} \\boxed{2", None),
        ("\\boxed{1 \\boxed{2}", None),
        ("\\boxed{\\boxed{3}}", ["3"]),
        ("none", None),
    ],
)
def test_all_boxes_are_given_if_all_are_closed(text, boxes):
    assert all_boxes(text) == boxes


@pytest.mark.parametrize(
    ("solution", "line"),
    [
        ("6*7 = 42\n#### 42", FinalLine(9, "42")),
        ("####42", FinalLine(0, "42")),
        ("so\n####  4 2 \n\n \t", FinalLine(3, "4 2")),
        ("#### 1\n#### 2", FinalLine(7, "2")),
        ("#### 42\ndone", None),
        ("so #### 42", None),
        (" #### 42", None),
        ("so\n####\n", None),
        ("", None),
    ],
)
def test_the_final_line_is_the_last_that_is_not_blank(solution, line):
    assert final_line(solution) == line


def test_a_solution_ends_with_its_last_box_else_with_its_final_line():
    assert final_answer("\\boxed{1}\n#### 2") == "1"
    assert final_answer("so\n#### 2") == "2"
    assert final_answer("\\boxed{1\nso") is None


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
        ("1. So:\n   ```python\n   def f():\n       return 1\n   ```", "def f():\n    return 1"),
        ("\t```python\n\tx = 1\n\t```", "x = 1"),
        ("```python\r\nx = 1\r\ny = 2\r\n```\r\n", "x = 1\ny = 2"),
        ("~~~~\nx = 1\n~~~\ny = 2\n~~~~", "x = 1\n~~~\ny = 2"),
        (
            '```python\ndef f():\n    """A.\n\n    ```\n    2 3\n    ```\n    """\n```',
            'def f():\n    """A.\n\n    ```\n    2 3\n    ```\n    """',
        ),
        ('```python\ns = """\n```\nx\n```\n"""\nprint(s)\n```\nIt\'s done.', 's = """\n```\nx\n```\n"""\nprint(s)'),
        ("```python\n# it's\nx = 1\n```\nThat's it: '''", "# it's\nx = 1"),
        ('```python title="a.py" linenums="1"\nx = 1\n```', "x = 1"),
        ("```{.python .numberLines}\nx = 1\n```", "x = 1"),
        ("```python {1,3}\nx = 1\n```", "x = 1"),
        ("```Python 3\nx = 1\n```", "x = 1"),
        ("```python3.11\nx = 1\n```", "x = 1"),
        ("```PyPy 3-64\nx = 1\n```", "x = 1"),
        ("```json\n{}\n```", None),
        ("````python\nx = 1\n```\ny\n````", "x = 1\n```\ny"),
        ("x = 1", None),
    ],
)
def test_the_last_closed_python_block_counts(text, code):
    assert last_code_block(text) == code


PYTHON_NAMES = (
    "python",
    "Python 3",
    "py3",
    "PyPy 3-64",
    "pypy3",
    "python3.11",
    "Python 3 (PyPy)",
    "PyPy 3.10",
    "CPython 3.8",
)
CPP_NAMES = ("c++", "cpp", "GNU C++17", "c++20", "C++ 17 (GCC 7-32)", "GNU G++17 7.3.0", "cpp17", "GNU C++20 (64)")
OTHER_NAMES = ("java", "c", "pythonista", "Rust 2021", "c#", "", "pyx", "c+", "x" * 100_000)


@pytest.mark.parametrize(("names", "language"), [(PYTHON_NAMES, "python"), (CPP_NAMES, "c++"), (OTHER_NAMES, "")])
def test_a_language_has_many_names(names, language):
    assert {name[:50]: language_named(name) for name in names} == {name[:50]: language for name in names}


RUNS = [
    "```",
    "```python\n",
    "~~~\n",
    '"""',
    "'''",
    "`",
    "'",
    '"',
    "#",
    " ```\n",
    "\t",
    "```x=",
    "{.",
    '```python title="',
    "\\",
]


@pytest.mark.parametrize("part", RUNS)
def test_any_run_of_signs_is_read_in_time(part):
    started = time.process_time()
    opened = "```python\n" + part * 20_000
    for text in (part * 20_000, opened, f"{opened}\n```", f"```python\n{part}\n```\n" * 5_000):
        last_code_block(text)
    assert time.process_time() - started < 2
