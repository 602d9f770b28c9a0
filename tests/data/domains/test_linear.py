"""What reads texts of a model's making takes time in proportion to their length, whatever they hold."""

import contextlib
import inspect
import time
from collections.abc import Callable, Iterator

import pytest

from data.domains import choices, extraction, plain, reactions, statements
from data.domains.formulas import lexer, normal, words

MODULES = (extraction, normal, lexer, words, plain, choices, reactions, statements)
ARGUMENTS = {
    "requires_thinking": True,
    "languages": ("python", "c++"),
    "is_prose": True,
    "num_options": None,
}  # by parameter
LENGTH = 20_000
LIMIT_SECONDS = 0.4  # of CPU; the slowest linear one takes 0.05, a search for `\s+$` in spaces 1.1 (measured)

PIECES = (
    " ", "\t", "\n", " \n", "{", "}", "{}", "`", "~", "#", "7", "a", "$", "\\", "\\ ", "<", "< ", "</", ",", "(", "\\{",
    "\\boxed", "\\boxed{", "\\boxed{}", "\\boxed{1} and ", "\\boxed 1, ", "\\boxed\\frac", "\\boxed\\frac{", "\\fbox{\\frac{1}",
    "\\boxed{1}" + " " * 99, "\\boxed{1}" + "a " * 45 + "and ", "\\boxed{1}\nx = ", "\\boxed{1}" + "x_1 (a) " * 12,
    "\\boxed{1}" + "(a" * 40, "\\boxed{1}" + "\n  " * 30, "和", "\\boxed{1}" + "和" * 90,
    "\\text{", "<think>", "</think>", "< / think", "#### ", "#### 1\n",
    "```\n", "``` ", "```py\n", " ```x", "```a\n~~~\n", "```\n```` ", "x\n",
)  # fmt: skip


def functions() -> Iterator[Callable]:
    for module in MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                yield function


def called(function: Callable, text: str) -> None:
    """With the text first, and the other parameters without a default from `ARGUMENTS`, or the text again."""
    _, *others = inspect.signature(function).parameters.values()
    given = {other.name: ARGUMENTS.get(other.name, text) for other in others if other.default is other.empty}
    with contextlib.suppress(ValueError):  # no formula
        function(text, **given)


def texts() -> Iterator[str]:
    for piece in PIECES:
        whole = (piece * LENGTH)[:LENGTH]
        yield from (whole, "x\n####" + whole, whole + "x", "\\boxed{1}" + whole)
    yield "\\boxed{" * (LENGTH // 8) + "}" * (LENGTH // 8)
    yield "".join("`" * length + "\n" + "`" * length + "\n" for length in range(3, 220))


@pytest.mark.slow
@pytest.mark.parametrize("function", functions(), ids=lambda function: f"{function.__module__}.{function.__name__}")
def test_every_function_of_a_text_is_linear_in_its_length(function):
    for text in texts():
        started = time.process_time()
        called(function, text)
        seconds = time.process_time() - started
        assert seconds < LIMIT_SECONDS, f"{text[:40]!r}... of {len(text)} characters took {seconds:.1f} s"
