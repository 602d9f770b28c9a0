"""Answers of words, and what nobody can read: the same but for case, articles, marks and white space."""

import re

from data.domains.formulas.lexer import is_word

_MARKUP = re.compile(r"\\(?:text|mathrm|mathbf|mathit|mathcal|left|right)(?![A-Za-z])|[{}$~]|\\[,;:! ]")
_SIGN = re.compile(r"[^\W\d_]+|\d+(?:\.\d+)?|\S")
_SMALL_WORDS = frozenset({"a", "an", "the"})
_WORDS = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


def same_words(gold: str, answer: str) -> bool:
    """Whether two normalised texts are the same words, or the same signs in the same order."""
    left, right = _plain(gold), _plain(answer)
    if left and _signs(left) == _signs(right):
        return True
    if not (_is_prose(left) and _is_prose(right)):
        return False
    wanted, given = _words(left), _words(right)
    return bool(wanted) and wanted == given


def _plain(text: str) -> str:
    return " ".join(_MARKUP.sub(" ", text).split())


def _signs(text: str) -> list[str]:
    """Words, numbers and signs; letters keep their case, words do not."""
    return [part.casefold() if is_word(part, is_prose=True) else part for part in _SIGN.findall(text)]


def _is_prose(text: str) -> bool:
    """A word, and nothing but letters with commas and stops between them."""
    words = _WORDS.findall(text)
    return any(is_word(word, is_prose=True) for word in words) and not _WORDS.sub("", text).strip(" ,.;")


def _words(text: str) -> list[str]:
    found = [word.casefold() if is_word(word, is_prose=True) else word for word in _WORDS.findall(text)]
    return [word for word in found if word.casefold() not in _SMALL_WORDS] or found
