r"""Units as people write them, read into a factor and powers of base units: `J/(mol\cdot K)`, `m\,s^{-2}`, `ft-lb`, `千米/小时`.

In: LaTeX, Unicode or plain text of at most `MAX_CHARACTERS`. Out: a `Unit`, or None for what is no unit. The grammar:

    unit   = ["/"] factor { ["*" | "/" | "per"] factor }
    factor = ( name | "(" unit ")" | \frac{unit}{unit} | \sqrt{unit} | ("square" | "cubic") factor ) [power]

All that follows a "/" divides, to the end of the bracket: `J/mol K` and `J/mol·K` are J/(mol K), as those who write them mean; a later
factor with a negative power of its own keeps it. Names are looked up one by one (`unit_names.py`). A word that is no unit is a thing that
is counted (`5 apples`), and no part of the dimension.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from data.domains.unit_names import OFFSETS, SHORTEST_WORD, product, singular, unit_named

MAX_CHARACTERS = 80  # of a unit without its markup
_MAX_MARKUP, _MAX_POWER, _MAX_DEPTH, _MAX_WORDS = 240, 12, 8, 6

Factors = list[tuple[str, Fraction]]  # names with their powers


@dataclass(frozen=True, slots=True)
class Unit:
    """A product of powers of base units, and words of things that are counted."""

    factor: float  # times the base units
    powers: Mapping[str, Fraction]  # of base units; a turn and each currency are bases, too
    names: tuple[str, ...] = ()  # as written
    words: frozenset[str] = frozenset()  # things, in the singular
    offset: float = 0.0  # in kelvin, of a temperature alone


class _NoUnitError(ValueError):
    """The text is not a unit."""


def readings(text: str) -> tuple[Unit, ...]:
    r"""What a text may mean as a unit, the likeliest first; nothing where it is none. Only `ms^{-1}` has two: 1/ms and m/s."""
    if len(text) > _MAX_MARKUP:
        return ()
    return _readings(text)


@lru_cache(maxsize=4096)
def _readings(text: str) -> tuple[Unit, ...]:
    try:
        factors = _Parser(_tokens(_plain(text))).whole()
        spellings = [factors, _with_metres(factors)] if any(_is_per_ms(factor) for factor in factors) else [factors]
        return tuple(_unit(spelling) for spelling in spellings)
    except _NoUnitError:
        return ()


# ---------------------------------------------------------------- the text

_SIGNS = str.maketrans(
    {
        "μ": "µ", "\u2126": "Ω", "\u212a": "K", "\u212b": "Å", "℃": "°C", "℉": "°F", "º": "°", "˚": "°", "·": "*", "⋅": "*", "•": "*",
        "∙": "*", "×": "*", "∗": "*", "−": "-", "–": "-", "‐": "-", "‑": "-", "⁄": "/", "∕": "/", "÷": "/", "\u00a0": " ", "\u2009": " ",
        "\u202f": " ", "\u3000": " ", "％": "%", "（": "(", "）": ")", "／": "/", "￥": "¥", "~": " ",
    }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
FONTS = (
    "text", "mathrm", "textrm", "mathsf", "textsf", "operatorname", "rm", "mbox", "hbox", "mathbf", "textbf", "mathit", "textit", "bf",
    "unit", "si", "textup", "boldsymbol",
)  # fmt: skip
_MEANINGS = {
    **{f"\\{name}": " " for name in (*FONTS, "quad", "qquad", "left", "right", ",", ";", ":", "!", " ", "big", "Big", "displaystyle")},
    **dict.fromkeys(("\\cdot", "\\times", "\\ast", "\\bullet"), "*"),
    **dict.fromkeys(("\\degree", "\\textdegree", "\\circ"), "°"),
    **dict.fromkeys(("\\mu", "\\textmu", "\\micro"), "µ"),
    **dict.fromkeys(("\\Omega", "\\ohm", "\\textohm"), "Ω"),
    **dict.fromkeys(("\\AA", "\\angstrom"), "Å"),
    **dict.fromkeys(("\\frac", "\\dfrac", "\\tfrac"), "\\frac"),
    "\\sqrt": "\\sqrt", "\\celsius": "°C", "\\%": "%", "\\$": "dollar", "\\dollar": "dollar",
    "\\permil": "‰", "\\euro": "€", "\\pounds": "£", "\\div": "/",
}  # fmt: skip
_TEMPERATURE = re.compile(
    r"(?:(?:°|\bdeg(?:rees?)?(?![A-Za-z]))([\s{}.]*))?\b([CFK](?![A-Za-z])|[Cc]elsius|[Ff]ahrenheit|[Kk]elvins?)(?![A-Za-z])"
)


def _temperature(scale: re.Match[str]) -> str:
    """The degree joins its scale, behind the braces between them; a letter alone is no temperature, but a coulomb, farad or kelvin."""
    letter = scale[2][0].upper()
    if scale[1] is None and len(scale[2]) == 1:
        return scale[0]
    return f"{(scale[1] or '').replace('.', ' ')} {'K' if letter == 'K' else f'deg{letter}'}"


_CHINESE_PREFIXES = {"千": "k", "毫": "m", "微": "µ", "纳": "n", "兆": "M", "厘": "c", "分": "d", "皮": "p"}
_CHINESE_PAIRS = """
    米:m 公里:km 克:g 公斤:kg 斤:jin 吨:t 秒:s 秒钟:s 分钟:min 小时:h 天:day 年:yr 牛:N 牛顿:N 焦:J 焦耳:J 瓦:W 瓦特:W 瓦时:Wh 伏:V
    伏特:V 安:A 安培:A 欧:Ω 欧姆:Ω 帕:Pa 帕斯卡:Pa 赫:Hz 赫兹:Hz 库:C 库仑:C 法:F 法拉:F 特:T 特斯拉:T 韦:Wb 韦伯:Wb 亨:H 亨利:H
    摩尔:mol 开:K 开尔文:K 升:L 公顷:ha 度:° 摄氏度:degC 电子伏:eV 电子伏特:eV 光年:ly 转:turn 弧度:rad 元:yuan 人民币:yuan
    美元:dollar 美分:cent 欧元:euro 英镑:sterling 日元:yen 毫米汞柱:mmHg
