"""Letters of a multiple choice, compared as sets."""

import re

_SEPARATORS = re.compile(r"[\s,;、，和&.()]|\band\b")
_LETTERS = re.compile(r"[A-H]{1,8}")
_CHOICE = re.compile(r"\s*\(?([A-H])\)?\s*[).:、．]\s*(?!\d).+", re.DOTALL)  # a letter and the text it stands for
_MARKUP = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\b|\\[,;! ]|[{}$]")


def letters(text: str) -> frozenset[str] | None:
    """The letters of a choice; None when the text is something else. A letter may be followed by what it stands for."""
    plain = _MARKUP.sub("", text)
    joined = _SEPARATORS.sub("", plain)
    if _LETTERS.fullmatch(joined):
        return frozenset(joined)
    choice = _CHOICE.fullmatch(plain)
    return frozenset(choice[1]) if choice else None
