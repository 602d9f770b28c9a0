"""Units as people write them."""

from fractions import Fraction

import pytest

from data.domains.unit_names import unit_named
from data.domains.units import Unit, readings


def unit(text: str) -> Unit | None:
    return next(iter(readings(text)), None)


def is_same(left: str, right: str) -> bool:
    one, other = unit(left), unit(right)
    return (
        one.powers == other.powers
        and one.factor == pytest.approx(other.factor, rel=1e-12)
        and one.offset == other.offset
    )


@pytest.mark.parametrize(
    "text",
    [
        "J/(mol·K)", r"J\,mol^{-1}\,K^{-1}", "J/mol/K", "J/mol K", "J/mol·K", r"\frac{J}{mol\cdot K}", r"\mathrm{J/(mol\cdot K)}",
        "J mol-1 K-1", "J mol^-1 K^-1", "J·mol⁻¹·K⁻¹", r"\dfrac{\text{J}}{\text{mol}\cdot\text{K}}", r"\text{J mol}^{-1}\text{ K}^{-1}",
        r"\text{J}/(\text{mol K})", "joules per mole per kelvin", r"\left[\mathrm{J}/(\mathrm{mol}\,\mathrm{K})\right]",
        r"{\rm J\; mol^{-1}~K^{-1}}", "J/mol K^{-1}", "焦/(摩尔·开)",
    ],
)  # fmt: skip
def test_a_bracket_in_a_denominator_is_kept(text):
    assert unit(text).powers == {"kilogram": 1, "meter": 2, "second": -2, "mole": -1, "kelvin": -1}
    assert not is_same(text, "J·K/mol")


@pytest.mark.parametrize(
    "text",
    [
        "m/s^2", "m s^{-2}", r"m\,s^{-2}", "m/s²", "m/s2", r"\text{m/s}^2", r"\frac{\text{m}}{\text{s}^2}", "m/s/s", "m*s**-2", "m s-2",
        "meters per second squared", "N/kg", "米/秒²", "米每平方秒", r"m \cdot s^{-2}", "m·s⁻²", "[m/s^2]", "metres/second^{2}",
    ],
)  # fmt: skip
def test_a_power_may_be_written_in_many_ways(text):
    assert unit(text).powers == {"meter": 1, "second": -2}
    assert unit(text).factor == 1


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("N-m", "N·m"), (r"\mathrm{~N}-\mathrm{m}", "Nm"), ("kW-h", "kWh"), ("kg·m/s²", "N"), ("rev/min", "rpm"), ("BTU", "Btu"),
        ("M^{-1}s^{-1}", "L/(mol·s)"), ("mM", "mol/m^3"), ("µM", "mmol/m^3"), ("ft·lb", "lb-ft"), ("lb-ft", "lbf ft"), ("1/s", "s^{-1}"),
        ("/cm^3", "cm^{-3}"), (r"V/\sqrt{Hz}", "V Hz^{-1/2}"), ("W/m^2K", "W m^{-2} K^{-1}"), ("light-years", "ly"), ("cc", "mL"),
        ("square meters", "m^2"), ("cubic centimeters", "cm³"), ("sq ft", "ft^2"), ("平方千米", "km^2"), ("千瓦时", "kWh"),
        ("转/分", "rpm"),
        ("千克每立方米", "kg/m^3"), ("公里/小时", "km/h"), ("kilojoules", "kJ"), ("Tesla", "T"), ("secs", "s"), ("KHz", "kHz"),
        ("uF", "µF"),
    ],
)  # fmt: skip
def test_spellings_of_one_unit_are_the_same(left, right):
    assert is_same(left, right)


@pytest.mark.parametrize(
    "text",
    [
        "℃",
        "°C",
        r"^\circ\mathrm{C}",
        r"^{\circ}C",
        r"^\circ C",
        r"\degree\text{C}",
        "degrees Celsius",
        "deg C",
        "celsius",
        "摄氏度",
    ],
)
def test_celsius_may_be_written_in_many_ways(text):
    assert is_same(text, "degC")
    assert unit(text).offset == 273.15


@pytest.mark.parametrize(
    ("texts", "symbol"),
    [
        (["μA", "\u00b5A", "\u03bcA", r"\mu A", r"\mu\mathrm{A}", r"\mathrm{\mu A}", r"{\mu}A", "uA", "微安"], "µA"),
        (["\u2126", r"\Omega", "ohm", "ohms", "欧姆"], "Ω"),
        ([r"k\Omega", r"\text{k}\Omega", r"\mathrm{k\Omega}", "k\u2126", "kohm"], "kΩ"),
        (["\u212b", "A\u030a", r"\AA", r"\text{\AA}", r"\mathring{A}", "angstrom"], "Å"),
        (["\u212a", "kelvin", "°K"], "K"),
        (["degrees", "deg", r"^\circ", r"\degree", "度"], "°"),
    ],
)  # fmt: skip
def test_signs_that_look_the_same_are_the_same(texts, symbol):
    assert [text for text in texts if not is_same(text, symbol)] == []


def test_what_follows_a_slash_divides_to_the_end_of_the_bracket():
    assert unit("(J/mol K) s").powers["second"] == -1  # J/(mol K) has s^-2
    assert unit("kg m/s m").powers == {"kilogram": 1, "second": -1}


def test_per_millisecond_may_be_metres_per_second():
    plain, british = readings("ms^{-1}")
    assert (plain.powers, plain.factor) == ({"second": -1}, 1000)
    assert british.powers == {"meter": 1, "second": -1}
    assert len(readings("ms")) == 1


def test_a_word_that_is_no_unit_is_a_thing_and_no_dimension():
    assert unit("apples").words == {"apple"}
    assert (unit("photons/(cm^2 s)").words, unit("photons/(cm^2 s)").powers) == (
        {"photon"},
        {"meter": -2, "second": -1},
    )
    assert unit("头牛").words == {"头牛"}


@pytest.mark.parametrize(
    "name", ["cats", "hats", "hares", "ab", "xy", "hd", "a", "k", "R", "k_B", "x", "µ", "", "Ym" * 30]
)
def test_no_prefix_makes_a_unit_out_of_a_word(name):
    assert unit_named(name) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "5", "m +s", "m - s", "m^13", "m^{1/0}", "m^x", "(m", "m)", "m//s", "m/", r"\pi", r"\alpha m",
        "m_s", "x", "sin x", "m or s", "m!", "1", "((((((((((m))))))))))",
    ],
)  # fmt: skip
def test_what_is_no_unit_is_none(text):
    assert readings(text) == ()


def test_powers_are_exact():
    assert unit("m^{1/3}").powers == {"meter": Fraction(1, 3)}
    assert unit(r"\sqrt{m}").powers == {"meter": Fraction(1, 2)}
