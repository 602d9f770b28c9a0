r"""Numbers in one form, however they are written: spelled in English or Chinese, as ordinals, as fractions, or beside a scale.

In and out: the words of a text (`normalisation.words`), so it serves comparison only and no row is changed by it.
LaTeX fractions are written on a line before there are words, `\frac{x}{6}` as `(x)/(6)`.
`three` and 三 are `3`, `twenty-one` is `21`, `2.5 million` is `2500000`, `third` and `3rd` are `3 th`, `five sixths`, `(5)/(6)` and
六分之五 are `5 / 6`, `squared` is `^ 2`, `twox` is `2 x`. Left as they are: `one` and 一 outside of formulas and of larger numbers, since
they are an article or a pronoun more often; `first` and `second`, which also say when; 百, 千 and 万 where they count nothing, as in 千克.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from data.domains.extraction import closing_braces

_SMALL: dict[str, int] = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
        " nineteen".split()
    )
}
_TENS: dict[str, int] = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_SCALES = {"thousand": 1000, "million": 10**6, "billion": 10**9}
_ALL_SCALES = {"hundred": 100, **_SCALES}
_ORDINALS = {
    word: value
    for value, word in enumerate(
        "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth"
        " eighteenth nineteenth".split(),
        start=3,
    )
} | {f"{word[:-1]}ieth": value for word, value in _TENS.items()}
_PARTS = {"half": 2, "quarter": 4, "hundredth": 100, "thousandth": 1000} | _ORDINALS
_PLURAL_PARTS = {"halves": 2} | {f"{word}s": value for word, value in _PARTS.items() if word != "half"}
_ENDINGS = ("st", "nd", "rd", "th")
_POWERS = {"squared": "2", "cubed": "3"}
_OPERATORS = frozenset("+-*/=<>^") | {"<=", ">="}
_SYMBOLS = "abcdefghijklmnpqrtuvwxyz"  # no `o`, and no `s`, which makes plurals
_WORDS = frozenset(("tend", "tent", "tenn", "fiver", "niner", "eighth", "eighty"))  # that only look like `tenx`
_GLUED = {
    f"{word}{symbols}": (str(value), symbols)
    for word, value in _SMALL.items()
    for symbols in (*_SYMBOLS, "ab", "xy", "yz", "xz")
    if f"{word}{symbols}" not in _WORDS
}

_DIGITS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10**4, "亿": 10**8}
_CHINESE = frozenset({*_DIGITS, *_UNITS, *_LARGE})
_NOT_ALONE = frozenset("一百千万亿")
_AFTER_DIGITS = {"百": 100, "千": 1000, **_LARGE}
_MEASURES = frozenset("克米瓦卡焦赫帕伏升")  # 千克 is a unit

_SPELLED = frozenset(
    {*_SMALL, *_TENS, *_ALL_SCALES, *_ORDINALS, *_PARTS, *_PLURAL_PARTS, *_POWERS, *_GLUED, *_CHINESE, *_ENDINGS}
    | {"power", "root", "percent", "半", "/", "^"}
)
_PHRASES = (
    (("raised", "to", "the", "power", "of"), ("^",)),
    (("to", "the", "power", "of"), ("^",)),
    (("square", "root", "of"), ("sqrt",)),
    (("percent",), ("%",)),
)
_STARTS = frozenset(phrase[0] for phrase, _ in _PHRASES)
_LOOKED_AT = (_SPELLED | _STARTS) - {"/", "^", "power", "root", *_ENDINGS, *_PLURAL_PARTS, *_ALL_SCALES, "quarter"}
_BEHIND_NUMBERS = frozenset({*_ALL_SCALES, *_PARTS, *_PLURAL_PARTS, *_ENDINGS, *_AFTER_DIGITS, "^"})
_BESIDE_BRACKETS = frozenset(("/", "sqrt"))
_MOST_DIGITS = 15  # that a float holds, and signs of a Chinese numeral


@dataclass(frozen=True, slots=True)
class _Read:
    """What stands at a place of a text, and the place behind it."""

    words: tuple[str, ...]
    end: int


@dataclass(frozen=True, slots=True)
class _Value:
    """A number, and the place behind it."""

    value: float
    end: int


def folded(words: Sequence[str]) -> list[str]:
    """The words with every number in one form.

    >>> folded("five sixths of twenty one red cars".split())
    ['5', '/', '6', 'of', '21', 'red', 'cars']
    """
    if _SPELLED.isdisjoint(words):
        return list(words)
    if not _GLUED.keys().isdisjoint(words):
        words = [part for word in words for part in _GLUED.get(word, (word,))]
    found: list[str] = []
    place = 0
    for position, (word, after) in enumerate(zip(words, [*words[1:], ""], strict=True)):
        if position < place:
            continue
        if word in _LOOKED_AT or (after in _BEHIND_NUMBERS and (word == "a" or _is_number(word))):
            read = _read(words, position)
            found.extend(read.words)
            place = read.end
        else:
            found.append(word)
    return _without_brackets(found) if "(" in found and not _BESIDE_BRACKETS.isdisjoint(found) else found


def _is_number(word: str) -> bool:
    return word[:1].isdecimal() and len(word) <= _MOST_DIGITS


def _read(words: Sequence[str], place: int) -> _Read:
    word = words[place]
    if word in _STARTS and (phrase := _phrase(words, place)):
        return phrase
    if word in _POWERS:
        return _Read(("^", _POWERS[word]), place + 1)
    if word in _ORDINALS:
        return _Read((str(_ORDINALS[word]), "th"), place + 1)
    if word == "half":
        return _Read(("1", "/", "2"), place + 1)
    if word == "a":
        return _after_article(words, place)
    return _chinese(words, place) if word in _CHINESE or word == "半" else _english(words, place)


def _phrase(words: Sequence[str], place: int) -> _Read | None:
    for phrase, short in _PHRASES:
        if tuple(words[place : place + len(phrase)]) == phrase:
            return _Read(short, place + len(phrase))
    return None


def _at(words: Sequence[str], place: int) -> str:
    return words[place] if 0 <= place < len(words) else ""


def _without_brackets(words: Sequence[str]) -> list[str]:
    """`( 5 ) / ( 6 )` is `5 / 6`: brackets around one word go where a fraction's line or a root stands beside them."""
    found: list[str] = []
    place = 0
    while place < len(words):
        is_pair = words[place] == "(" and _at(words, place + 2) == ")"
        if is_pair and (_at(words, place - 1) in _BESIDE_BRACKETS or _at(words, place + 3) == "/"):
            found.append(words[place + 1])
            place += 3
        else:
            found.append(words[place])
            place += 1
    return found


# ---------------------------------------------------------------- LaTeX

_FRACTION = re.compile(r"\\[dtc]?frac(?![a-z])")
_ARGUMENT = re.compile(r"\s*(\{|\\[a-z]+|[^\s\\{}$])", re.IGNORECASE)


def linear_fractions(text: str) -> str:
    r"""The text with `\frac{5}{6}` as `(5)/(6)`, nested or not; a fraction that lacks a part stays.

    >>> linear_fractions(r"\frac12 + \dfrac{x^{2}}{\frac{a}{b}}")
    '(1)/(2) + (x^{2})/((a)/(b))'
    """
    if "frac" not in text:
        return text
    closing = closing_braces(text)
    signs = list(text)
    for command in _FRACTION.finditer(text):
        above = _argument(text, command.end(), closing)
        below = _argument(text, above[1], closing) if above else None
        if above is None or below is None:
            continue
        signs[command.start() : command.end()] = [""] * (command.end() - command.start())
        for (start, stop), behind in ((above, "/"), (below, "")):
            is_group = text[start] == "{"
            signs[start] = "(" if is_group else f"({signs[start]}"
            signs[stop - 1] = f"){behind}" if is_group else f"{signs[stop - 1]}){behind}"
    return "".join(signs)


def _argument(text: str, place: int, closing: Mapping[int, int]) -> tuple[int, int] | None:
    """Where the argument of a command stands: a group in braces, a command, or one sign."""
    found = _ARGUMENT.match(text, place)
    if found is None:
        return None
    stop = closing.get(found.start(1), -2) + 1 if found[1] == "{" else found.end(1)
    return (found.start(1), stop) if stop > 0 else None


