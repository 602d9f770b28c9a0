"""What the policy decides in mathematics before anything is computed: percentages, ratios, bases, order, braces, left sides."""

import re
from fractions import Fraction

from data.domains.plain import equal_when_plain, squeezed
from data.domains.policy import Policy

_PERCENT = re.compile(r"^\s*([+-]?[\d.,]+)\s*(?:\\%|%|％)\s*$")
_RATIO = re.compile(r"^\s*(\d+)\s*(?::|：|\\colon)\s*(\d+)\s*$")
_BASE = re.compile(r"^\s*([0-9A-Za-z]+)\s*_\s*\{?\s*(?:\\text\s*\{)?(\d{1,2})\}?\}?\s*$")
_BRACED = re.compile(r"^\s*(?:\\left)?\s*\\\{.*\\\}\s*$", re.DOTALL)
_LEFT_SIDE = re.compile(r"^\s*\\?[A-Za-z][\w'{}()\\]*\s*=\s*(?=[^=])")


def decided_by_policy(gold: str, answer: str, policy: Policy) -> bool | None:
    """Whether the answer is right, where the policy alone decides; None where it does not."""
    for decide in (_percent, _ratio, _base, _form):
        decision = decide(gold, answer, policy)
        if decision is not None:
            return decision
    return None


def _percent(gold: str, answer: str, policy: Policy) -> bool | None:
    """50 % and 50, and 50 % and 0.5."""
    left, right = _PERCENT.match(gold), _PERCENT.match(answer)
    if left and right:
        return equal_when_plain(left[1], right[1])
    if not left and not right:
        return None
    percent, other = (left[1], answer) if left else (right[1] if right else "", gold)
    if policy.percent_is_optional and equal_when_plain(percent, other):
        return True
    value = _fraction(other)
    if value is None or (share := _fraction(percent)) is None:
        return None
    return policy.percent_has_value and share / 100 == value


def _fraction(text: str) -> Fraction | None:
    """A plain number, or a fraction of two."""
    simple = re.sub(r"\\[dt]?frac\s*\{?\s*(\d+)\s*\}?\s*\{?\s*(\d+)\s*\}?", r"\1/\2", squeezed(text)).replace(",", "")
    try:
        return Fraction(simple)
    except (ValueError, ZeroDivisionError):
        return None


def _ratio(gold: str, answer: str, policy: Policy) -> bool | None:
    """14:3 and 14/3; two ratios are equal when their quotients are."""
    left, right = _quotient(gold), _quotient(answer)
    if left is None and right is None:
        return None
    if left is not None and right is not None:
        return left == right
    values = [left if left is not None else _fraction(gold), right if right is not None else _fraction(answer)]
    return policy.ratio_is_quotient and values[0] == values[1] if None not in values else None


def _quotient(text: str) -> Fraction | None:
    ratio = _RATIO.match(text)
    return Fraction(int(ratio[1]), int(ratio[2])) if ratio and int(ratio[2]) else None


def _base(gold: str, answer: str, policy: Policy) -> bool | None:
    """101_2 and 101_2; its base may be left out, as the problem names it; 5 only by the policy."""
    left, right = _BASE.match(gold), _BASE.match(answer)
    values = [_value(gold), _value(answer)]
    if left and right:
        return values[0] == values[1] if None not in values else None
    based, other = (left, answer) if left else (right, gold)
    if based is None or not other.strip().isalnum() or None in values:
        return None
    return (left is not None and other.strip() == left[1]) or (policy.base_has_value and values[0] == values[1])


def _value(text: str) -> int | None:
    """Of a number with or without a base."""
    based = _BASE.match(text)
    try:
        return int(based[1], int(based[2])) if based else int(text)
    except ValueError:
        return None


def _form(gold: str, answer: str, policy: Policy) -> bool | None:
    """What the policy wants written as the gold is."""
    if not policy.braces_are_optional and bool(_BRACED.match(gold)) != bool(_BRACED.match(answer)):
        return False
    if not policy.left_side_is_optional and bool(_LEFT_SIDE.match(gold)) != bool(_LEFT_SIDE.match(answer)):
        return False
    return None


def items_in_order(text: str) -> list[str] | None:
    """The items of a list without brackets around it; None for anything else."""
    depth, items = 0, [""]
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            items.append("")
        else:
            items[-1] += character
    return [item.strip() for item in items] if len(items) > 1 else None
