"""The fast path: numbers and equal texts, decided in microseconds as Math-Verify would; and what not to evaluate at all."""

import re
from decimal import Context, Decimal

_NUMBER = re.compile(r"([+-]?)\s*(\d+(?:\.\d+)?|\.\d+)")
_SPACE_AROUND_SIGNS = re.compile(r"\s+(?=[^\w\s])|(?<=[^\w\s])\s+")
ROUNDING = 1e-6  # Math-Verify compares non-integers after rounding to this many decimals
_ROUNDING = Decimal("1e-6")
_EXACT = Context(prec=5000)
_SMALL = Decimal("1e-3")  # below it rounding would make different numbers equal, so they must agree relatively
_RELATIVE = Decimal("1e-6")

MAX_POWER_DIGITS, MAX_FACTORIAL, MAX_TERMS, MAX_NESTING, MAX_EXPANSION = 6, 2000, 10_000, 60, 150


def equal_when_plain(gold: str, answer: str, *, tolerance: float = ROUNDING) -> bool | None:
    """Whether both are the same; None when that takes more than looking at plain numbers and texts.

    Decimals are rounded to `tolerance` first, as Math-Verify does; 0 compares them exactly.
    """
    left, right = _number(gold), _number(answer)
    if left is not None and right is not None:
        return same_number(left, right) if tolerance == ROUNDING else left == right or _within(left, right, tolerance)
    return True if squeezed(gold) == squeezed(answer) else None


def squeezed(text: str) -> str:
    """Without the white space that changes nothing."""
    return _SPACE_AROUND_SIGNS.sub("", " ".join(text.split()))


def _within(left: Decimal, right: Decimal, tolerance: float) -> bool:
    return not (_is_written_whole(left) or _is_written_whole(right)) and abs(left - right) <= Decimal(tolerance)


def same_number(left: Decimal, right: Decimal) -> bool:
    """Equal, or both decimals and equal when rounded; small numbers relatively."""
    if left == right:
        return True
    if _is_written_whole(left) or _is_written_whole(right):
        return False
    if max(abs(left), abs(right)) < _SMALL:
        return abs(left - right) <= _RELATIVE * max(abs(left), abs(right))
    return left.quantize(_ROUNDING, context=_EXACT) == right.quantize(_ROUNDING, context=_EXACT)


def _is_written_whole(number: Decimal) -> bool:
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= 0


def _number(text: str) -> Decimal | None:
    match = _NUMBER.fullmatch(text.strip())
    return Decimal(match[1] + match[2]) if match else None


# ---------------------------------------------------------------- what SymPy would not come back from

_TOWER = re.compile(r"\^\s*\{?\s*(\d+)\s*\^\s*\{?\s*(\d+)")
_BIG_POWER = re.compile(rf"\^\s*\{{?\s*-?\d{{{MAX_POWER_DIGITS},}}")
_FACTORIAL = re.compile(r"(\d+)\s*!")
_BINOMIAL = re.compile(r"\\[dt]?binom\s*\{?\s*(\d+)")
_EXPANSION = re.compile(r"[+-][^()]*\)\s*\^\s*\{?\s*(\d+)")  # a power of a sum
_SERIES = re.compile(r"\\(?:sum|prod)\b.{0,60}?\^\s*\{?\s*(\d+)", re.DOTALL)


def is_too_large(text: str) -> str:
    """Why an expression must not be evaluated; empty when it may."""
    if _nesting(text) > MAX_NESTING:
        return f"brackets nested deeper than {MAX_NESTING}"
    if any(_power_digits(base, exponent) >= MAX_POWER_DIGITS for base, exponent in _TOWER.findall(text)):
        return "a power of a large power"
    if _BIG_POWER.search(text):
        return f"an exponent of {MAX_POWER_DIGITS} digits or more"
    for pattern, limit, what in (
        (_FACTORIAL, MAX_FACTORIAL, "a factorial"),
        (_BINOMIAL, MAX_FACTORIAL, "a binomial"),
        (_SERIES, MAX_TERMS, "a series"),
        (_EXPANSION, MAX_EXPANSION, "a power of a sum"),
    ):
        if any(len(match[1]) > 9 or int(match[1]) > limit for match in pattern.finditer(text)):
            return f"{what} beyond {limit}"
    return ""


def _power_digits(base: str, exponent: str) -> float:
    """Digits of base ** exponent, without computing it."""
    return len(base) * int(exponent[:9])


def _nesting(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest
