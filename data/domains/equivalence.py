r"""Whether two answers are the same formula: both are evaluated at the same random points, at microseconds a point.

An answer is split into parts (`a = 1, \quad b = 2`) and a part at its relation signs (`E = m c^2 = 9 J`). The name on the left is free
where the right side is a formula; where it is a bare number the names must agree. Nothing symbolic happens, so nothing can hang.
"""

import re
from collections.abc import Sequence

from data.domains.expressions import READINGS, Expression, read
from data.domains.formulas.cursor import Reading
from data.domains.formulas.nodes import LETTERS, UnreadableError
from data.domains.formulas.notation import ARROWS
from data.domains.formulas.values import ExhaustedError, allow
from data.domains.reactions import same_reaction, same_words
from data.domains.statements import LESS, Part, parts
from data.domains.symbols import NUM_POINTS, Meanings, base_letter, meanings_of, values_at_points

EXACT = 1e-7  # relative tolerance where no number is rounded
_NUM_NEEDED = 3  # of the points that must have a value
_MAX_SYMBOLS = 25
MAX_WORK = 120_000  # nodes evaluated in one comparison


def equivalent(gold: str, answer: str, *, tolerance: float) -> bool | None:
    """Whether the answer says what the gold says; None where one of them cannot be read.

    `tolerance` is relative and holds where a number is written as a decimal; formulas of exact numbers must agree to `EXACT`.
    """
    if same_words(gold, answer):
        return True
    if (reactions_agree := same_reaction(gold, answer)) is not None:
        return reactions_agree
    allow(MAX_WORK)
    try:
        golds, answers = parts(gold), parts(answer)
        if not golds or not answers:
            return None
        if len(golds) == 1 and len(answers) > 1:
            answers = _of_the_same_name(golds[0], answers) or answers
        if len(golds) != len(answers):
            return False if all(map(_readable, [*golds, *answers])) else None
        return _match(golds, answers, tolerance=tolerance)
    except UnreadableError:
        return None
    except ExhaustedError:
        return False


