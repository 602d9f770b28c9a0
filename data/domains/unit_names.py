"""Names of units, one at a time: `km`, `kilometers`, `rpm`, `cents`, each as a factor and powers of base units.

In: one name without blanks, signs or powers. Out: a `Scale`, or None. Only names of the tables here, with a metric prefix where they take
one, and words that pint has under exactly that name are units: pint's own parser, which makes centi-atmospheres of cats, sees no text.
Three things are ours: turns and currencies are base units (hertz are turns a second), a gauss is 1e-4 tesla, and nothing counted is a unit.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pint import UnitRegistry

SHORTEST_WORD = 3
_LARGEST_ROOT = 12  # of a base unit in pint, as kg^0.5


@dataclass(frozen=True, slots=True)
class Scale:
    """A factor times powers of base units."""

    factor: float
    powers: Mapping[str, Fraction]  # base unit -> power, none of them 0


def product(factors: Iterable[tuple[Scale, Fraction]]) -> Scale:
    """Of units with their powers. Raises OverflowError beyond what a float holds."""
    scale, powers = 1.0, dict[str, Fraction]()
    for unit, power in factors:
        scale *= unit.factor ** float(power)
        for base, times in unit.powers.items():
            powers[base] = powers.get(base, Fraction(0)) + times * power
    if not math.isfinite(scale) or not scale:
        raise OverflowError("a unit of no size that a float holds")
    return Scale(scale, {base: power for base, power in powers.items() if power})


@lru_cache(maxsize=4096)
def unit_named(name: str) -> Scale | None:
    """A symbol, perhaps with a prefix, a word, or two symbols that stand close; None for any other name."""
    unit = _in_tables(name)
    if unit is not None:
        return unit
    if name[:1] in _PREFIXES and name[1:] in _METRIC:
        return _scaled(_PREFIXES[name[0]], _in_tables(name[1:]))
    return _word(name) or _two_symbols(name)


def constant_named(name: str) -> Scale | None:
    """A unit, or a constant of nature by pint's name for it, as `molar_gas_constant`."""
    return unit_named(name) or (_in_pint(name) if "_" in name else None)


def singular(word: str) -> str:
    """Of a word in small letters."""
    if word in _SINGULARS:
        return _SINGULARS[word]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word


_SINGULARS = {
    "people": "person", "children": "child", "men": "man", "women": "woman", "feet": "foot", "pennies": "penny", "henries": "henry",
}  # fmt: skip


def _in_tables(name: str) -> Scale | None:
    """Without prefix."""
    if name in _OWN_BASES:
        return Scale(1.0, {name: Fraction(1)})
    if name in _definitions():
        factor, meaning = _definitions()[name]
        parts = [part.partition("^") for part in meaning.split()]
        known = [(_meant(base), Fraction(power or 1)) for base, _, power in parts]
        return _scaled(factor, product((unit, power) for unit, power in known if unit is not None))
    return _meant(_METRIC[name]) if name in _METRIC else None


def _meant(name: str) -> Scale | None:
    """A name that stands on the right in the tables."""
    is_ours = name in _OWN_BASES or name in _definitions()
    return _in_tables(name) if is_ours else _in_pint(name) or unit_named(name)


def _word(name: str) -> Scale | None:
    """As `meters` or `Kilojoules`; no symbol's prefix makes one out of another."""
    if len(name) < SHORTEST_WORD or not name.isascii():
        return None
    for spelling in dict.fromkeys((name, name.lower(), singular(name), singular(name.lower()))):
        if unit := _whole_word(spelling):
            return unit
        prefix = next((prefix for prefix in _LONG_PREFIXES if spelling.startswith(prefix)), "")
        if unit := _whole_word(spelling[len(prefix) :]):
            return _scaled(_LONG_PREFIXES[prefix], unit)
    return None


def _whole_word(word: str) -> Scale | None:
    if len(word) < SHORTEST_WORD:
        return None
    return _in_tables(word) or (_in_pint(word) if len(word) > SHORTEST_WORD and word not in _ORDINARY_WORDS else None)


def _two_symbols(name: str) -> Scale | None:
    if not (close := _CLOSE.fullmatch(name)):
        return None
    units = [unit_named(close["first"]), unit_named(close["second"])]
    return product((unit, Fraction(1)) for unit in units if unit is not None)


