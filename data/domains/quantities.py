"""Numbers with units: dimension checked, converted with pint, compared within a relative tolerance."""

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pint import Quantity, UnitRegistry

_NUMBER = re.compile(
    r"(?P<mantissa>[+-]?\s*(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|\.)?)"
    r"(?:[eE](?P<e>[+-]?\d+)|\s*(?:\\times|\\cdot|\*|×)\s*10\s*(?:\^|\*\*)\s*\{?\s*(?P<power>[+-]?\s*\d+)\s*\}?)?"
)
_POWER_OF_TEN = re.compile(r"10\s*\^\s*\{?\s*([+-]?\s*\d+)\s*\}?")
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|operatorname|rm|mbox)\b\s*")
_SPACES = re.compile(r"\\[,;:! ]|~|\\quad\b")
_UNIT_SIGNS = (
    ("\\%", "percent"), ("%", "percent"), ("^\\circ", "°"), ("^{\\circ}", "°"), ("\\degree", "°"), ("°C", " degC "),
    ("\\Omega", "ohm"), ("Ω", "ohm"), ("μ", "µ"), ("\\cdot", "*"), ("·", "*"), ("\\times", "*"),
    ("\\AA", "angstrom"), ("Å", "angstrom"), ("°", "degree"),
)  # fmt: skip
_UNIT = re.compile(r"[A-Za-zµ][A-Za-zµ0-9\s*/^+-]*")
_POWERED = re.compile(r"(?<=[A-Za-zµ])([+-]?\d+)")
_ASSIGNED = re.compile(r"^\s*\\?[A-Za-z][\w\\{}]*\s*(?:=|\\approx\b)\s*")  # the name in `v = 3 m/s`
_MICRO = re.compile(r"\\mu[\s{]*")
_FRACTION = re.compile(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}")

FINEST, _ROUGHEST = 0.0005, 0.01  # tolerances taken from how a number is written lie between


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two quantities are the same, and how that was decided."""

    equal: bool
    reason: str
    used_units: bool = False  # both had one
    is_scientific: bool = False  # both were numbers alone, one with a power of ten
    converted: bool = False  # the units differed


@dataclass(frozen=True, slots=True)
class _Parts:
    number: float
    unit: str
    has_power: bool  # written with a power of ten
    precision: float = 0.0  # half a unit of the last digit, relative, at most 1 %


def compare_quantities(gold: str, answer: str, *, tolerance: float | None) -> Comparison | None:
    """Compare two numbers with units; None when either is something else. A missing unit is not held against an answer.

    `tolerance` is relative; None takes half a unit of the gold's last digit, within 0.05 % and 1 %.
    """
    left, right = _parts(gold), _parts(answer)
    if left is None or right is None:
        return None
    tolerance = max(FINEST, left.precision) if tolerance is None else tolerance
    if left.unit == right.unit or _lacks_only_the_unit(left, right) or _lacks_only_the_unit(right, left):
        return Comparison(
            _close(left.number, right.number, tolerance),
            "compared as numbers",
            used_units=bool(left.unit and right.unit),
            is_scientific=not left.unit and not right.unit and (left.has_power or right.has_power),
        )
    wanted, given = _quantity(left), _quantity(right)
    if wanted is None or given is None:
        return None
    if wanted.dimensionality != given.dimensionality:
        return Comparison(False, f"the unit {right.unit!r} is not of the dimension of {left.unit!r}", used_units=True)
    return Comparison(
        _close(wanted.to_base_units().magnitude, given.to_base_units().magnitude, tolerance),
        "units converted",
        used_units=True,
        converted=True,
    )


def _lacks_only_the_unit(bare: _Parts, full: _Parts) -> bool:
    """A variable is no unit: 5 is not 5x."""
    return not bare.unit and _quantity(full) is not None


def _close(wanted: float, given: float, tolerance: float) -> bool:
    return abs(wanted - given) <= tolerance * abs(wanted)


def _parts(text: str) -> _Parts | None:
    """Number and unit of a text; None when it is not of that form."""
    plain = _ASSIGNED.sub("", text.replace("$", ""))
    plain = _SPACES.sub(" ", _TEXT.sub(" ", plain)).replace("−", "-").replace("\\left", "").strip()
    power = _POWER_OF_TEN.match(plain)
    if power is not None:
        return _with_unit(f"1e{power[1]}", plain[power.end() :], has_power=True)
    number = _NUMBER.match(plain)
    if number is None or not re.search(r"\d", number["mantissa"]):
        return None
    exponent = number["e"] or number["power"]
    return _with_unit(f"{number['mantissa']}e{exponent or 0}", plain[number.end() :], has_power=exponent is not None)


def _with_unit(number: str, rest: str, *, has_power: bool) -> _Parts | None:
    unit = _MICRO.sub("µ", _FRACTION.sub(r"\1/(\2)", rest))
    for sign, name in _UNIT_SIGNS:
        unit = unit.replace(sign, name)
    unit = " ".join(re.sub(r"[{}()]", " ", unit).split())
    if unit and not _UNIT.fullmatch(unit):
        return None
    digits = re.sub(r"[\s,]", "", number)
    return _Parts(float(digits), unit, has_power, precision_of(digits.partition("e")[0].lstrip("+-"), is_rounded=True))


def _quantity(parts: _Parts) -> "Quantity | None":
    """None for a unit pint does not know."""
    expression = _POWERED.sub(r"^\1", parts.unit.replace(" ^", "^").replace("^ ", "^"))
    expression = re.sub(r"\s*([*/])\s*", r"\1", expression).replace(" ", "*")
    try:
        return _registry().Quantity(parts.number, expression)  # ty: ignore[invalid-explicit-return]
    except Exception:  # pint raises many kinds, of several libraries, for a text that is no unit
        return None


@cache
def _registry() -> "UnitRegistry":
    import pint

    registry = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    registry.define("@alias gauss = Gs")
    return registry


@cache
def is_unit(name: str) -> bool:
    """Whether pint knows the unit."""
    return unit_in_base(name) is not None


@cache
def unit_in_base(name: str) -> "tuple[float, tuple[tuple[str, float], ...]] | None":
    """A unit as a factor and powers of base units; None for what is no unit."""
    name = name.replace("Å", "angstrom").replace("·", "*")
    if not re.fullmatch(r"[A-Za-zµ][A-Za-zµ0-9_*/^()-]*", name):
        return None
    spellings = (name, name.lower()) if len(name) > 2 else (name,)
    quantity = next(filter(None, (_quantity(_Parts(1.0, text, has_power=False)) for text in spellings)), None)
    if quantity is None:
        return None
    base = quantity.to_base_units()
    powers = tuple(sorted((unit, float(str(power))) for unit, power in base.unit_items()))
    return float(base.magnitude), powers


def precision_of(number: str, *, is_rounded: bool) -> float:
    """Half a unit of the last digit of a number written as a decimal, relative, at most 1 %; 0 for one that is not rounded."""
    digits = number.replace(".", "").lstrip("0")
    if not is_rounded or not digits:
        return 0.0
    return min(0.5 / int(digits), _ROUGHEST)
