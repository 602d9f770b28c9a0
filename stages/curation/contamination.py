"""Which candidates give away a problem that a model will be measured on.

A leak is a candidate whose normalised text equals that of a measured row, or in which at least `coverage` of the row's distinct
word n-grams stand. A row shorter than n words is one n-gram by itself; one of fewer than `_SHORTEST` words only leaks when equal.

The index is inverted, from n-gram to measured rows, and holds of each row only as many of its rarest n-grams as a leak cannot
miss all of, so that phrases shared by many rows cost nothing and the time is linear in the text of the candidates.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from stages.config import Decontamination
from stages.curation.normalisation import words

_SHORTEST = 5  # words; fewer occur in unrelated problems ("simplify sqrt 180")
Gram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """A row that a model will be measured on."""

    benchmark: str  # name for people
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Leak:
    """The measured row that a candidate gives away."""

    row: MeasuredRow
    reason: str
    method: str
    score: float


class LeakIndex:
    """Finds the measured row that a text gives away most."""

    def __init__(self, rows: Iterable[MeasuredRow], rule: Decontamination) -> None:
        self._rule = rule
        self._rows = list(rows)
        split = [words(row.text) for row in self._rows]
        self._equal: dict[str, int] = {}
        for position, tokens in enumerate(split):
            self._equal.setdefault(" ".join(tokens), position)
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

    def find(self, text: str) -> Leak | None:
        """The measured row with equal text, or else with the largest coverage that is a leak; the earliest of equals."""
        tokens = words(text)
        if (position := self._equal.get(" ".join(tokens))) is not None:
            return Leak(self._rows[position], "same text", "coverage", 1.0)
        present = {gram for size in self._sizes for gram in _grams(tokens, size)}
        near = {position for gram in present for position in self._postings.get(gram, ())}
        shared = {position: len(self._grams[position] & present) for position in near}
        leaks = [position for position in sorted(near) if shared[position] >= self._needed(self._grams[position])]
        if not leaks:
            return None
        best = max(leaks, key=lambda position: (shared[position] / len(self._grams[position]), -position))
        return Leak(self._rows[best], "shared n-grams", "coverage", shared[best] / len(self._grams[best]))


def _grams(tokens: Sequence[str], size: int) -> Iterator[Gram]:
    return zip(*(tokens[start:] for start in range(size)), strict=False)
