"""The fast path: numbers and equal texts, decided in microseconds."""

import re
from fractions import Fraction

_NUMBER = re.compile(r"([+-]?) ?(\d{1,1500}(?:\.\d{1,1500})?|\.\d{1,1500})")
_SPACE_AROUND_SIGNS = re.compile(r" (?=[^\w ])|(?<=[^\w ]) ")


def equal_when_plain(gold: str, answer: str, *, places: int = 6) -> bool | None:
    """Whether both are the same; None when that takes more than looking at plain numbers and texts.

    A decimal of at least `places` places, and as many significant digits, may stand for a longer one that it is the rounding of; 0: never.
    """
    left, right = _NUMBER.fullmatch(gold), _NUMBER.fullmatch(answer)
    if left is not None and right is not None:
        return _same_number(left[1] + left[2], right[1] + right[2], places)
    return True if squeezed(gold) == squeezed(answer) else None


def squeezed(text: str) -> str:
    """Without the white space that changes nothing."""
    return _SPACE_AROUND_SIGNS.sub("", " ".join(text.split()))


def _same_number(left: str, right: str, places: int) -> bool:
    a, b = Fraction(left), Fraction(right)
    if a == b:
        return True
    shorter = min(len(left.partition(".")[2]), len(right.partition(".")[2]))
    if not places or shorter < places:
        return False
    scale = 10**shorter
    return abs(a - b) * scale <= Fraction(1, 2) and min(abs(a), abs(b)) * scale >= 10 ** (places - 1)
