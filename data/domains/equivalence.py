r"""Whether two answers are the same formula: both are evaluated at the same random points, at microseconds a point.

An answer is split into parts (`a = 1, \quad b = 2`) and a part at its relation signs (`E = m c^2 = 9 J`). The name on the left is free
where the right side is a formula; where it is a bare number the names must agree. Nothing symbolic happens, so nothing can hang.
"""

import cmath
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from data.domains.latex import READINGS, Expression, Reading, UnreadableError, read, stable_fraction, tokens
from data.domains.quantities import unit_in_base

EXACT = 1e-7  # relative tolerance where no number is rounded
SURE = 1e-12  # where nothing else will look again
_NUM_POINTS, _NUM_NEEDED = 6, 3
_MAX_INDICES, _MAX_SYMBOLS = 3, 25

_EQUAL = frozenset(
    {
        "=",
        "\\approx",
        "\\simeq",
        "\\sim",
        "\\equiv",
        "\\to",
        "\\rightarrow",
        "\\cong",
        "≈",
        "\\longrightarrow",
        "\\doteq",
        "\\Rightarrow",
        "\\implies",
    }
)
_LESS = {
    "<": 1,
    "\\le": 1,
    "\\leq": 1,
    "\\ll": 1,
    "\\lt": 1,
    "\\leqslant": 1,
    ">": -1,
    "\\ge": -1,
    "\\geq": -1,
    "\\gg": -1,
    "\\gt": -1,
    "\\geqslant": -1,
}
_PROPORTIONAL = frozenset({"\\propto"})
_RELATIONS = _EQUAL | _LESS.keys() | _PROPORTIONAL
_SEPARATORS = frozenset({",", ";", "\\quad", "\\qquad", "\\\\"})
_OPEN, _CLOSE = frozenset({"(", "[", "{", "\\{"}), frozenset({")", "]", "}", "\\}"})
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{(?:aligned|align\*?|split|gathered|equation\*?)\}")
_LABELLED = re.compile(r"^\s*\\text\{\s*\([a-h]\)\s*:?\s*(?:\\,)?\s*([^{}]*)\}$")
_LABEL = re.compile(
    r"^\s*(?:\\text\{\s*)?\(?[a-h]\)\s*:?(?:\\,|\\ |\s)*\}?|^\s*\\text\{[^{}]*:\s*\}(?:\s|\\,|\\;|\\ )*"
)
_CONDITION = re.compile(
    r"(?<![_^{])(?:,|\\quad|\\qquad|\\;|\\,|\\ |\s)*(?:"
    r"\\text\{\s*,?\s*(?:(?:for|at|when|where|if|with|as|in|and the|implies|which|valid)\s|where|\().*"
    r"|\\left\(\\text\{.*|\(\\text\{.*)$",
    re.DOTALL,
)
_SPACING = re.compile(r"\\text\{\s*(?:,|and|or|;)?\s*\}|\\text\{\s*(?:and|or)\s*\}")
_ABBREVIATIONS: dict[str, tuple[str, ...]] = {
    "\\beta": ("1/(kT)", "v/c", "1/\\tau"),
    "\\gamma": ("1/\\sqrt{1-\\beta^2}", "1/\\sqrt{1-v^2/c^2}"),
    "h": ("2\\pi\\hbar",),
    "\\mu_0": ("1/(\\epsilon_0c^2)",),
}

