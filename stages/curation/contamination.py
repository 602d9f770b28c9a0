"""Which candidates give away a problem that a model will be measured on.

A leak is a candidate
- whose normalised text equals that of a measured row, or
- in which at least `coverage` of the row's distinct word n-grams stand (a row shorter than n words is one n-gram by itself; one of
  fewer than `_SHORTEST` words only leaks when equal), or
- whose likeness to the row (see `likeness`) is large enough and which has at least `numbers` of its numbers, or
- which is the row but for its numbers: at least `masked_numbers` of its triples of words, with one sign for every number, or
- which is the row in another language (see `translations`): at least `translated` of the numbers and formulas, and the answer, or
- whose embedding, by a model that the recipe names, is at least `embedding_cosine` near, and which has at least `numbers` of the numbers.
The last four are switched off by 0, or by no model.

Likeness is large enough from `likeness` on where the row is long; of a short row more is asked, for its few words also stand in other
problems; and more or less where both have an answer and it is another or the same. A program is never like a sum: code is compared with
code. The recipe's own rows (`is_own`) are drawn from the same sources as the rows to train on, whose near copies are gone by now, so of
them likeness is not asked, and a row with other numbers is the next exercise of the same book. Where likeness is on, n-grams alone are
not enough: half of a row may be a phrase that many share, so what the n-grams find must also be `_CONFIRMED` as like as a leak has to be,
and all of it where the answer is another one.

The n-grams are indexed from n-gram to measured rows, and of each row only as many of its rarest n-grams as a leak cannot miss all of,
so that phrases shared by many rows cost nothing and the time is linear in the text of the candidates.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.schema import Problem
from stages.config import Decontamination
from stages.curation.embeddings import Meanings
from stages.curation.likeness import Likeness, Match
from stages.curation.normalisation import answer_words, comparison_key, numbers, words
from stages.curation.translations import Translations

_SHORTEST = 5  # words; fewer occur in unrelated problems ("simplify sqrt 180")
_MOST_TIMES = 7  # the words of a code row that a text may have and still be like it
_LONG = 20  # words beside numbers, from which on a row counts as long
_SHORT_LIKENESS = 0.85  # that is asked of a row without words
_SAME_ANSWER, _OTHER_ANSWER = -0.05, 0.08  # change of the likeness that is asked
_CONFIRMED = 0.75
Gram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """A row that a model will be measured on."""

    benchmark: str  # name for people
    id: str
    text: str
    domain: str = "math"
    answer: str = ""
    is_own: bool = False  # of the recipe's heldout or probe split


@dataclass(frozen=True, slots=True)
class Leak:
    """The measured row that a candidate gives away, how that was found, and the share of the row that it has."""

    row: MeasuredRow
    reason: str
    method: str
    score: float


class LeakIndex:
    """Finds the measured row that a text gives away most."""

    def __init__(
        self,
        rows: Sequence[MeasuredRow],
        rule: Decontamination,
        likeness: Likeness | None = None,
        translations: Translations | None = None,
        meanings: Meanings | None = None,
    ) -> None:
        """`likeness`, `translations` and `meanings` were made of the rows."""
        self._rule = rule
        self._rows = rows
        self._likeness = likeness
        self._translations = translations
        self._meanings = meanings
        split = [words(row.text) for row in self._rows]
        self._equal: defaultdict[str, list[int]] = defaultdict(list)
        for position, row in enumerate(self._rows):
            self._equal[comparison_key(row.text)].append(position)
        self._grams = [self._grams_of_row(tokens) for tokens in split]
        self._sizes = sorted({len(gram) for grams in self._grams for gram in grams})
        self._postings = self._index()

    def _grams_of_row(self, tokens: Sequence[str]) -> frozenset[Gram]:
        size = min(self._rule.ngram, len(tokens))
        return frozenset(_grams(tokens, size)) if size >= min(_SHORTEST, self._rule.ngram) else frozenset()

    def _index(self) -> dict[Gram, list[int]]:
        spread = Counter(gram for grams in self._grams for gram in grams)
        postings: defaultdict[Gram, list[int]] = defaultdict(list)
        for position, grams in enumerate(self._grams):
            rarest = sorted(grams, key=lambda gram: (spread[gram], gram))
            for gram in rarest[: len(grams) - self._needed(grams) + 1]:
                postings[gram].append(position)
        return dict(postings)

    def _needed(self, grams: frozenset[Gram]) -> int:
        """Fewest shared n-grams that make a leak."""
        return max(1, math.ceil(self._rule.coverage * len(grams) - 1e-9))

    def find(self, text: str, answer: str = "", *, domain: str = "math") -> Leak | None:
        """As `find_all`, for one text."""
        return next(self.find_all([Problem(id="", domain=domain, split="", prompt=text, answer=answer)]))

    def find_all(self, problems: Sequence[Problem], *, without: Sequence[str] = ()) -> Iterator[Leak | None]:
        """For each problem the measured row that is equal, or else the one it has most of; the earliest of equals.

        Rows of the benchmarks `without` take no part.
        """
        texts = [problem.prompt for problem in problems]
        is_asked = [row.benchmark not in without for row in self._rows]
        covered = [self._covered(words(text), is_asked) for text in texts]
        least = self._rule.likeness / 2
        among = np.array([asked and not row.is_own for asked, row in zip(is_asked, self._rows, strict=True)], bool)
        matches = (
            self._likeness.matches(texts, least=least, among=among, besides=covered)
            if self._likeness
            else ([] for _ in texts)
        )
        nears = self._meanings.near(texts, least=self._rule.embedding_cosine) if self._meanings else ([] for _ in texts)
        for problem, shares, found, near in zip(problems, covered, matches, nears, strict=True):
            tokens = words(problem.prompt)
            equal = [position for position in self._equal.get(comparison_key(problem.prompt), ()) if is_asked[position]]
            matched = [match for match in found if is_asked[match.row]]
            if equal and tokens:
                yield Leak(self._rows[equal[0]], "same text", "normalised text", 1.0)
            else:
                yield (
                    self._by_ngrams(problem, shares, matched)
                    or self._by_likeness(problem, matched)
                    or self._by_translation(problem, is_asked)
                    or self._by_meaning(problem, [(cosine, row) for cosine, row in near if is_asked[row]])
                )

    def _covered(self, tokens: Sequence[str], is_asked: Sequence[bool]) -> dict[int, float]:
        """The rows of whose n-grams the text has enough, and the share that it has."""
        present = {gram for size in self._sizes for gram in _grams(tokens, size)}
        near = {position for gram in present for position in self._postings.get(gram, ()) if is_asked[position]}
        shared = {position: len(self._grams[position] & present) for position in near}
        return {
            position: count / len(self._grams[position])
            for position, count in shared.items()
            if count >= self._needed(self._grams[position])
        }

    def _by_ngrams(self, problem: Problem, shares: Mapping[int, float], matched: Sequence[Match]) -> Leak | None:
        confirmed = shares.keys()
        if self._likeness and self._rule.likeness:
            confirmed &= {match.row for match in matched if self._confirms(match, problem)}
        if not confirmed:
            return None
        position = max(confirmed, key=lambda position: (shares[position], -position))
        return Leak(self._rows[position], "shared n-grams", f"{self._rule.ngram}-gram coverage", shares[position])

    def _confirms(self, match: Match, problem: Problem) -> bool:
        """Whether likeness agrees with what n-grams found: less of it than a leak by likeness needs, unless the answer is another one."""
        row = self._rows[match.row]
        if row.is_own and match.numbers < self._rule.numbers:
            return False
        is_other = _answers_say(problem, row) > 0
        return match.likeness >= (self._asked(match.row) if is_other else self._rule.likeness * _CONFIRMED)

    def _asked(self, position: int) -> float:
        """Likeness to a row that makes a leak, whatever the answers."""
        assert self._likeness is not None
        shortness = max(0.0, 1 - self._likeness.num_words[position] / _LONG)
        return self._rule.likeness + shortness * (_SHORT_LIKENESS - self._rule.likeness)

    def _by_likeness(self, problem: Problem, matched: Sequence[Match]) -> Leak | None:
        matched = [match for match in matched if self._is_comparable(problem, self._rows[match.row])]
        alike = [match for match in matched if self._is_alike(match, problem)]
        if alike:
            best = max(alike, key=lambda match: (match.likeness, -match.row))
            return Leak(self._rows[best.row], "similar text", "likeness", best.likeness)
        least = self._rule.masked_numbers
        alike = [match for match in matched if least and match.without_numbers >= least]
        if alike:
            best = max(alike, key=lambda match: (match.without_numbers, -match.row))
            return Leak(self._rows[best.row], "numbers changed", "numbers masked", best.without_numbers)
        return None

    def _by_translation(self, problem: Problem, is_asked: Sequence[bool]) -> Leak | None:
        if not self._translations or not self._rule.translated or problem.domain == "code":
            return None
        found = self._translations.find(problem.prompt, problem.answer, least=self._rule.translated)
        asked = [
            (likeness, -row)
            for likeness, row in found
            if is_asked[row] and self._is_comparable(problem, self._rows[row])
        ]
        if not asked:
            return None
        likeness, row = max(asked)
        return Leak(self._rows[-row], "translated", "numbers, formulas and answer", likeness)

    def _by_meaning(self, problem: Problem, near: Sequence[tuple[float, int]]) -> Leak | None:
        found = Counter(numbers(words(problem.prompt)))
        same = [
            (cosine, -row)
            for cosine, row in near
            if self._is_comparable(problem, self._rows[row])
            and self._share_of_numbers(row, found) >= self._rule.numbers
        ]
        if not same:
            return None
        cosine, row = max(same)
        return Leak(self._rows[-row], "same meaning", "meaning", cosine)

    def _share_of_numbers(self, row: int, found: Counter[str]) -> float:
        own = Counter(numbers(words(self._rows[row].text)))
        return (own & found).total() / own.total() if own else 1.0

    def _is_comparable(self, problem: Problem, row: MeasuredRow) -> bool:
        return not row.is_own and (problem.domain == "code") == (row.domain == "code")

    def _is_alike(self, match: Match, problem: Problem) -> bool:
        if not self._rule.likeness or match.numbers < self._rule.numbers or self._is_drowned(problem, match.row):
            return False
        return match.likeness >= self._asked(match.row) + _answers_say(problem, self._rows[match.row])

    def _is_drowned(self, problem: Problem, position: int) -> bool:
        """A program in a line ("find the perimeter of a square") says too little to be found among many others."""
        assert self._likeness is not None
        return (
            problem.domain == "code" and len(problem.prompt.split()) > _MOST_TIMES * self._likeness.num_words[position]
        )


def _answers_say(problem: Problem, row: MeasuredRow) -> float:
    """What two answers change in the likeness that is asked. Only numbers that differ make another answer: notations do not."""
    if problem.domain == "code":
        return 0.0
    one, other = answer_words(problem.answer), answer_words(row.answer)
    if one == other:
        return _SAME_ANSWER if one else 0.0
    return _OTHER_ANSWER if one and other and numbers(one) != numbers(other) else 0.0


def _grams(tokens: Sequence[str], size: int) -> Iterator[Gram]:
    return zip(*(tokens[start:] for start in range(size)), strict=False)
