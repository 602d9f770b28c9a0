r"""Numbers with units: dimension checked, converted, compared within a relative tolerance.

In: two texts as `v = 3.0 \times 10^{8}\ \mathrm{m/s}`. Out: a `Comparison`, or None where one is no number with or without a unit.
A text beyond `_MAX_CHARACTERS`, and a number beyond what a float holds, is none. Units: `data/domains/units.py`.

An angle that only one side has counts as one, in the unit it is written in: 5 Hz and 5 rev/s are 5 s^{-1}, and so are 5 rad/s; but 5 Hz is
31.4 rad/s. A unit that could as well be a variable (the m of `2m`; of `20m`, `2 m` and `2\,\mathrm{m}` it is a metre) is one only where the
other side has a unit for certain.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from data.domains.unit_names import constant_named, unit_named
from data.domains.units import FONTS, MAX_CHARACTERS, Unit, readings

_ANGLES = frozenset({"radian", "turn"})

FINEST, _ROUGHEST = 0.0005, 0.01  # tolerances taken from how a number is written lie between
_ROUNDING = 1e-12  # of a conversion, relative
_ICE_POINT_ROUNDING = 0.16  # kelvin: 273 for 273.15
_MAX_CHARACTERS, _MAX_DIGITS = 640, 400


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two quantities are the same, and how that was decided."""

    equal: bool
    reason: str
    used_units: bool = False  # both had one
    is_scientific: bool = False  # both were numbers alone, one with a power of ten
    converted: bool = False  # the units differed in size
    words_differ: bool = False  # things as apples and pears; not equal, but a caller may know them to be the same


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and what its unit may mean."""

    number: float
    units: tuple[Unit, ...]  # the likeliest first; empty for a number alone
    unit_text: str
    is_certain: bool  # the unit cannot be a variable
    has_power: bool  # written with a power of ten
    is_fraction: bool
    precision: float  # half a unit of the last digit, relative, at most 1 %


def compare_quantities(gold: str, answer: str, *, tolerance: float | None) -> Comparison | None:
    """Compare two numbers with units; None when either is something else. A missing unit is not held against an answer.

    `tolerance` is relative; None takes half a unit of the gold's last digit, within 0.05 % and 1 %.
    """
    wanted, given = quantity(gold), quantity(answer)
    if wanted is None or given is None:
        return None
    if wanted.units and given.units:
        return _with_units(wanted, given, tolerance) if wanted.is_certain or given.is_certain else None
    with_unit = wanted if wanted.units else given
    is_decided = with_unit.is_certain if with_unit.units else not (wanted.is_fraction or given.is_fraction)
    if not is_decided:  # fractions alone are formulas
        return None
    return Comparison(
        _close(wanted.number, given.number, _tolerance(wanted, tolerance)),
        "compared as numbers",
        is_scientific=not with_unit.units and (wanted.has_power or given.has_power),
    )


def tolerance_of(value: object) -> float:
    r"""A relative tolerance as problems give it: 0.02, "0.02", "2%" or "2 \%". Raises ValueError for anything else."""
    text = str(value).strip()
    read = _TOLERANCE.fullmatch(text) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    tolerance = float(read[1]) / (100 if read[2] else 1) if read else math.nan
    if not 0 <= tolerance < 1:
        raise ValueError(f"the tolerance {text[:40]!r} is no share of at least 0 and below 1; write 0.02 or '2%'")
    return tolerance


_TOLERANCE = re.compile(
    r"\+?(\d{1,20}(?:\.\d{0,20})?(?:[eE][+-]?\d{1,3})?|\.\d{1,20}(?:[eE][+-]?\d{1,3})?)\s{0,9}(\\?%|％|percent)?"
)


def _tolerance(wanted: Quantity, tolerance: float | None) -> float:
    return max(FINEST, wanted.precision) if tolerance is None else tolerance


def _close(wanted: float, given: float, tolerance: float, *, slack: float = 0.0) -> bool:
    return abs(wanted - given) <= max(tolerance * abs(wanted), slack)


# ---------------------------------------------------------------- units against each other


@dataclass(frozen=True, slots=True)
class _Common:
    """Two units in what both are powers of."""

    wanted: Unit
    given: Unit
    ratio: float  # the given unit in the wanted one


def _with_units(wanted: Quantity, given: Quantity, tolerance: float | None) -> Comparison | None:
    common = _common(wanted.units, given.units)
    if common is None:
        reason = f"the unit {given.unit_text!r} is not of the dimension of {wanted.unit_text!r}"
        return Comparison(False, reason, used_units=True) if wanted.is_certain and given.is_certain else None
    if words := _other_words(common):
        return Comparison(False, words, words_differ=True)
    number, slack = _converted(given.number, common, is_free=tolerance is None)
    converted = abs(common.ratio - 1) > _ROUNDING or common.wanted.offset != common.given.offset
    return Comparison(
        _close(wanted.number, number, max(_ROUNDING, _tolerance(wanted, tolerance)), slack=slack),
        "units converted" if converted else "compared as numbers",
        used_units=True,
        converted=converted,
    )


def _converted(number: float, common: _Common, *, is_free: bool) -> tuple[float, float]:
    """The given number in the wanted unit, and how far off it may be whatever its size: temperatures are rounded to 273 K."""
    if common.wanted.offset == common.given.offset:
        return number * common.ratio, 0.0
    kelvin = number * common.given.factor + common.given.offset
    slack = (_ICE_POINT_ROUNDING if is_free else 1e-9) / common.wanted.factor
    return (kelvin - common.wanted.offset) / common.wanted.factor, slack


def _common(wanted: Sequence[Unit], given: Sequence[Unit]) -> _Common | None:
    """The first meanings of the same dimension."""
    for left in wanted:
        for right in given:
            ratio = _ratio(left, right)
            if ratio is not None:
                return _Common(left, right, ratio)
    return None


def _ratio(wanted: Unit, given: Unit) -> float | None:
    """The given unit in the wanted one; None where their dimensions differ."""
    if wanted.powers == given.powers:
        return given.factor / wanted.factor
    left, right = _in_radians(wanted), _in_radians(given)
    if left.powers == right.powers:
        return right.factor / left.factor
    if _ANGLES & wanted.powers.keys() and _ANGLES & given.powers.keys():
        return None
    rest = _without_angles(wanted.powers)
    return given.factor / wanted.factor if rest and rest == _without_angles(given.powers) else None


def _in_radians(unit: Unit) -> Unit:
    """With turns as 2 pi radians."""
    turns = unit.powers.get("turn", Fraction(0))
    radians = unit.powers.get("radian", Fraction(0)) + turns
    powers = {**_without_angles(unit.powers), **({"radian": radians} if radians else {})}
    return Unit(unit.factor * math.tau ** float(turns), powers)


def _without_angles(powers: Mapping[str, Fraction]) -> dict[str, Fraction]:
    return {base: power for base, power in powers.items() if base not in _ANGLES}


def _other_words(common: _Common) -> str:
    """How the things differ that are counted; empty where one side says no more than the other."""
    wanted, given = common.wanted.words, common.given.words
    if wanted <= given or given <= wanted:
        return ""
    return f"{' '.join(sorted(given - wanted))!r} where {' '.join(sorted(wanted - given))!r} is counted"


# ---------------------------------------------------------------- a quantity in a text

_FONT = rf"\\(?:{'|'.join(FONTS)})(?![A-Za-z])"
_GAP = r"(?:\s|~|\\[,;:! ]|\\q?quad(?![A-Za-z]))"
_SPACE = rf"(?:{_GAP}|{_FONT}|[{{}}])*"
_SIGNS = str.maketrans(
    {
        "−": "-", "–": "-", "－": "-", "＋": "+", "×": "*", "·": "*", "⋅": "*", "∗": "*", "（": "(", "）": ")", "，": ",", "．": ".",
        "＝": "=", "￥": "¥", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u3000": " ",
        **{chr(ord("０") + digit): str(digit) for digit in range(10)},
    }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_RAISED_TEN = re.compile(r"(?<=10)[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_DELIMITER = re.compile(r"\\[()\[\]]|\\(?:left|right)(?![A-Za-z])")
_DOLLAR_SIGN = re.compile(r"(?<!\\)\$")
_ASSIGNED = re.compile(  # the name in `v = 3 m/s`
    r"\s*(?:\\[dD]elta(?![A-Za-z])\s*|Δ\s*)?(?:\\?[A-Za-z][\w\\{}]*)?\s*(?:=|≈|\\(?:approx|simeq)(?![A-Za-z]))"
)
_CURRENCIES = {
    "\\$": "dollar", "USD": "dollar", "€": "euro", "£": "sterling", "¥": "yuan", "RMB": "yuan", "Rs": "rupee",
}  # fmt: skip
_HEAD = re.compile(
    rf"{_SPACE}(?P<sign>[+-]?){_SPACE}(?:(?:US|[AC])?(?P<currency>\\\$|[€£¥]|(?:USD|RMB|Rs)(?![A-Za-z]))\.?{_SPACE})?(?P<inner>[+-]?){_SPACE}"
)
_WHOLE = r"(?:\d{1,3}(?:(?:,|\{,\}|,?\\[,! ]|[ ~])\d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?:{_WHOLE}(?:\.\d*)?|\.\d+)"
_EXPONENT = (
    r"(?:\{\s*\(?\s*(?P<braced>[+-]?\s?\d{1,4})\s*\)?\s*\}|(?P<bare>[+-]?\d{1,4})(?!\d)|\((?P<round>[+-]?\d{1,4})\))"
)
_POWER_OF_TEN = rf"10\s*(?:\^|\*\*)\s*{_EXPONENT}"
_TEN = re.compile(_POWER_OF_TEN)
_FRACTION = re.compile(
    r"(?P<whole>\d{1,9})?\s*\\[dt]?frac\s*\{\s*(?P<above>\d{1,20})\s*\}\s*\{\s*(?P<below>\d{1,20})\s*\}"
    r"|(?:(?P<before>\d{1,9})\s+)?(?P<left>\d{1,20})\s*/\s*(?P<right>\d{1,20})(?![\d.])"
)
_SCIENTIFIC = re.compile(
    rf"(?P<mantissa>{_DECIMAL})(?:[eE](?P<e>[+-]?\d{{1,4}})(?!\d)|\s*(?:\\times|\\cdot|\*|[xX])\s*{_POWER_OF_TEN})?"
)
_BRACKETED = re.compile(r"\(([^()]*(?:\([+-]?\d+\)[^()]*)?)\)")
_NUMERALS = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12, "万": 1e4, "亿": 1e8}
_NUMERAL = re.compile(rf"{_SPACE}(?:(thousand|million|billion|trillion)s?(?![A-Za-z])|(万|亿))")
_MARKUP = re.compile(rf"{_GAP}|{_FONT}|[{{}}]")
_NOTHING = re.compile(rf"{_SPACE}[.,;。；]?{_SPACE}")


@dataclass(frozen=True, slots=True)
class _Number:
    """A number without its sign, at the start of a text."""

    value: float
    end: int  # where the rest of the text starts
    digits: str = ""  # of a decimal; none for a fraction
    has_power: bool = False


def quantity(text: str) -> Quantity | None:
    """The number and the unit of a text; None when it is not of that form."""
    text = text.strip()
    return _quantity(text) if len(text) <= _MAX_CHARACTERS else None


@lru_cache(maxsize=2048)
def _quantity(text: str) -> Quantity | None:
    plain = _plain(text)
    head = _HEAD.match(plain)
    number = _number(plain, head.end()) if head else None
    if head is None or number is None:
        return None
    sign = -1 if (head["sign"] == "-") != (head["inner"] == "-") else 1
    numeral = _NUMERAL.match(plain, number.end)
    rest = plain[numeral.end() if numeral else number.end :]
    units = _units(rest, _CURRENCIES.get(head["currency"] or ""))
    if units is None:
        return None
    is_certain = bool(head["currency"] or numeral) or _is_certain(units, plain, rest, number)
    if not is_certain and any(unit.words for unit in units):  # `3 NkT` counts nothing
        return None
    return Quantity(
        sign * number.value * (_NUMERALS[numeral[1] or numeral[2]] if numeral else 1),
        units,
        " ".join(_MARKUP.sub(" ", rest).split()),
        is_certain=is_certain,
        has_power=number.has_power,
        is_fraction=not number.digits,
        precision=precision_of(number.digits, is_rounded=True),
    )


def _plain(text: str) -> str:
    r"""Without delimiters, `\left` and a name with its equality sign; a single dollar before a number is money."""
    plain = _RAISED_TEN.sub(lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}", text).translate(_SIGNS)
    is_money = len(_DOLLAR_SIGN.findall(plain)) == 1 and plain.startswith("$")
    plain = _DELIMITER.sub("", _DOLLAR_SIGN.sub(r"\\$" if is_money else "", plain)).replace("\\dollar ", "\\$")
    name = _ASSIGNED.match(plain)
    return plain[name.end() :] if name else plain


def _number(text: str, start: int) -> _Number | None:
    """The number at that place, in brackets or not; None where none is, or one beyond what a float holds."""
    if bracketed := _BRACKETED.match(text, start):
        return _in_brackets(bracketed)
    if fraction := _FRACTION.match(text, start):
        whole, above, below = (fraction[first] or fraction[second] or "0" for first, second in _PLACES)
        return _Number(int(whole) + int(above) / int(below), fraction.end()) if int(below) else None
    if ten := _TEN.match(text, start):
        return _scientific("1", ten["braced"] or ten["bare"] or ten["round"], ten.end())
    if found := _SCIENTIFIC.match(text, start):
        mantissa = re.sub(r"[^\d.]", "", found["mantissa"])
        return _scientific(mantissa, found["e"] or found["braced"] or found["bare"] or found["round"], found.end())
    return None


_PLACES = (("whole", "before"), ("above", "left"), ("below", "right"))


def _in_brackets(bracketed: re.Match[str]) -> _Number | None:
    r"""Of `(36)`, `(-3.2e5)` and `(2+\frac{1}{2})`."""
    inside = bracketed[1].strip()
    sign = -1 if inside.startswith("-") else 1
    inside = (inside[1:].strip() if inside[:1] in ("+", "-") else inside).replace("+\\frac", "\\frac")
    number = None if inside.startswith("(") else _number(inside, 0)
    if number is None or number.end != len(inside):
        return None
    return _Number(sign * number.value, bracketed.end(), number.digits, number.has_power)


def _scientific(mantissa: str, exponent: str | None, end: int) -> _Number | None:
    if len(mantissa) > _MAX_DIGITS:
        return None
    value = float(f"{mantissa}e{(exponent or '0').replace(' ', '')}")
    if not math.isfinite(value) or (not value and mantissa.strip("0.")):
        return None
    return _Number(value, end, mantissa, has_power=exponent is not None)


def _units(rest: str, currency: str | None) -> tuple[Unit, ...] | None:
    """What the text after a number may mean as a unit; None for what is none."""
    money = _unit_of_money(currency) if currency else None
    if _NOTHING.fullmatch(rest):
        return (money,) if money else ()
    found = readings(rest)
    if not found:
        return None
    if money:
        return tuple(_of_money(unit, money) for unit in found)
    return found if found[0].powers or found[0].words or found[0].factor != 1 else ()


def _unit_of_money(currency: str) -> Unit:
    return Unit(1.0, {currency: Fraction(1)}, (currency,))


def _of_money(unit: Unit, money: Unit) -> Unit:
    r"""Of `\$5/kg`; the word in `\$5 dollars` says nothing new."""
    if money.powers.keys() <= unit.powers.keys():
        return unit
    return Unit(unit.factor * money.factor, {**unit.powers, **money.powers}, unit.names, unit.words)


_USUAL_LETTERS = frozenset([*"msgNJWVAKCFTHLlhM", "mg"])
_STARTS_WITH_GAP = re.compile(_GAP)
_UPRIGHT = re.compile(_FONT)


def _is_certain(units: Sequence[Unit], text: str, rest: str, number: _Number) -> bool:
    """Whether the unit is no variable: upright, a sign or a word, of several letters, or a usual letter apart from a decimal."""
    names = {name for unit in units for name in unit.names}
    if _UPRIGHT.search(text) or not all(name.isascii() and name.isalpha() for name in names):
        return True
    is_apart = bool(_STARTS_WITH_GAP.match(rest))
    if "\\sqrt" in rest or (not is_apart and "-" in rest and "^" not in rest) or {"m", "g"} <= names:
        return False  # as `20m-2` and `2 m g`
    if any(unit.words for unit in units):
        return is_apart and all(len(name) > 3 for name in names if unit_named(name) is None)
    if any(len(name) > 1 and (is_apart or name != "mg") for name in names):
        return True
    is_usual = names <= _USUAL_LETTERS or (names == {"c"} and "." in number.digits)
    return is_usual and bool(number.digits) and (is_apart or len(number.digits) > 1 or "/" in rest)


# ---------------------------------------------------------------- for formulas


def is_unit(name: str) -> bool:
    """Whether the name is that of a unit."""
    return unit_in_base(name) is not None


def unit_in_base(name: str) -> tuple[float, tuple[tuple[str, float], ...]] | None:
    """A unit as a factor and powers of base units, angles left out; None for what is no unit."""
    if len(name) > MAX_CHARACTERS:
        return None
    unit = constant_named(name) or next((unit for unit in readings(name) if not unit.words), None)
    if unit is None:
        return None
    return unit.factor, tuple((base, float(power)) for base, power in sorted(_without_angles(unit.powers).items()))


def precision_of(number: str, *, is_rounded: bool) -> float:
    """Half a unit of the last digit of a number written as a decimal, relative, at most 1 %; 0 for one that is not rounded."""
    digits = number.replace(".", "").lstrip("0")
    if not is_rounded or not digits:
        return 0.0
    leading = digits[:15]
    return min(0.5 / int(leading) / 10.0 ** min(len(digits) - len(leading), 200), _ROUGHEST)