def _match(golds: Sequence[Part], answers: Sequence[Part], *, tolerance: float) -> bool:
    """Each gold part has an answer part of its own; the order is free."""
    left = list(answers)
    for gold in golds:
        found = next((part for part in left if same_part(gold, part, tolerance=tolerance)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _of_the_same_name(gold: Part, answers: Sequence[Part]) -> list[Part]:
    if len(gold.sides) < 2:
        return []
    named = [part for part in answers if len(part.sides) > 1]
    same = [part for part in named if _bare(part.sides[0]) == _bare(gold.sides[0])]
    alike = [part for part in named if base_letter(_bare(part.sides[0])) == base_letter(_bare(gold.sides[0]))]
    return same[:1] or (alike if len(alike) == 1 else [])


def _readable(part: Part) -> bool:
    for side in part.sides:
        read(side, READINGS[0])
    return True


# ---------------------------------------------------------------- comparison of two statements


def same_part(gold: Part, answer: Part, *, tolerance: float) -> bool:
    """Two statements say the same. Raises UnreadableError."""
    unread: UnreadableError | None = None
    was_read = False
    for reading in READINGS:
        try:
            if _same(gold, answer, reading, tolerance=tolerance):
                return True
            was_read = True
        except ArithmeticError:  # values beyond what a float holds, so that nothing is shown
            was_read = True
        except UnreadableError as error:
            unread = error
    if not was_read and unread is not None:
        raise unread
    return False


def _same(gold: Part, answer: Part, reading: Reading, *, tolerance: float) -> bool:
    if gold.is_order != answer.is_order:
        return False
    if (
        not gold.is_order
        and _is_left_side(gold.sides[0])
        and _is_left_side(answer.sides[0])
        and _names_agree(gold, answer, reading)
    ):
        golds = gold.sides[1:] or gold.sides
        value = read(answer.value, reading)
        if any(_equal_values(read(side, reading), value, tolerance=tolerance) for side in golds):
            return True
    if len(gold.sides) == 2 and len(answer.sides) == 2 and not {gold.relations[0], answer.relations[0]} & ARROWS:
        return _same_equation(gold, answer, reading, tolerance=tolerance)
    return False


def _names_agree(gold: Part, answer: Part, reading: Reading) -> bool:
    """Names on the left are free, but for bare numbers."""
    if len(gold.sides) < 2:
        return len(answer.sides) < 2 or _is_name(answer.sides[0]) or not read(answer.sides[0], reading).symbols
    if len(answer.sides) < 2:
        return True
    left, right = _bare(gold.sides[0]), _bare(answer.sides[0])
    if not (_is_name(gold.sides[0]) and _is_name(answer.sides[0])):
        return left == right
    if read(gold.value, reading).symbols:
        return True
    return base_letter(left) == base_letter(right)


def _is_left_side(side: str) -> bool:
    """A formula, or words alone. Raises UnreadableError."""
    return bool(_WORDS.fullmatch(side)) or _is_name(side) or read(side, READINGS[0]) is not None


_WORDS = re.compile(r"\\text\{[^{}]*\}")
_APPLICATION = re.compile(r"\s*\(.*\)$", re.DOTALL)
_FONT = re.compile(r"\\(?:mathbf|boldsymbol|vec|hat|mathrm|text|mathcal|bm|overline|bar|langle|rangle)\b")


def _bare(side: str) -> str:
    """A name without its arguments, fonts and spaces."""
    return re.sub(r"[\s{}]", "", _FONT.sub("", _APPLICATION.sub("", side)))


_DIFFERENCE = re.compile(r"^\\(?:Delta|delta)\s+(?=[^\s_^])")


def _is_name(side: str) -> bool:
    """A symbol, perhaps with arguments, a difference or a derivative."""
    if side.startswith("\\frac") and "+" not in side and "-" not in side:
        return True
    try:
        return _is_symbol(read(_DIFFERENCE.sub("", _APPLICATION.sub("", side)), READINGS[0]))
    except UnreadableError:
        return False


# ---------------------------------------------------------------- numbers at random points


def _equal_values(gold: Expression, answer: Expression, *, tolerance: float) -> bool:
    limit = max(tolerance, gold.precision) if gold.precision or answer.precision else EXACT
    return any(
        _close_everywhere(gold, answer, meanings, limit) for meanings in meanings_of(gold.symbols, answer.symbols)
    )


def _close_everywhere(gold: Expression, answer: Expression, meanings: Meanings, limit: float) -> bool:
    num_pairs = 0
    for left, right in values_at_points((gold, answer), meanings):
        if abs(left - right) > limit * abs(left):
            return False
        num_pairs += 1
    return num_pairs >= _NUM_NEEDED


# ---------------------------------------------------------------- equations


def _same_equation(gold: Part, answer: Part, reading: Reading, *, tolerance: float) -> bool:
    """Left minus right of the one is a constant times that of the other, or both have the same root for a symbol of both."""
    sides = [read(side, reading) for side in (*gold.sides, *answer.sides)]
    golds, answers = sides[0].symbols | sides[1].symbols, sides[2].symbols | sides[3].symbols
    if (
        _is_symbol(sides[0])
        and _is_symbol(sides[2])
        and base_letter(*sides[0].symbols) == base_letter(*sides[2].symbols)
        and not gold.is_order
    ):
        return False  # both are solved for the same, and their values differ
    limit = max(tolerance, *(side.precision for side in sides)) if any(side.precision for side in sides) else EXACT
    for meanings in meanings_of(golds, answers):
        ratio = _constant_ratio(sides, meanings)
        if ratio is None:
            ratio = next(
                filter(None, (_same_roots(sides, meanings, name, limit) for name in sorted(golds | answers))), None
            )
        if ratio is not None:
            return not gold.is_order or _same_direction(gold, answer, ratio)
    return False


def _constant_ratio(sides: Sequence[Expression], meanings: Meanings) -> complex | None:
    """Of the differences of the sides; or its sign, where the quotient of the sides of one is a power of the other's."""
    rows = list(values_at_points(sides, meanings))
    if len(rows) < _NUM_NEEDED or any(
        _is_zero(row[0] - row[1], row[:2]) or _is_zero(row[2] - row[3], row[2:]) for row in rows
    ):
        return None
    ratios = [(row[0] - row[1]) / (row[2] - row[3]) for row in rows]
    if all(abs(ratio - ratios[0]) <= EXACT * abs(ratios[0]) for ratio in ratios):
        return ratios[0]
    if not all(map(all, rows)):
        return None
    quotients = [(row[0] / row[1], row[2] / row[3]) for row in rows]
    for power in _POWERS:
        if all(abs(left - right**power) <= EXACT * abs(left) for left, right in quotients):
            return power / abs(power)
    return None


_POWERS = (-1.0, 2.0, 0.5)  # n_1/n_2 for n_2/n_1, v^2 = a for v = sqrt(a)
_TRIALS = (0.3, 0.7, 1.1)


def _same_roots(sides: Sequence[Expression], meanings: Meanings, name: str, limit: float) -> complex | None:
    """Where both equations are linear in a symbol, and have the same root for it at every point: the ratio of their slopes."""
    num_symbols = len(frozenset[str]().union(*(side.symbols for side in sides)))
    if name.startswith(("[", "unit ")) or name in meanings or num_symbols > _MAX_SYMBOLS:
        return None
    tables = [list(values_at_points(sides, meanings, fixed={name: trial})) for trial in _TRIALS]
    if min(map(len, tables)) < NUM_POINTS:
        return None
    ratio: complex | None = None
    for rows in zip(*tables, strict=True):
        golds, answers = [row[0] - row[1] for row in rows], [row[2] - row[3] for row in rows]
        left, right = _root(golds), _root(answers)
        if left is None or right is None or abs(left - right) > limit * abs(left):
            return None
        ratio = (golds[1] - golds[0]) / (answers[1] - answers[0])
    return ratio


def _root(residuals: Sequence[complex]) -> complex | None:
    """Of a straight line through the trials; None for anything else, and for a line through zero."""
    first, second, third = residuals
    slope = (second - first) / (_TRIALS[1] - _TRIALS[0])
    bent = abs(third - second - slope * (_TRIALS[2] - _TRIALS[1]))
    if not abs(slope) or bent > EXACT * abs(third - first):
        return None
    root = _TRIALS[0] - first / slope
    return root if abs(root) > EXACT else None


def _is_symbol(expression: Expression) -> bool:
    return expression.node.head in LETTERS


def _is_zero(difference: complex, terms: Sequence[complex]) -> bool:
    return abs(difference) <= EXACT * max(map(abs, terms))


def _same_direction(gold: Part, answer: Part, ratio: complex) -> bool:
    direction = LESS[gold.relations[0]] * LESS[answer.relations[0]] * ratio.real
    strict = [relation in ("<", ">", "\\lt", "\\gt") for relation in (gold.relations[0], answer.relations[0])]
    return abs(ratio.imag) < EXACT * abs(ratio) and direction > 0 and strict[0] == strict[1]
