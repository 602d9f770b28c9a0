"""What symbols stand for: their values at random points, and what may stand for what.

A point gives every symbol a value that depends on its name alone. Units are symbols, too: a factor and powers of base units of random
size, so that a comparison of values checks dimensions and converts.
"""

import cmath
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from data.domains.expressions import READINGS, Expression, read
from data.domains.formulas.values import stable_fraction
from data.domains.quantities import unit_in_base

NUM_POINTS = 6
_NUM_POSITIVE = 3  # points at which all symbols are positive
_OF_BOTH_SIGNS = frozenset({"x", "y", "z", "q", "\\theta", "\\phi"})
_MAX_INDICES = 3
_LARGEST = 1e150  # a value beyond it is none, so that squares do not overflow
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


Meanings = Mapping[str, Callable[["Point"], complex]]  # symbol -> its value from the values of the others


def values_at_points(
    expressions: Sequence[Expression], meanings: Meanings, *, fixed: Mapping[str, complex] | None = None
) -> Iterator[tuple[complex, ...]]:
    """The values of the expressions at each point where all have one; `fixed` symbols are the same at all."""
    for point in range(NUM_POINTS):
        plain, values = Point(point), Point(point)
        plain.update(fixed or {})
        values.update(fixed or {})
        try:
            values.update((name, meaning(plain)) for name, meaning in meanings.items())
            row = tuple(complex(expression.at(values)) for expression in expressions)
        except (ArithmeticError, ValueError, TypeError, RecursionError):
            continue
        if all(cmath.isfinite(value) and max(abs(value.real), abs(value.imag)) < _LARGEST for value in row):
            yield row


class Point(dict[str, complex]):
    """The values of all symbols at one point, made when asked for."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __missing__(self, name: str) -> complex:
        return self.setdefault(name, _value(name, self.number))


@lru_cache(maxsize=1 << 14)
def _value(name: str, point: int) -> complex:
    """Positive, but for coordinates, charges and angles at the last points; units in base units of random size.

    Below one at every second point, so that roots as of 1 - v^2 are real.
    """
    if name.startswith("[") and (unit := unit_in_base(name[1:-1])) is not None:
        factor, powers = unit
        for base, power in powers:
            factor *= (0.5 + stable_fraction(base, point)) ** power
        return factor
    if name == "constant":
        return 0.0
    scale = 0.9 if point % 2 == 0 else 2.5
    size = 0.05 + scale * stable_fraction(name, point)
    is_negative = base_letter(name) in _OF_BOTH_SIGNS and stable_fraction(name, point, "sign") < 0.5
    return -size if is_negative and point >= _NUM_POSITIVE else size


def meanings_of(golds: frozenset[str], answers: frozenset[str]) -> Iterator[Meanings]:
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
    if letters := _unit_letters(only_gold, only_answer):
        yield letters
    if derivatives := _derivatives(only_gold, only_answer):
        yield derivatives
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


def _unit_letters(golds: frozenset[str], answers: frozenset[str]) -> Meanings:
    """A unit in italics on one side and upright on the other."""
    pairs = [(name, f"[{name}]") for name in golds | answers if f"[{name}]" in golds | answers]
    return {name: _as(unit) for name, unit in pairs if (name in golds) != (unit in golds)}


def _derivatives(golds: frozenset[str], answers: frozenset[str]) -> Meanings:
    """One writes all derivatives with d, and the other with the sign of partial ones."""
    partial = {name: name.replace("\\partial", "d") for name in golds | answers if name.split()[0] == "\\partial"}
    if not partial or set(partial.values()) != {name for name in golds | answers if name.split()[0] == "d"}:
        return {}
    return {name: _as(total) for name, total in partial.items()}


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


def _as(other: str) -> Callable[["Point"], complex]:
    return lambda values: values[other]


def _meaning(expression: Expression, aliases: Mapping[str, str]) -> Callable[["Point"], complex]:
    def value(values: "Point") -> complex:
        return expression.at({name: values[aliases.get(name, name)] for name in expression.symbols})

    return value


def _same_letters(golds: Iterable[str], answers: Iterable[str]) -> dict[str, str]:
    """Answer's symbol -> gold's, where a letter is left once on each side and only its subscript, case or accent differs."""
    found = {}
    golds, answers = sorted(golds), sorted(answers)
    for name in answers:
        partners = [other for other in golds if base_letter(other) == base_letter(name) and _is_shorter(name, other)]
        partners = partners or [other for other in golds if other.casefold() == name.casefold() and "_" in name]
        rivals = [other for other in answers if base_letter(other) == base_letter(name)]
        if len(partners) == 1 and len(rivals) == 1:
            found[name] = partners[0]
    return found


def _letter(name: str) -> str:
    """A symbol without its subscript, but with its accent."""
    return " ".join([*name.split("_")[0].split()[:-1], base_letter(name)])


def _is_shorter(left: str, right: str) -> bool:
    """Whether one name is the other with less of a subscript."""
    (a, _, first), (b, _, second) = left.partition("_"), right.partition("_")
    return a.split()[:-1] == b.split()[:-1] and (first.startswith(second) or second.startswith(first))


def base_letter(name: str) -> str:
    """The letter of a symbol, without accents, subscripts and marks."""
    if name.startswith("^"):
        return name
    return name.split("_")[0].split("^")[0].rstrip("'*+-").split(" ")[-1]
