"""Reactions of particles, and answers of words alone."""

import re
from collections.abc import Sequence

_SMALL_WORDS = frozenset({"a", "an", "the", "is", "are", "be", "it", "statistics"})
_LABEL = re.compile(r"^ ?\\text ?\{ ?\([a-h]\) ?:?")
_WORD = re.compile(r"[^\W_]+(?:'\w+)?")
_ARROW = re.compile(r"\\(?:long)?rightarrow|\\to\b|→")
_MARK = r"(?:[_^](?:\{[^{}]*\}|\\?\w+|[+*-]))*"
_NO_REACTION = re.compile(r"=|\\frac|\d\.\d|\(|\\text|\\sqrt|\\cdot|(?<![\^_{+-])-(?![}+-])|\\math")
_LOOSE = re.compile(r" (?=[\^_{}])|(?<=[\^_{}]) ")
_NEUTRAL = re.compile(r"^(\\Lambda|\\gamma|\\nu|n)\^0$")  # particles that have no other charge
_TERM = re.compile(rf"\\bar(?:\\[A-Za-z]+|[A-Za-z]){_MARK}|(?:\\[A-Za-z]+|[A-Za-z]){_MARK}")


def same_words(gold: str, answer: str) -> bool:
    """Two texts of words alone that say the same but for case, articles and points."""
    if not (gold.lstrip().startswith("\\text") and answer.lstrip().startswith("\\text")):
        return False
    wanted, given = (
        _words(text.partition(":")[2] or text) for text in (gold, answer)
    )  # behind a label, as in "Polarization: ..."
    return wanted == given != []


def _words(text: str) -> list[str]:
    text = _LABEL.sub("", text)
    return [word for word in _WORD.findall(text.replace("\\text", " ").casefold()) if word not in _SMALL_WORDS]


def same_reaction(gold: str, answer: str) -> bool | None:
    """Whether two reactions have the same particles on each side, a plus between them or not; None where one is no reaction."""
    left, right = _ARROW.split(gold), _ARROW.split(answer)
    if not _is_reaction(left) or not _is_reaction(right):
        return None
    return all(_particles(a) == _particles(b) for a, b in zip(left, right, strict=True))


def _is_reaction(sides: Sequence[str]) -> bool:
    return (
        len(sides) == 2
        and not any(_NO_REACTION.search(side) for side in sides)
        and sum(len(_particles(side)) for side in sides) > 2
    )


def _particles(side: str) -> list[str]:
    side = _LOOSE.sub("", re.sub(r"\\overline", r"\\bar", side))
    side = re.sub(r"\\bar\{([^{}]*)\}", r"\\bar\1", side)
    return sorted(_NEUTRAL.sub(r"\1", re.sub(r"[{}]", "", term)) for term in _TERM.findall(side))