_CLOSE = re.compile(
    r"(?=.*(?:(?:[NCATV]|kg)m|[NJWVAabs]s|[WA]h)$)(?P<first>[mkMGµnp]?(?:N|J|W|V|A|C|T|Pa|eV)|Wb|kg)(?P<second>[msh])"
)  # Nm, Pas, kgm


def _scaled(factor: float, unit: Scale | None) -> Scale | None:
    return None if unit is None else Scale(factor * unit.factor, unit.powers)


# ---------------------------------------------------------------- the tables

_OWN_BASES = frozenset({"turn", "decibel", "dollar", "yuan", "euro", "sterling", "yen", "rupee"})
OFFSETS = {"degC": 273.15, "degF": 459.67 * 5 / 9}  # kelvin, of a temperature alone

_PREFIXES = {
    "y": 1e-24, "z": 1e-21, "a": 1e-18, "f": 1e-15, "p": 1e-12, "n": 1e-9, "µ": 1e-6, "u": 1e-6, "m": 1e-3, "c": 1e-2, "d": 1e-1,
    "h": 1e2, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21, "Y": 1e24,
}  # fmt: skip
_LONG_PREFIXES = {
    "femto": 1e-15, "pico": 1e-12, "nano": 1e-9, "micro": 1e-6, "milli": 1e-3, "centi": 1e-2, "deci": 1e-1, "hecto": 1e2, "kilo": 1e3,
    "mega": 1e6, "giga": 1e9, "tera": 1e12, "peta": 1e15, "exa": 1e18, "atto": 1e-18, "": 1.0,
}  # fmt: skip
_METRIC = {  # symbols that take a prefix -> their names
    "m": "meter", "s": "second", "g": "gram", "N": "newton", "J": "joule", "W": "watt", "V": "volt", "A": "ampere", "K": "kelvin",
    "C": "coulomb", "F": "farad", "T": "tesla", "H": "henry", "L": "liter", "l": "liter", "Pa": "pascal", "Hz": "hertz", "mol": "mole",
    "eV": "electron_volt", "Ω": "ohm", "S": "siemens", "Wb": "weber", "Bq": "becquerel", "Gy": "gray", "Sv": "sievert", "cd": "candela",
    "lm": "lumen", "lx": "lux", "kat": "katal", "rad": "radian", "cal": "calorie", "bar": "bar", "pc": "parsec", "G": "gauss",
    "Ci": "curie", "P": "poise", "St": "stokes", "Da": "dalton", "yr": "year", "ly": "light_year", "sr": "steradian", "bit": "bit",
    "B": "byte", "ohm": "ohm", "Torr": "torr", "torr": "torr", "dyn": "dyne", "erg": "erg", "sec": "second", "gf": "force_gram",
    "arcsec": "arcsecond", "lux": "lux", "rem": "rem", "Oe": "oersted", "Wh": "watt_hour", "VA": "volt_ampere",
}  # fmt: skip
_DEFINED = r"""
degC = 1 kelvin; degF = 0.5555555555555556 kelvin; ° deg degs degree = 0.017453292519943295 radian; ‰ = 0.001
% percent pct percentage = 0.01; ppm = 1e-6; ppb = 1e-9; Å angstrom angstroms = 1e-10 meter; fermi = 1e-15 meter
micron = 1e-6 meter; mas = 1e-3 arcsecond; unit = 1
rev revs revolution cycle rotation = 1 turn; rpm RPM = 1 turn min^-1; rps hertz = 1 turn second^-1; hz = 1 hertz; dB = 1 decibel
min mins = 60 second; h hr hrs = 3600 second; d day = 86400 second; wk wks = 7 day; yrs = 1 year; secs = 1 second; msec = 1e-3 second
gauss Gs = 1e-4 tesla; oersted = 79.57747154594767 ampere meter^-1; statC esu = 1 statcoulomb; statV = 1 statvolt; mho = 1 siemens
mmHg = 133.322387415 pascal; cmHg = 1333.22387415 pascal; inHg = 3386.388640341 pascal; atm = 1 atmosphere; ksi = 1000 psi
psi = 6894.757293168361 pascal; lbf = 1 force_pound; kgf = 1 force_kilogram; kip kips = 1000 force_pound; hp = 1 horsepower
ft = 1 foot; in = 1 inch; yd yds = 1 yard; mi = 1 mile; nmi = 1 nautical_mile; fps = 1 foot second^-1; mph MPH = 1 mile hour^-1
kph kmh kmph = 1000 meter hour^-1; kn kt kts = 1 knot; lb lbs lbm = 1 pound; oz = 1 ounce; ton = 1 short_ton; t tonne = 1000 kilogram
jin = 0.5 kilogram; gal gals = 1 gallon; qt = 1 quart; pt = 1 pint; cup = 2.365882365e-4 meter^3; cc = 1e-6 meter^3; ha = 1 hectare
Btu BTU btu = 1 british_thermal_unit; Cal Calorie Calories = 1000 calorie; kWhr = 1000 watt_hour; Ah = 1 ampere hour; gm gms = 1 gram
mAh = 1e-3 ampere hour; kgs Kg KG = 1 kilogram; kms Km = 1 km; cms = 1 cm; mms = 1 mm; mls = 1 mL; amp amps = 1 ampere; KJ = 1 kJ
KW = 1 kW; KN = 1 kN; KV = 1 kV; KHz Khz khz = 1 kHz; Mhz = 1 MHz; ev = 1 eV; Mev MEV = 1 MeV; kev Kev KeV = 1 keV; Gev = 1 GeV
Kcal = 1 kcal; M molar = 1000 mole meter^-3; mM = 1 mole meter^-3; µM uM = 1e-3 mole meter^-3; nM = 1e-6 mole meter^-3
pM = 1e-9 mole meter^-3; b = 1 barn; mb = 1e-3 barn; µb ub = 1e-6 barn; nb = 1e-9 barn; pb = 1e-12 barn; fb = 1e-15 barn
kb = 1e3 bit; Mb = 1e6 bit; Gb = 1e9 bit; bps = 1 bit second^-1; kbps = 1e3 bps; Mbps = 1e6 bps; Gbps = 1e9 bps; D = 1 debye
AU au = 1 astronomical_unit; u amu AMU = 1 dalton; c = 299792458 meter second^-1; e = 1.602176634e-19 coulomb; hbar = 1 dirac_constant
dpt diopter dioptre = 1 meter^-1; lightyear = 1 light_year; lightsecond = 299792458 meter; lightminute = 17987547480 meter
USD buck = 1 dollar; ¢ cent penny = 0.01 dollar; RMB CNY ¥ = 1 yuan; EUR € = 1 euro; GBP £ = 1 sterling; pence = 0.01 sterling
JPY = 1 yen; INR Rs = 1 rupee
"""
_ORDINARY_WORDS = frozenset(  # that pint has another meaning for
    """alpha gamma lambda sigma zeta blob candle chain circle count dram fifth gill grade gravity hand jute league link molec molecule
    octave octet particle perch pica pixel point pole pond quad quarter scruple section shake shot stone strain thou""".split()
)


@cache
def _definitions() -> dict[str, tuple[float, str]]:
    """Name -> factor, and the names with powers that it multiplies."""
    found = dict[str, tuple[float, str]]()
    for line in _DEFINED.replace("\n", ";").split(";"):
        names, _, meaning = line.partition("=")
        factor, _, text = meaning.strip().partition(" ")
        found.update((name, (float(factor), text)) for name in names.split())
    return found


# ---------------------------------------------------------------- pint


@lru_cache(maxsize=4096)
def _in_pint(name: str) -> Scale | None:
    """The unit or constant that pint has under exactly that name."""
    if name not in _names_of_pint():
        return None
    factor, base = _registry().get_base_units(name)
    items = _registry().Quantity(1, base).unit_items()
    powers = {str(unit): Fraction(str(power)).limit_denominator(_LARGEST_ROOT) for unit, power in items}
    powers.pop("count", None)
    return Scale(float(str(factor)), powers)


@cache
def _registry() -> "UnitRegistry":
    import pint

    return pint.UnitRegistry()


@cache
def _names_of_pint() -> frozenset[str]:
    return frozenset(_registry())
