"""The language of a text by its letters: `en` (Latin), `zh` (Chinese), `other`, or `none` where there are too few letters to say."""

import re

_CHINESE = re.compile(r"[\u3400-\u9fff]+")
_LATIN = re.compile(r"[A-Za-z]+")
_OTHER = re.compile(r"[\u0370-\u1fff\u3040-\u30ff\uac00-\ud7af]+")
_COMMAND = re.compile(r"\\[A-Za-z]+|\$[^$]*\$")
_CODE = re.compile(r"```.*?```", re.DOTALL)
_LEAST_LETTERS = 8
_KANA_ENOUGH = 0.2  # beside Chinese signs; Japanese is written in both
_CHINESE_ENOUGH = 0.2  # a sign says as much as some letters, and formulas are written in Latin ones


def share_of(language: str, text: str) -> float:
    """Share of the letters, without formulas and code, that are of the language's script."""
    counts = _counts(text)
    return counts[language] / max(1, sum(counts.values()))


def language_of(text: str) -> str:
    """The language."""
    counts = _counts(text)
    total = sum(counts.values())
    if total < _LEAST_LETTERS and not counts["zh"]:
        return "none"
    if counts["zh"] >= _CHINESE_ENOUGH * total and counts["other"] <= _KANA_ENOUGH * counts["zh"]:
        return "zh"
    return "en" if counts["en"] >= counts["other"] else "other"


def _counts(text: str) -> dict[str, int]:
    plain = _COMMAND.sub(" ", _CODE.sub(" ", text))
    is_other = not plain.isascii()
    return {
        "zh": _length(_CHINESE, plain) if is_other else 0,
        "en": _length(_LATIN, plain),
        "other": _length(_OTHER, plain) if is_other else 0,
    }


def _length(script: re.Pattern[str], text: str) -> int:
    return sum(map(len, script.findall(text)))
