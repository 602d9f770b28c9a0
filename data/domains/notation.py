"""Mathematics rewritten as Math-Verify reads it best, without a change of meaning."""

import re

_NUMBER = re.compile(r"[+-]?\s*(?:\d+(?:\.\d+)?|\.\d+)")
_THIN_SPACE = re.compile(r"(?<=\d)(?:\\,|\\ |\\!|\{,\})+(?=\d{3}(?!\d))")
_LEADING_WORDS = re.compile(r"^\s*\\text\s*\{[^{}]*(?:\b(?:is|are|be)\s*:?|[:：]|为|是)\s*\}\s*(?=\S)")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|dot|bar)\s*\{(\d+)\}")
_FRENCH = re.compile(r"^\s*([\[\]])([^\[\](),]+),([^\[\](),]+)([\[\]])\s*$")
_BUILDER = re.compile(
    r"^\s*\\\{\s*([a-z])\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid|\||:)\s*(.+?)\s*(<|\\leq?\b|≤|＜)\s*\1\s*(<|\\leq?\b|≤|＜)\s*(.+?)\s*\\\}\s*$"
)


def tidied(text: str) -> str:
    """The same answer in the notation of intervals, fractions and numbers that is understood."""
    text = _LEADING_WORDS.sub("", _THIN_SPACE.sub("", text)).replace("\\varnothing", "\\emptyset")
    text = _REPEATING.sub(_fraction, _interval(_unbracketed(text)))
    return text.rstrip().removesuffix(".") if _NUMBER.match(text) else text


def _fraction(decimal: re.Match[str]) -> str:
    """A repeating decimal, as 0.1666... = (16 - 1) / 90."""
    whole, fixed, period = decimal[1] or "0", decimal[2], decimal[3]
    above = int(whole + fixed + period) - int(whole + fixed)
    return f"\\frac{{{above}}}{{{'9' * len(period)}{'0' * len(fixed)}}}"


def _interval(text: str) -> str:
    r"""`]0,1]` and `\{x \mid 0 < x \le 1\}` as `(0,1]`."""
    if builder := _BUILDER.match(text):
        low, high = ("(" if sign in "<＜" else "[" for sign in (builder[3], builder[4]))
        return f"{low}{builder[2]},{builder[5]}{')' if high == '(' else ']'}"
    french = _FRENCH.match(text)
    if french and (french[1] == "]" or french[4] == "["):
        return f"{'(' if french[1] == ']' else '['}{french[2]},{french[3]}{')' if french[4] == '[' else ']'}"
    return text


def _unbracketed(text: str) -> str:
    """Without brackets around brackets: ((7)) is (7)."""
    stripped = text.strip()
    start = 0
    partner = _partners(stripped)
    while partner.get(start) == len(stripped) - 1 - start and partner.get(start + 1) == len(stripped) - 2 - start:
        start += 1
    return stripped[start : len(stripped) - start]


def _partners(text: str) -> dict[int, int]:
    """Place of each round bracket -> place of the one that closes it."""
    open_, partner = list[int](), dict[int, int]()
    for place, character in enumerate(text):
        if character == "(":
            open_.append(place)
        elif character == ")" and open_:
            partner[open_.pop()] = place
    return partner