"""
_CHINESE: dict[str, str] = {pair[: pair.index(":")]: pair[pair.index(":") + 1 :] for pair in _CHINESE_PAIRS.split()}
_CHINESE_UNIT = re.compile(
    rf"(每)?(平方|立方)?([{''.join(_CHINESE_PREFIXES)}](?!钟))?({'|'.join(sorted(_CHINESE, key=len, reverse=True))})"
)
_CHINESE_UNITS = re.compile(rf"(?:{_CHINESE_UNIT.pattern})+")


def _from_chinese(run: re.Match[str]) -> str:
    """A run of signs that are all units, in letters; any other run is a word for a thing."""
    if run[0] == "分" and run.string[: run.start()].rstrip().endswith("/"):
        return "min"
    return _CHINESE_UNIT.sub(_one_from_chinese, run[0]) if _CHINESE_UNITS.fullmatch(run[0]) else run[0]


def _one_from_chinese(unit: re.Match[str]) -> str:
    power = {"平方": "^2", "立方": "^3", None: ""}[unit[2]]
    return f"{'/' if unit[1] else ' '}{_CHINESE_PREFIXES.get(unit[3], '')}{_CHINESE[unit[4]]}{power} "


_REWRITES = (
    (re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+"), lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}"),
    (re.compile(r"\\(?:overset\s*\{?\\circ\}?\s*\{A\}|mathring\s*\{A\})|A\u030a"), "Å"),
    (re.compile(r"\\(?:[A-Za-z]+|.)", re.DOTALL), lambda command: _MEANINGS.get(command[0], "\0")),
    (re.compile(r"\^\s*(?:\{\s*°\s*\}|°)"), "°"),
    (re.compile(r"µ([\s{}]+)(?=[A-Za-zΩ])"), r"\1µ"),  # a prefix apart from its unit, as in \mu\mathrm{A} and k\Omega
    (re.compile(r"(?<![A-Za-z])([kMGTmnµ])([\s{}]+)Ω"), r"\2\1Ω"),
    (_TEMPERATURE, _temperature),
    (re.compile(r"\b(light)[\s-]+(?=year|second|minute)|\b(per)\s+(?=cent\b)"), r"\1\2"),
    (re.compile(r"(?<=[A-Za-zµΩÅ}])-(?=[A-Za-zµΩÅ{]|\s+\{)"), "*"),  # the hyphen of N-m; a minus has a space before it
    (re.compile(r"[\u4e00-\u9fff]+"), _from_chinese),
)


def _plain(text: str) -> str:
    """Without markup, in one spelling of signs; a brace stays, as it may hold an argument."""
    text = text.translate(_SIGNS)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = " ".join(text.split()).rstrip(" .,;。，；")
    if len(text) > MAX_CHARACTERS:
        raise _NoUnitError(f"more than {MAX_CHARACTERS} characters")
    return text


_SIGNED = r"[+-]?\s?\d{1,2}(?:[./]\d{1,2})?"
_TOKEN = re.compile(
    rf"\s*(?:(?:\^|\*\*)\s*(?:\{{\s*[({{]?\s*(?P<braced>{_SIGNED})\s*[)}}]?\s*\}}|\(\s*(?P<round>{_SIGNED})\s*\)|(?P<bare>{_SIGNED}))"
    r"|(?<=[A-Za-zµΩÅ])(?P<suffix>-?\d{1,2})(?![\d.])"
    r"|(?P<word>[A-Za-zµΩÅ]+|[°%‰€£¥¢]|[\u4e00-\u9fff]+)|(?P<sign>[*/()\[\]{}]|\\frac|\\sqrt|1(?![\d.])))"
)
_WORD_SIGNS = {"per": "/", "of": ""}


def _tokens(text: str) -> list[str | Fraction]:
    """Names, signs and powers; braces that are no arguments are gone."""
    found, position = list[str | Fraction](), 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise _NoUnitError(f"unexpected {text[position]!r}")
        position = token.end()
        power = token["braced"] or token["round"] or token["bare"] or token["suffix"]
        found.append(
            _exponent(power) if power else _WORD_SIGNS.get(token["word"], token["word"]) or token["sign"] or ""
        )
    return _grouped([token for token in found if token != ""])


def _exponent(text: str) -> Fraction:
    try:
        return Fraction(text.replace(" ", ""))
    except (ValueError, ZeroDivisionError):
        raise _NoUnitError(f"the power {text!r}") from None


def _grouped(tokens: Iterable[str | Fraction]) -> list[str | Fraction]:
    r"""Braces around the arguments of \frac and \sqrt as brackets; the others, as of \text, only change how letters look."""
    found, still_open, num_wanted = list[str | Fraction](), list[int](), 0
    for token in tokens:
        if token == "{":
            still_open.append(num_wanted - 1)
            found += ["("] if num_wanted else []
        elif token == "}":
            num_wanted = still_open.pop() if still_open else -1
            found += [")"] if num_wanted >= 0 else []
        else:
            found.append(token)
        num_wanted = {"\\frac": 2, "\\sqrt": 1, "}": max(num_wanted, 0)}.get(str(token), 0)
    return found


# ---------------------------------------------------------------- the grammar

_CLOSING = {"(": ")", "[": "]"}
_SIGN_UNITS = frozenset("°%‰€£¥¢")
_POWER_BEFORE = {"square": Fraction(2), "sq": Fraction(2), "cubic": Fraction(3), "cu": Fraction(3)}
_POWER_AFTER = {"squared": Fraction(2), "cubed": Fraction(3)}


class _Parser:
    def __init__(self, tokens: Sequence[str | Fraction]) -> None:
        self.tokens = tokens
        self.position = self.depth = 0

    def peek(self) -> str | Fraction:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def next(self) -> str | Fraction:
        token = self.peek()
        self.position += 1
        return token

    def whole(self) -> Factors:
        factors = self.product()
        if self.peek() != "" or not factors:
            raise _NoUnitError("not a unit alone")
        return factors

    def product(self) -> Factors:
        factors, is_below = Factors(), False
        while self.peek() not in ("", *_CLOSING.values()):
            sign = self.next() if self.peek() in ("*", "/") else ""
            factor = self.factor()
            if sign == "/" or (is_below and all(power > 0 for _, power in factor)):
                factor = _raised(factor, Fraction(-1))
            is_below = is_below or sign == "/"
            factors += factor
        return factors

    def factor(self) -> Factors:
        token = self.next()
        if isinstance(token, str) and token in _POWER_BEFORE:
            return _raised(self.factor(), _POWER_BEFORE[token])
        factor = self.atom(token)
        after = self.peek()
        power = after if isinstance(after, Fraction) else _POWER_AFTER.get(after)
        if power is None:
            return factor
        self.next()
        return _raised(factor, power)

    def atom(self, token: str | Fraction) -> Factors:
        if token == "\\frac":
            return self.group() + _raised(self.group(), Fraction(-1))
        if token == "\\sqrt":
            return _raised(self.group(), Fraction(1, 2))
        if token in ("(", "["):
            self.position -= 1
            return self.group()
        if token == "1":
            return []
        if not isinstance(token, str) or not (token.isalpha() or token in _SIGN_UNITS):
            raise _NoUnitError(f"unexpected {token!r}")
        return [(token, Fraction(1))]

    def group(self) -> Factors:
        opening = self.next()
        if opening not in _CLOSING:
            raise _NoUnitError("a bracket is missing")
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _NoUnitError(f"nested deeper than {_MAX_DEPTH}")
        factors = self.product()
        if self.next() != _CLOSING[str(opening)]:
            raise _NoUnitError("a bracket is not closed")
        self.depth -= 1
        return factors


def _raised(factors: Factors, power: Fraction) -> Factors:
    raised = [(name, old * power) for name, old in factors]
    if any(abs(new) > _MAX_POWER or new.denominator > _MAX_POWER for _, new in raised):
        raise _NoUnitError(f"a power beyond {_MAX_POWER}")
    return raised


def _is_per_ms(factor: tuple[str, Fraction]) -> bool:
    return factor[0] == "ms" and factor[1] < 0


def _with_metres(factors: Factors) -> Factors:
    """Powers of ms^-1 as those of m/s, as British schools write it."""
    found = Factors()
    for name, power in factors:
        found += [("m", Fraction(1)), ("s", power)] if _is_per_ms((name, power)) else [(name, power)]
    return found


# ---------------------------------------------------------------- from names to base units

_NO_THINGS = frozenset(
    """and or to the for if is are was in on at by from with than then but not only when where each all both between about approximately
    sin cos tan cot sec csc log exp lim max mod deg gcd lcm det sup inf arg sinh cosh tanh arcsin arccos arctan""".split()
)


def _unit(factors: Factors) -> Unit:
    """The unit of names with their powers. Raises _NoUnitError."""
    known = [(unit_named(name), power) for name, power in _with_pounds_of_force(factors)]
    words = frozenset(_thing(name) for name, _ in factors if unit_named(name) is None)
    if len(words) > _MAX_WORDS:
        raise _NoUnitError(f"more than {_MAX_WORDS} words")
    try:
        scale = product((unit, power) for unit, power in known if unit is not None)
    except OverflowError:
        raise _NoUnitError("too large or too small") from None
    is_temperature = len(factors) == 1 and factors[0][1] == 1
    offset = OFFSETS.get(factors[0][0], 0.0) if is_temperature else 0.0
    return Unit(scale.factor, scale.powers, tuple(name for name, _ in factors), words, offset)


def _with_pounds_of_force(factors: Factors) -> Factors:
    """A pound in `ft-lb` is a force."""
    if len(factors) != 2 or any(power != 1 for _, power in factors) or not {name for name, _ in factors} & _FEET:
        return factors
    return [("lbf" if name in _POUNDS else name, power) for name, power in factors]


_FEET = frozenset({"ft", "foot", "feet", "in", "inch", "inches"})
_POUNDS = frozenset({"lb", "lbs", "pound", "pounds"})


def _thing(name: str) -> str:
    """A word for what is counted, in the singular. Raises _NoUnitError for a variable and the name of a function."""
    is_word = "\u4e00" <= name[0] <= "\u9fff" or (len(name) >= SHORTEST_WORD and name.isascii())
    if not is_word or name.lower() in _NO_THINGS:
        raise _NoUnitError(f"no unit {name!r}")
    return singular(name.lower())