# ---------------------------------------------------------------- English


def _after_article(words: Sequence[str], place: int) -> _Read:
    """`a half`, `a third of`, and `a hundred`; but not `a third person`."""
    after = _at(words, place + 1)
    if after in _ALL_SCALES and (value := _cardinal(["one", *words[place + 1 : place + 12]], 0)):
        return _Read((_digits(value.value),), place + value.end)
    if after == "half" or (after in _PARTS and _at(words, place + 2) == "of"):
        return _Read(("1", "/", str(_PARTS[after])), place + 2)
    return _Read((words[place],), place + 1)


def _english(words: Sequence[str], place: int) -> _Read:
    """A cardinal, with what may follow it: a part (`sixths`), the end of an ordinal; or the word itself."""
    number = _cardinal(words, place)
    word, after = words[place], _at(words, number.end) if number else ""
    if number is None:
        return _Read((word,), place + 1)
    is_single = number.end == place + 1
    value = word if is_single and _is_number(word) else _digits(number.value)
    if word in _TENS and is_single and (unit := _last_of_ordinal(after)):
        return _Read((_digits(number.value + unit), "th"), number.end + 1)
    if after in _PLURAL_PARTS or (number.value == 1 and after in _PARTS):
        part = _PLURAL_PARTS.get(after) or _PARTS[after]
        return _Read((value, "/", str(part)), number.end + 1)
    if _is_number(word) and is_single:
        return _after_digits(words, place)
    if word == "one" and is_single and not _is_in_formula(words, place):
        return _Read((word,), place + 1)
    return _Read((value,), number.end)


def _after_digits(words: Sequence[str], place: int) -> _Read:
    """`3 rd`, `4 ^ th`, `5 万`; but not `5 千克`."""
    word, after = words[place], _at(words, place + 1)
    behind = place + 1 + (after == "^")
    if _at(words, behind) in _ENDINGS:
        return _Read((word, "th"), behind + 1)
    if after in _AFTER_DIGITS and _at(words, place + 2) not in _MEASURES:
        return _Read((_digits(float(word) * _AFTER_DIGITS[after]),), place + 2)
    return _Read((word,), place + 1)


def _last_of_ordinal(word: str) -> int:
    """What `first` to `ninth` add to tens; 0 of another word, and of `second`: `thirty second` is a time."""
    value = 1 if word == "first" else _ORDINALS.get(word, 0)
    return value if value < 10 else 0


def _is_in_formula(words: Sequence[str], place: int) -> bool:
    before, after = _at(words, place - 1), _at(words, place + 1)
    return before in _OPERATORS or after in _OPERATORS or (before == "(" and after == ")")


def _cardinal(words: Sequence[str], place: int) -> _Value | None:
    """`two thousand three hundred and five`, `2.5 million`; None where no number starts."""
    group = _below_thousand(words, place)
    if group is None:
        return None
    total, limit = 0.0, float("inf")
    while (scale := _SCALES.get(_at(words, group.end), 0)) and scale < limit:
        total, limit = total + group.value * scale, scale
        rest = _rest(words, group.end + 1, _below_thousand)
        if rest is None:
            return _Value(total, group.end + 1)
        group = rest
    return _Value(total + group.value, group.end)


