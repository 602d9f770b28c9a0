"""Which measured row a text in another language is a translation of, by what a translation keeps: numbers, formulas and the answer.

No model, and no dictionary but number words (`numerals`). Two rows are compared when one is English, the other Chinese, and their
answers are equal. What either writes in digits or in formulas must stand in the other one, where a number may also be spelled ("three",
"twice", 三). The likeness is the share of it that does, weighted by rarity, in the direction in which it is smaller. Few or common facts
say nothing however well they agree ("2, 3, answer 5"), so those that are shared, with the answer, must also be rare enough together:
`_EVIDENCE`. All numbers in the same order count for that as well: one order of the many that there are.

Rows are indexed by answer and fact, so a text meets only those that share both, and time is linear in the text of the candidates.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from stages.curation.language import language_of
from stages.curation.normalisation import answer_words, words

_EVIDENCE = 12.0  # nats: inverse document frequencies of the shared facts and of the answer, added up
_PAIR = {"en", "zh"}
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_TEXT_IN_FORMULA = re.compile(r"\\(?:text|mbox|mathrm)\s*\{[^{}]*\}")
_FORMULA_WORDS = 3  # neighbouring ones make a fact
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_DIGITS = re.compile(r"(\d+(?:\.\d+)?)\s*(hundred|thousand|million|百|千(?![克米瓦升])|万|亿)?", re.IGNORECASE)
_SCALES = {"": 1, "hundred": 100, "thousand": 1000, "million": 10**6, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
_TIMES = {"twice": 2, "double": 2, "thrice": 3, "triple": 3, "dozen": 12}
Facts = Counter[str]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a translation of a text keeps."""

    language: str
    answer: str  # normalised
    written: Facts  # numbers in digits, and formulas
    spelled: Facts  # numbers in words, which a translation may also write in digits
    in_order: tuple[str, ...]  # all numbers

    @classmethod
    def of(cls, text: str, answer: str = "") -> "Kept":
        """Of a text as it is written."""
        text = _THOUSANDS.sub("", text)
        numbers_ = Counter(_number(float(digits) * _SCALES[scale.lower()]) for digits, scale in _DIGITS.findall(text))
        formulas = Counter(set(_formula_facts(text)))
        in_order = tuple(_all_numbers(text))
        return cls(
            language_of(text),
            " ".join(answer_words(answer)),
            numbers_ + formulas,
            Counter(in_order) - numbers_,
            in_order,
        )

    @property
    def facts(self) -> Facts:
        """All of them, however they are written."""
        return self.written + self.spelled


def _number(value: float) -> str:
    return f"{value:.15g}"


def _formula_facts(text: str) -> Iterator[str]:
    for found in _FORMULA.findall(text):
        tokens = words(_TEXT_IN_FORMULA.sub(" ", "".join(found)))
        for start in range(len(tokens) - _FORMULA_WORDS + 1):
            yield " ".join(tokens[start : start + _FORMULA_WORDS])


def _all_numbers(text: str) -> Iterator[str]:
    """In digits or spelled, without one, which is an article, too."""
    found = words(text)
    values = (_TIMES.get(word) or (float(word) if word[0].isdigit() else 0) for word in found)
    yield from (_number(value) for value in values if value > 1)


def _order(one: Kept, other: Kept) -> float:
    """What the same numbers in the same order say beside that they are the same: one order of so many."""
    if one.in_order != other.in_order:
        return 0.0
    orders = math.lgamma(len(one.in_order) + 1)
    return orders - sum(math.lgamma(count + 1) for count in Counter(one.in_order).values())


class Translations:
    """Finds the rows that a text is a translation of."""

    def __init__(self, rows: Sequence[tuple[str, str]], background: Iterable[str] = ()) -> None:
        """`rows` are texts with their answers, `background` other texts, from which to learn what is common."""
        self._rows = [Kept.of(text, answer) for text, answer in rows]
        self._answers = Counter(row.answer for row in self._rows)
        self._spread: Counter[str] = Counter()
        self._total = 0
        for kept in (*self._rows, *map(Kept.of, background)):
            self._spread.update(kept.facts.keys())
            self._total += 1
        self._postings: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for number, row in enumerate(self._rows):
            for fact in row.facts if row.answer else ():
                self._postings[row.answer, fact].append(number)

    def find(self, text: str, answer: str, *, least: float) -> list[tuple[float, int]]:
        """(likeness, row) of the rows that are at least so like the text, in their order."""
        kept = Kept.of(text, answer)
        near = {row for fact in kept.facts for row in self._postings.get((kept.answer, fact), ())}
        found = [(self._likeness(kept, self._rows[row]), row) for row in sorted(near)]
        return [(likeness, row) for likeness, row in found if likeness >= least]

    def _likeness(self, one: Kept, other: Kept) -> float:
        """Of two rows with one answer; 0 where they are no pair of languages, or say too little."""
        if {one.language, other.language} != _PAIR:
            return 0.0
        forth, back = one.written & other.facts, other.written & one.facts
        answer = math.log((len(self._rows) + 1) / (self._answers[other.answer] + 1))
        if self._weight(forth | back) + _order(one, other) + answer < _EVIDENCE:
            return 0.0
        shares = [(self._weight(forth), self._weight(one.written)), (self._weight(back), self._weight(other.written))]
        return min(shared / whole if whole else 1.0 for shared, whole in shares)

    def _weight(self, facts: Facts) -> float:
        return sum(
            count * math.log((self._total + 1) / (self._spread[fact] + 1)) for fact, count in sorted(facts.items())
        )