_CONSTANTS = {
    "R": "molar_gas_constant", "c": "speed_of_light", "m_e": "electron_mass", "m_p": "proton_mass", "h": "planck_constant",
    "\\hbar": "hbar", "k_B": "boltzmann_constant", "k": "boltzmann_constant", "N_A": "avogadro_constant",
    "G": "newtonian_constant_of_gravitation",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One statement of an answer: its sides, and the relation signs between them."""

    sides: tuple[str, ...]
    relations: tuple[str, ...]

    @property
    def value(self) -> str:
        return self.sides[-1]

    @property
    def is_order(self) -> bool:
        return any(relation in _LESS for relation in self.relations)


def equivalent(gold: str, answer: str, *, tolerance: float) -> bool | None:
    """Whether the answer says what the gold says; None where one of them cannot be read.

    `tolerance` is relative and holds where a number is written as a decimal; formulas of exact numbers must agree to `EXACT`.
    """
    if same_words(gold, answer):
        return True
    if (reactions_agree := same_reaction(gold, answer)) is not None:
        return reactions_agree
    golds, answers = parts(gold), parts(answer)
    if not golds or not answers:
        return None
    try:
        if len(golds) == 1 and len(answers) > 1:
            answers = _of_the_same_name(golds[0], answers) or answers
        if len(golds) != len(answers):
            return False if all(map(_readable, [*golds, *answers])) else None
        return _match(golds, answers, tolerance=tolerance)
    except UnreadableError:
        return None


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
    alike = [part for part in named if _base(_bare(part.sides[0])) == _base(_bare(gold.sides[0]))]
    return same[:1] or (alike if len(alike) == 1 else [])


def _readable(part: Part) -> bool:
    for side in part.sides:
        read(side, READINGS[0])
    return True


def equal_at_points(gold: str, answer: str) -> bool | None:
    """Whether two formulas of mathematics agree at every point; None where that says nothing.

    Numbers without symbols could agree by rounding, so they count only where degrees or zeta stand, which Math-Verify does not read.
    """
    differ = None
    for reading in READINGS:
        try:
            left, right = read(gold, reading), read(answer, reading)
        except UnreadableError:
            continue
        if left.precision or right.precision or not (left.symbols or right.symbols or _SPECIAL.search(gold + answer)):
            continue
        if left.symbols == right.symbols and _close_everywhere(left, right, {}, SURE):
            return True
        if len(_values_at_points((left, right), {})) >= _NUM_NEEDED:
            differ = False
    return differ


_SPECIAL = re.compile(r"\\circ|°|\\zeta|\\degree")


# ---------------------------------------------------------------- words and reactions

_SMALL_WORDS = frozenset({"a", "an", "the", "is", "are", "be", "it", "statistics"})
_WORD = re.compile(r"[^\W_]+(?:'\w+)?")
_ARROW = re.compile(r"\\(?:long)?rightarrow|\\to\b|→")
_MARK = r"(?:[_^](?:\{[^{}]*\}|\\?\w+|[+*-]))*"
_NO_REACTION = re.compile(r"=|\\frac|\d\.\d|\(|\\text|\\sqrt|\\cdot|(?<![\^_{+-])-(?![}+-])|\\math")
_TERM = re.compile(rf"\\bar(?:\\[A-Za-z]+|[A-Za-z]){_MARK}|(?:\\[A-Za-z]+|[A-Za-z]){_MARK}")


def same_words(gold: str, answer: str) -> bool:
    """Two texts of words alone that say the same but for case, articles and points."""
    if not (gold.lstrip().startswith("\\text") and answer.lstrip().startswith("\\text")):
        return False
    wanted, given = _words(gold), _words(answer)
    return wanted == given != []


def _words(text: str) -> list[str]:
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
    side = re.sub(r"\\overline", r"\\bar", side).replace(" ", "")
    side = re.sub(r"\\bar\{([^{}]*)\}", r"\\bar\1", side)
    return sorted(re.sub(r"[{}]", "", term) for term in _TERM.findall(side))


# ---------------------------------------------------------------- parts


def parts(text: str) -> list[Part]:
    """The statements of an answer, without labels, conditions and words around them."""
    text = _LABELLED.sub(r"\\text{\1}", text)
    text = _ENVIRONMENT.sub("", text).replace("&", " ")
    text = _SPACING.sub(" , ", text)
    text = _CONDITION.sub("", _LABEL.sub("", text))
    found = [_part(chunk) for piece in _split(tokens(text)) if (chunk := _without_condition(piece))]
    statements = [part for part in found if not _is_condition(part)] or found[:1]
    return [expanded for part in statements for expanded in _both_signs(part)]


def _split(items: Sequence[str]) -> Iterator[list[str]]:
    """Pieces between separators outside all brackets."""
    depth, piece = 0, list[str]()
    for item in items:
        depth += (item in _OPEN or item == "\\begin") - (item in _CLOSE or item == "\\end")
        if depth <= 0 and item in _SEPARATORS:
            yield piece
            piece = []
        else:
            piece.append(item)
    yield piece


def _without_condition(piece: list[str]) -> list[str]:
    """Without a closing bracket that holds a condition, as (r > R), and the full stop."""
    while piece and piece[-1] in (".", ",", ":"):
        piece = piece[:-1]
    if piece and piece[-1] == ")":
        depth = 0
        for start in range(len(piece) - 1, -1, -1):
            depth += (piece[start] in _CLOSE) - (piece[start] in _OPEN)
            if depth == 0:
                inside = piece[start:]
                if (
                    start
                    and any(item in _LESS or item in _EQUAL for item in inside)
                    and any(i in _EQUAL for i in piece[:start])
                ):
                    return _without_condition(piece[:start])
                break
    return piece


def _part(piece: Sequence[str]) -> Part:
    sides, relations, depth = [[]], [], 0
    for item in piece:
        depth += (item in _OPEN) - (item in _CLOSE)
        if depth == 0 and item in _RELATIONS:
            relations.append(item)
            sides.append([])
        else:
            sides[-1].append(item)
    texts = [" ".join(side) for side in sides]
    if relations and not texts[0]:  # as in "≈ 3"
        texts, relations = texts[1:], relations[1:]
    return Part(tuple(texts), tuple(relations))


def _is_condition(part: Part) -> bool:
    if len(part.sides) == 1 and part.value.startswith("(") and any(item in _LESS for item in part.value.split()):
        return True
    return part.is_order or "\\ldots" in part.value or "\\dots" in part.value or "..." in part.value.replace(" ", "")


def _both_signs(part: Part) -> list[Part]:
    if not any("\\pm" in side or "\\mp" in side for side in part.sides[-1:]):
        return [part]

    def signed(plus: str, minus: str) -> Part:
        sides = [side.replace("\\pm", plus).replace("\\mp", minus) for side in part.sides]
        return Part(tuple(sides), part.relations)

    return [signed("+", "-"), signed("-", "+")]


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
    if len(gold.sides) == 2 and len(answer.sides) == 2:
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
    return _base(left) == _base(right)


def _is_left_side(side: str) -> bool:
    """A formula, or words alone. Raises UnreadableError."""
    return bool(_WORDS.fullmatch(side)) or _is_name(side) or read(side, READINGS[0]) is not None


_WORDS = re.compile(r"\\text\{[^{}]*\}")
_APPLICATION = re.compile(r"\s*\(.*\)$", re.DOTALL)
_FONT = re.compile(r"\\(?:mathbf|boldsymbol|vec|hat|mathrm|text|mathcal|bm|overline|bar|langle|rangle)\b")


def _bare(side: str) -> str:
    """A name without its arguments, fonts and spaces."""
    return re.sub(r"[\s{}]", "", _FONT.sub("", _APPLICATION.sub("", side)))


_DIFFERENCE = re.compile(r"^\\(?:Delta|delta)\s+(?=\S)")


def _is_name(side: str) -> bool:
    """A symbol, perhaps with arguments, a difference or a derivative."""
    if side.startswith("\\frac") and "+" not in side and "-" not in side:
        return True
    try:
        return _is_symbol(read(_DIFFERENCE.sub("", _APPLICATION.sub("", side)), READINGS[0]))
    except UnreadableError:
        return False


def _base(name: str) -> str:
    """The letter of a symbol, without accents, subscripts and marks."""
    if name.startswith("^"):
        return name
    return name.split("_")[0].split("^")[0].rstrip("'*+-").split(" ")[-1]


# ---------------------------------------------------------------- numbers at random points

Meanings = Mapping[str, Callable[["_Point"], complex]]  # symbol -> its value from the values of the others


def _equal_values(gold: Expression, answer: Expression, *, tolerance: float) -> bool:
    limit = max(tolerance, gold.precision) if gold.precision or answer.precision else EXACT
    return any(_close_everywhere(gold, answer, meanings, limit) for meanings in _meanings(gold.symbols, answer.symbols))


def _close_everywhere(gold: Expression, answer: Expression, meanings: Meanings, limit: float) -> bool:
    pairs = _values_at_points((gold, answer), meanings)
    return len(pairs) >= _NUM_NEEDED and all(abs(left - right) <= limit * abs(left) for left, right in pairs)


def _values_at_points(
    expressions: Sequence[Expression], meanings: Meanings, *, fixed: Mapping[str, complex] | None = None
) -> list[tuple[complex, ...]]:
    """The values of the expressions at each point where all have one; `fixed` symbols are the same at all."""
    found = []
    for point in range(_NUM_POINTS):
        plain, values = _Point(point), _Point(point)
        plain.update(fixed or {})
        values.update(fixed or {})
        try:
            values.update((name, meaning(plain)) for name, meaning in meanings.items())
            row = tuple(complex(expression.at(values)) for expression in expressions)
        except (ArithmeticError, ValueError, TypeError, RecursionError):
            continue
        if all(map(cmath.isfinite, row)):
            found.append(row)
    return found


class _Point(dict[str, complex]):
    """The values of all symbols at one point, made when asked for."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __missing__(self, name: str) -> complex:
        return self.setdefault(name, _value(name, self.number))


def _value(name: str, point: int) -> complex:
    """Positive; below one at every second point, so that roots as of 1 - v^2 are real; units in base units of random size."""
    if name.startswith("["):
        unit = unit_in_base(name[1:-1])
        assert unit is not None
        factor, powers = unit
        for base, power in powers:
            factor *= (0.5 + stable_fraction(base, point)) ** power
        return factor
    if name == "constant":
        return 0.0
    scale = 0.9 if point % 2 == 0 else 2.5
    return 0.05 + scale * stable_fraction(name, point)


# ---------------------------------------------------------------- what symbols stand for


def _meanings(golds: frozenset[str], answers: frozenset[str]) -> Iterator[Meanings]:
    """Ways to take the symbols of one for those of the other: as they are, subscripts left out, standard abbreviations."""
    yield {}
    only_gold, only_answer = golds - answers, answers - golds
    if not only_gold and not only_answer:
        return
    units = {name for name in only_gold | only_answer if name.startswith(("unit ", "[", "count "))}
    one_sided = not (units & only_gold and units & only_answer)
    bare: Meanings = {name: lambda _: 1.0 for name in units} if one_sided and len(units) == 1 else {}
    if bare:
        yield bare
    if units == {"unit \\theta", "unit \\phi"}:  # the azimuth has both names
        bare = {"unit \\phi": _as("unit \\theta")}
        yield bare
    if constants := _constants(only_gold, only_answer):
        yield constants
    same = _same_letters(only_gold - units, only_answer - units) if golds & answers else {}
    if same:
        yield {**bare, **{name: _as(other) for name, other in same.items()}}
    yield from _other_indices(only_gold - units, only_answer - units)
    for name in sorted(only_gold | only_answer):
        for text in _ABBREVIATIONS.get(name, ()):
            meaning = read(text, READINGS[0])
            others = answers if name in golds else golds
            aliases = _same_letters(others, meaning.symbols - others)
            yield {name: _meaning(meaning, aliases)} | {a: _as(b) for a, b in same.items() if a != name}


def _constants(golds: frozenset[str], answers: frozenset[str]) -> Meanings:
    """Constants of nature on one side and nothing but units on the other."""
    for units, constants in ((golds, answers), (answers, golds)):
        if units and constants and all(name.startswith("[") for name in units) and constants <= _CONSTANTS.keys():
            return {name: _as(f"[{_CONSTANTS[name]}]") for name in constants}
    return {}


def _other_indices(golds: frozenset[str], answers: frozenset[str]) -> Iterator[Meanings]:
    """All symbols that differ are the same letters with other subscripts, as n', n for n_1, n_2."""
    if (
        len(golds) != len(answers)
        or not 2 <= len(golds) <= _MAX_INDICES
        or sorted(map(_letter, golds)) != sorted(map(_letter, answers))
    ):
        return
    for order in itertools.permutations(sorted(golds)):
        if all(_letter(name) == _letter(other) for name, other in zip(sorted(answers), order, strict=True)):
            yield {name: _as(other) for name, other in zip(sorted(answers), order, strict=True)}


def _as(other: str) -> Callable[["_Point"], complex]:
    return lambda values: values[other]


def _meaning(expression: Expression, aliases: Mapping[str, str]) -> Callable[["_Point"], complex]:
    def value(values: "_Point") -> complex:
        return expression.at({name: values[aliases.get(name, name)] for name in expression.symbols})

    return value


def _same_letters(golds: Iterable[str], answers: Iterable[str]) -> dict[str, str]:
    """Answer's symbol -> gold's, where a letter is left once on each side and only its subscript, case or accent differs."""
    found = {}
    golds, answers = sorted(golds), sorted(answers)
    for name in answers:
        partners = [other for other in golds if _base(other) == _base(name) and _is_shorter(name, other)]
        partners = partners or [other for other in golds if other.casefold() == name.casefold() and "_" in name]
        rivals = [other for other in answers if _base(other) == _base(name)]
        if len(partners) == 1 and len(rivals) == 1:
            found[name] = partners[0]
    return found


def _letter(name: str) -> str:
    """A symbol without its subscript, but with its accent."""
    return " ".join([*name.split("_")[0].split()[:-1], _base(name)])


def _is_shorter(left: str, right: str) -> bool:
    """Whether one name is the other with less of a subscript."""
    (a, _, first), (b, _, second) = left.partition("_"), right.partition("_")
    return a.split()[:-1] == b.split()[:-1] and (first.startswith(second) or second.startswith(first))


# ---------------------------------------------------------------- equations


def _same_equation(gold: Part, answer: Part, reading: Reading, *, tolerance: float) -> bool:
    """Left minus right of the one is a constant times that of the other, or both have the same root for a symbol of both."""
    sides = [read(side, reading) for side in (*gold.sides, *answer.sides)]
    golds, answers = sides[0].symbols | sides[1].symbols, sides[2].symbols | sides[3].symbols
    if (
        _is_symbol(sides[0])
        and _is_symbol(sides[2])
        and _base(*sides[0].symbols) == _base(*sides[2].symbols)
        and not gold.is_order
    ):
        return False  # both are solved for the same, and their values differ
    limit = max(tolerance, *(side.precision for side in sides)) if any(side.precision for side in sides) else EXACT
    for meanings in _meanings(golds, answers):
        ratio = _constant_ratio(sides, meanings)
        if ratio is None:
            ratio = next(
                filter(None, (_same_roots(sides, meanings, name, limit) for name in sorted(golds | answers))), None
            )
        if ratio is not None:
            return not gold.is_order or _same_direction(gold, answer, ratio)
    return False


def _constant_ratio(sides: Sequence[Expression], meanings: Meanings) -> complex | None:
    rows = _values_at_points(sides, meanings)
    if len(rows) < _NUM_NEEDED or any(
        _is_zero(row[0] - row[1], row[:2]) or _is_zero(row[2] - row[3], row[2:]) for row in rows
    ):
        return None
    ratios = [(row[0] - row[1]) / (row[2] - row[3]) for row in rows]
    if all(abs(ratio - ratios[0]) <= EXACT * abs(ratios[0]) for ratio in ratios):
        return ratios[0]
    inverse = all(
        abs(row[0] * row[2] - row[1] * row[3]) <= EXACT * abs(row[0] * row[2]) and row[0] and row[2] for row in rows
    )
    squares = all(
        abs(row[0] * row[3] ** 2 - row[1] * row[2] ** 2) <= EXACT * abs(row[0] * row[3] ** 2) and row[0] and row[3]
        for row in rows
    )
    roots = all(
        abs(row[0] ** 2 * row[3] - row[1] ** 2 * row[2]) <= EXACT * abs(row[0] ** 2 * row[3]) and row[0] and row[3]
        for row in rows
    )
    return -1.0 if inverse or squares or roots else None


_TRIALS = (0.3, 0.7, 1.1)


def _same_roots(sides: Sequence[Expression], meanings: Meanings, name: str, limit: float) -> complex | None:
    """Where both equations are linear in a symbol, and have the same root for it at every point: the ratio of their slopes."""
    num_symbols = len(frozenset[str]().union(*(side.symbols for side in sides)))
    if name.startswith(("[", "unit ")) or name in meanings or num_symbols > _MAX_SYMBOLS:
        return None
    tables = [_values_at_points(sides, meanings, fixed={name: trial}) for trial in _TRIALS]
    if min(map(len, tables)) < _NUM_POINTS:
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
    return len(expression.symbols) == 1 and expression.at(dict.fromkeys(expression.symbols, 0.25)) == 0.25


def _is_zero(difference: complex, terms: Sequence[complex]) -> bool:
    return abs(difference) <= EXACT * max(map(abs, terms))


def _same_direction(gold: Part, answer: Part, ratio: complex) -> bool:
    direction = _LESS[gold.relations[0]] * _LESS[answer.relations[0]] * ratio.real
    strict = [relation in ("<", ">", "\\lt", "\\gt") for relation in (gold.relations[0], answer.relations[0])]
    return abs(ratio.imag) < EXACT * abs(ratio) and direction > 0 and strict[0] == strict[1]