def _below_thousand(words: Sequence[str], place: int) -> _Value | None:
    number = _below_hundred(words, place)
    if number is None or _at(words, number.end) != "hundred":
        return number
    value, end = number.value * 100, number.end + 1
    rest = _rest(words, end, _below_hundred)
    return _Value(value + rest.value, rest.end) if rest else _Value(value, end)


def _rest(words: Sequence[str], place: int, read: Callable[[Sequence[str], int], _Value | None]) -> _Value | None:
    """What is spelled behind a hundred or a scale, with or without `and`."""
    place += _at(words, place) == "and"
    return None if _is_number(_at(words, place)) else read(words, place)


def _below_hundred(words: Sequence[str], place: int) -> _Value | None:
    word, after = _at(words, place), _at(words, place + 1)
    if _is_number(word):
        return _Value(float(word), place + 1)
    if word in _TENS:
        unit = _SMALL.get(after, 0)
        return _Value(_TENS[word] + unit, place + 2) if 0 < unit < 10 else _Value(_TENS[word], place + 1)
    return _Value(_SMALL[word], place + 1) if word in _SMALL else None


def _digits(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.15g}"


# ---------------------------------------------------------------- Chinese


def _chinese(words: Sequence[str], place: int) -> _Read:
    """A numeral; 三分之二, 百分之五 and 一半, which are fractions."""
    if "半" in (words[place], _at(words, place + 1)) and words[place] in "一半":
        return _Read(("1", "/", "2"), place + 1 + (words[place] == "一"))
    end = _end_of_numeral(words, place)
    signs = words[place:end]
    if tuple(words[end : end + 2]) == ("分", "之") and (part := _numerator(words, end + 2)):
        over = ("%",) if signs == ["百"] else ("/", *_chinese_numbers(signs))
        return _Read((*part.words, *over), part.end)
    if not signs or (len(signs) == 1 and signs[0] in _NOT_ALONE):
        return _Read((words[place],), place + 1)
    return _Read(_chinese_numbers(signs), end)


def _end_of_numeral(words: Sequence[str], start: int) -> int:
    """Behind the signs from `start` on that are one numeral: punctuation is gone, so 二十三一 are two, and 二百分之五, too."""
    end = start
    while _at(words, end) in _CHINESE and end - start < _MOST_DIGITS and not _starts_another(words, start, end):
        end += 1
    return end


def _starts_another(words: Sequence[str], start: int, place: int) -> bool:
    sign, before, after = words[place], words[start:place], _at(words, place + 1)
    if sign == "千" and after in _MEASURES:
        return True
    if sign in "百千" and (after, _at(words, place + 2)) == ("分", "之"):
        return bool(before)
    is_behind_digit = bool(before) and sign in _DIGITS and before[-1] in _DIGITS and before[-1] not in "零〇"
    return is_behind_digit and (after in _UNITS or any(unit in _UNITS for unit in before))


def _numerator(words: Sequence[str], place: int) -> _Read | None:
    if _is_number(_at(words, place)):
        return _Read((words[place],), place + 1)
    end = _end_of_numeral(words, place)
    return _Read(_chinese_numbers(words[place:end]), end) if end > place else None


def _chinese_numbers(signs: Sequence[str]) -> tuple[str, ...]:
    """One number, or the digits of 二〇二四; 两三 are two numbers."""
    if all(sign in _DIGITS for sign in signs):
        digits = [str(_DIGITS[sign]) for sign in signs]
        return ("".join(digits),) if len(signs) > 2 else tuple(digits)
    total = section = digit = 0
    for sign in signs:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
        elif sign in _UNITS:
            section, digit = section + max(digit, 1) * _UNITS[sign], 0
        else:
            below = max(section + digit, 0 if total else 1) * _LARGE[sign]
            total = total + below if sign == "万" else total * _LARGE[sign] + below
            section = digit = 0
    return (str(total + section + digit),)
