"""How numbers, answers and finished traces are written: words between single spaces."""

from collections.abc import Iterable

CODE_OPENING = "```python\ndef f(x): return"
CODE_CLOSING = "\n```"
CHAIN_OPENING = "compute left to right mod"

PHRASES: tuple[str, ...] = (CODE_OPENING, CODE_CLOSING, CHAIN_OPENING)
"""Texts that a word-level tokenizer should keep as one token each."""


def number(value: int) -> str:
    """`3`, or `- 3` for a negative one."""
    return str(value) if value >= 0 else f"- {-value}"


def signed(value: int) -> str:
    """A term that is added: `+ 3` or `- 3`."""
    return f"{'+' if value >= 0 else '-'} {abs(value)}"


def boxed(answer: str) -> str:
    """The form of a final answer outside of code."""
    return f"\\boxed{{ {answer} }}"


def trace(lines: Iterable[str], answer: str) -> str:
    """The thought, closed, and the answer."""
    thought = "\n".join(lines)
    return f"{thought} </think> {answer}".lstrip()
