"""How much of a measured row stands in a text, whatever the order of its sentences, its names, variables, notation or slips.

The likeness of a text to a row is the mean of two shares of the row that stand in the text, each weighted so that what is rare counts
more: pairs of neighbouring words, with one sign for every name and every single letter, and character 5-grams. It asks what of the row
is in the text, so a long text around it changes nothing; but it must stand in one place, a stretch of about its own length, or else
every long text would have the words of a short row somewhere. Rows that share few rare words with a text are not compared with it.
"""

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from stages.curation.normalisation import masked, numbers, without_label, words
from stages.curation.sketches import shingles

_LEAST_SHARED = 0.4  # weighted share of a row's words in a text, below which it is not compared
_MOST_COMPARED = 12  # rows a text
_COMMON = 0.15  # words in a larger share of the rows find none
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+\b|\b[A-Z][a-z]+(?='s\b)")
_LEAST_PLAIN_WORDS = 8  # beside numbers, for a row to be known without them
_EVERYWHERE = 400  # texts
_SLACK = 12  # tokens more than twice a row's own in a stretch
Parts = frozenset[Hashable]


@dataclass(frozen=True, slots=True)
class View:
    """The parts of a text that are compared."""

    words: frozenset[str]
    pairs: Parts  # neighbouring words, names and single letters masked
    triples: Parts  # three neighbouring words, numbers masked, too
    shingles: frozenset[str]
    numbers: Counter[str]

    @classmethod
    def of(cls, text: str) -> "View":
        """Of a text as it is written."""
        text = without_label(text)
        plain = words(text)
        hidden = [
            "v" if len(word) == 1 and word.isascii() and word.isalpha() else word
            for word in words(_NAME.sub("name", text))
        ]
        bare = masked(hidden)
        return cls(
            frozenset(plain),
            frozenset(pairwise(hidden)),
            frozenset(zip(bare, bare[1:], bare[2:], strict=False)),
            frozenset(shingles(" ".join(plain))),
            Counter(numbers(plain)),
        )


@dataclass(frozen=True, slots=True)
class Match:
    """How a text is like a row; each is a share of the row, from 0 to 1."""

    row: int
    likeness: float
    numbers: float  # of its numbers; 1 where it has none
    without_numbers: float  # of its triples of words with numbers masked; 0 where it says little beside numbers


class Likeness:
    """Compares texts with rows."""

    def __init__(self, rows: Sequence[str], background: Iterable[str] = ()) -> None:
        """`background` are other texts, from which to learn what is common."""
        views = [View.of(row) for row in rows]
        others = [View.of(text) for text in background]
        total = len(views) + len(others)
        self.num_rows = len(rows)
        self._numbers = [view.numbers for view in views]
        self._pairs = _weighted([view.pairs for view in views], [view.pairs for view in others])
        self._shingles = _weighted([view.shingles for view in views], [view.shingles for view in others])
        self._triples = _weighted([view.triples for view in views], [view.triples for view in others])
        self.num_words = [sum(not word[0].isdigit() for word in words(row)) for row in rows]  # beside numbers
        self._num_tokens = [len(row.split()) for row in rows]
        spread = Counter(word for view in (*views, *others) for word in view.words)
        self._columns = {word: n for n, word in enumerate(sorted(spread)) if spread[word] <= max(3, _COMMON * total)}
        self._columns = {word: n for n, word in enumerate(self._columns)}
        weights = np.array([_weight(spread[word], total) for word in self._columns])
        self._words = self._matrix([view.words for view in views]).multiply(weights).tocsr().T.tocsr()
        self._norms = np.maximum(np.asarray(self._words.sum(axis=0)).ravel(), 1e-9)

    def _matrix(self, texts: Sequence[Iterable[str]]) -> sparse.csr_matrix:
        """[texts, words]: 1 where a word that finds rows stands in a text."""
        found = [[self._columns[word] for word in text if word in self._columns] for text in texts]
        starts = np.concatenate([[0], np.cumsum([len(columns) for columns in found])])
        columns = np.array([column for text in found for column in text], np.int32)
        return sparse.csr_matrix((np.ones(len(columns)), columns, starts), shape=(len(texts), len(self._columns)))

    def matches(self, texts: Sequence[str], *, least: float) -> Iterator[list[Match]]:
        """For each text the rows of which it has at least `least`, by likeness or with numbers masked, in the order of the rows."""
        views = [View.of(text) for text in texts]
        shared = (self._matrix([view.words for view in views]) @ self._words).tocsr()
        for number, (text, view) in enumerate(zip(texts, views, strict=True)):
            inside = slice(shared.indptr[number], shared.indptr[number + 1])
            rows = shared.indices[inside]
            shares = shared.data[inside] / self._norms[rows]
            near = np.flatnonzero(shares >= _LEAST_SHARED)
            best = near[np.lexsort((rows[near], -shares[near]))][:_MOST_COMPARED]
            found = [self._match(int(row), view) for row in sorted(rows[best])]
            yield [
                self._in_one_place(match, text)
                for match in found
                if max(match.likeness, match.without_numbers) >= least
            ]

    def _match(self, row: int, view: View) -> Match:
        pairs, letters = _share(self._pairs[row], view.pairs), _share(self._shingles[row], view.shingles)
        own = self._numbers[row]
        return Match(
            row,
            (pairs + letters) / 2,
            sum((own & view.numbers).values()) / own.total() if own else 1.0,
            _share(self._triples[row], view.triples) if self.num_words[row] >= _LEAST_PLAIN_WORDS else 0.0,
        )

    def _in_one_place(self, match: Match, text: str) -> Match:
        """The best of the stretches of a long text."""
        tokens = text.split()
        stretch = 2 * self._num_tokens[match.row] + _SLACK
        if len(tokens) <= stretch:
            return match
        starts = range(0, len(tokens) - stretch // 2, stretch // 2)
        found = (self._match(match.row, View.of(" ".join(tokens[start : start + stretch]))) for start in starts)
        return max(found, key=lambda found: (found.likeness, found.without_numbers))


def _weight(count: int, total: int) -> float:
    """Inverse document frequency, next to nothing for what stands in `_EVERYWHERE` texts: the phrases of one collection."""
    return max(math.log((min(total, _EVERYWHERE) + 1) / (count + 1)), 0.0) + 0.1


def _weighted(rows: Sequence[Parts], others: Sequence[Parts]) -> list[dict[Hashable, float]]:
    """Each row's parts with the weight of each, summing to 1."""
    spread = Counter(part for parts in (*rows, *others) for part in parts)
    total = len(rows) + len(others)
    found = []
    for parts in rows:
        weights = {part: _weight(spread[part], total) for part in sorted(parts)}  # ty: ignore[invalid-argument-type]
        whole = sum(weights.values())
        found.append({part: weight / whole for part, weight in weights.items()})
    return found


def _share(weights: dict[Hashable, float], parts: Parts) -> float:
    return sum(weight for part, weight in weights.items() if part in parts)
