"""The text that problems are compared by: what two spellings of the same problem share, and two problems do not.

Kept: letters, numbers, operators, brackets, primes and factorials, so that `6 * 2` and `6 + 2`, or `4 ( x + 5 )` and `4 x + 5`,
stay apart. Dropped: case, white space, LaTeX layout and delimiters, punctuation, hyphens inside words. Numbers are in one form, spelled
or not (see `numerals`).
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from stages.curation.numerals import folded, linear_fractions

_SPELLINGS = (  # applied in order
    (re.compile(r"\\over(?![a-z])"), "/"),
    (
        re.compile(r"\\(?:left|right|[bB]ig{1,2}[lr]?|displaystyle|limits|quad|qquad|[,;:!> ])(?![a-z])|\\\\|[${}&~]"),
        " ",
    ),
    (re.compile(r"\\[\[\]()]"), " "),
    (re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname|rm|bf)(?![a-z])"), " "),
    (re.compile(r"\\(?:cdot|times|ast)(?![a-z])|[×·∙⋅]"), "*"),
    (re.compile(r"\\leq?(?![a-z])|\\leqslant|≤|⩽"), "<="),
    (re.compile(r"\\geq?(?![a-z])|\\geqslant|≥|⩾"), ">="),
    (re.compile(r"[−–—]"), "-"),
    (re.compile(r"\^\s*(?:\\circ|∘)(?![a-z])|°"), " degrees "),
    (re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})"), " "),
)
_NAMED = {  # signs as LaTeX names them
    "√": "sqrt", "∪": "cup", "∩": "cap", "±": "pm", "∓": "mp", "∥": "parallel", "⊥": "perp", "∞": "infty", "π": "pi", "∠": "angle",
    "∈": "in", "∑": "sum", "∫": "int", "≈": "approx", "≠": "neq", "≡": "equiv", "→": "to", "△": "triangle",
}  # fmt: skip
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))  # NFKC would make 52 of 5²
_SIGNS = str.maketrans(
    {sign: f" {name} " for sign, name in _NAMED.items()}
    | {sign: f"^{plain}" for sign, plain in _RAISED.items()}
    | {"÷": "/", "º": "°"}
)
_SYMBOLS = r"\u2190-\u23ff\u25a0-\u27bf\U0001f300-\U0001faff"  # arrows, operators, shapes, pictures: each is a word
_SINGLE = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # a sign of these scripts is a word
_WORD = re.compile(
    rf"[{_SINGLE}{_SYMBOLS}]|[^\W\d_{_SINGLE}]+|\d+(?:\.\d+)?|<=|>=|[-+*/=<>^%|()\[\]]|(?<=\b[a-z])'(?![a-z])|(?<=[\d)])!|(?<=\b[a-z])!"
)

_THOUSANDS = re.compile(
    r"(?<![\d.,(\[{])\d{1,3}(?:(?:,|\{,\}|,\\!|\\,)\d{3})+(?![\d,)\]])"
)  # but `(1,250)` are two numbers


def _without_commas(number: re.Match[str]) -> str:
    return re.sub(r"\D", "", number[0])


def words(text: str) -> list[str]:
    r"""The words of a text, after normalisation, in order.

    >>> words(r"Compute \(\dfrac{1}{2} \cdot 6\).")
    ['compute', '1', '/', '2', '*', '6']
    """
    return folded(written_words(text))


def written_words(text: str) -> list[str]:
    """As `words`, with numbers in digits or spelled, as they are written."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_SIGNS))
    text = linear_fractions(_THOUSANDS.sub(_without_commas, text.casefold()))
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    return _WORD.findall(text)


_LABEL = re.compile(
    r"^\s*(?:[#>*\-\s]*(?:\*\*)?(?:problem|question|exercise|example|task|ex|no|q)\b\.?\s*(?:no\.?|number|\#)?\s*\d+(?:\.\d+)*\s*"
    r"(?:\([^()]{0,60}\)\s*(?:\*\*)?\s*[.:)\-–—]*|(?:\*\*)?\s*[.:)\-–—]+(?:\*\*)?|\*\*|(?=\n))|\(?\d{1,3}[.)](?!\d))\s+",
    re.IGNORECASE,
)


def without_label(text: str) -> str:
    """The text without the number that a collection gave it.

    >>> without_label("Problem 12. Find x.")
    'Find x.'
    """
    found = _LABEL.match(text)
    return text[found.end() :] if found and found.end() < len(text) else text


def comparison_key(text: str) -> str:
    """Equal for two spellings of the same problem; the text itself where it has no word."""
    return " ".join(words(without_label(text))) or text.strip()


_GROUPED = re.compile(r"(?<=\d)(?:,\\!|\{,\}|\\,|,)(?=\d{3}(?!\d))")
_PADDED = re.compile(r"(?<![\d.])0+(?=\d)")
_PADDED_AFTER = re.compile(r"(\d\.\d*?)0+(?![\d])")
_POINT_FIRST = re.compile(r"(?<!\d)\.(?=\d)")
_IS_LIST = re.compile(r"[\s$]*(?:\\left)?\s*\\?[(\[{]")


def answer_words(answer: str) -> list[str]:
    r"""The words of an answer, where `3,\!250` is `3250`, `097` is `97`, and `.50` is `0.5`; but `(1,250)` are two numbers.

    >>> answer_words(r"\$3,\!250")
    ['3250']
    """
    if not _IS_LIST.match(answer):
        answer = _GROUPED.sub("", answer)
    answer = _PADDED.sub("", _POINT_FIRST.sub("0.", answer))
    return words(_PADDED_AFTER.sub(r"\1", answer))


def numbers(tokens: Iterable[str]) -> list[str]:
    """The numbers among words, in order."""
    return [token for token in tokens if token[0].isdigit()]


def masked(tokens: Iterable[str]) -> list[str]:
    """The words with one sign for every number."""
    return ["#" if token[0].isdigit() else token for token in tokens]


def stable_hash(text: str) -> int:
    """64 bits, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
