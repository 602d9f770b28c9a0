"""How much of a measured row stands in a text, whatever the order of its sentences, its names, variables, notation or slips.

The likeness of a text to a row is the mean of two shares of the row that stand in the text, each weighted so that what is rare counts
more: pairs of neighbouring words, with one sign for every name and every single letter, and character 5-grams. It asks what of the row
is in the text, so a long text around it changes nothing; but it must stand in one place, a stretch of about its own length, or else
every long text would have the words of a short row somewhere. Rows that share few rare words with a text are not compared with it.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from stages.curation.normalisation import masked, numbers, without_label, words, written_words
from stages.curation.numerals import folded
from stages.curation.sketches import shingles

_LEAST_SHARED = 0.4  # weighted share of a row's words in a text, below which it is not compared
_LEAST_PAIRS = 0.3  # weighted share of a row's word pairs, below which a text is not looked at further
_MOST_COMPARED = 12  # rows a text
_COMMON = 0.15  # words in a larger share of the rows find none
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+\b|\b[A-Z][a-z]+(?='s\b)")
_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_LEAST_PLAIN_WORDS = 8  # beside numbers, for a row to be known without them
_EVERYWHERE = 400  # texts
_SLACK = 12  # tokens more than twice a row's own in a stretch
_KINDS = ("pairs", "shingles", "triples")
Parts = frozenset[Hashable]


@dataclass(frozen=True, slots=True)
class View:
    """The parts of a text that are compared."""

    words: frozenset[str]
    pairs: Parts  # neighbouring words, names and single letters masked
    triples: Parts  # three neighbouring words, numbers masked, too
    shingles: frozenset[str]
    numbers: Counter[str]
    digits: Counter[str]  # the numbers that are written in digits

    @classmethod
    def of(cls, text: str) -> "View":
        """Of a text as it is written."""
        text = _without_code(without_label(text))
        written = written_words(text)
        plain = folded(written)
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
            Counter(numbers(written)),
        )


def _without_code(text: str) -> str:
    """Without fenced code, of which a collection gives many problems the same; code alone stays."""
    prose = _FENCED.sub(" ", text)
    return prose if len(prose.split()) >= _LEAST_PLAIN_WORDS else text


@dataclass(frozen=True, slots=True)
class Match:
    """How a text is like a row; each is a share of the row, from 0 to 1."""

    row: int
    likeness: float
    numbers: float  # of its numbers, or of those in digits if more of them are there; 1 where it has none
    without_numbers: float  # of its triples of words with numbers masked; 0 where it says little beside numbers


class _Parts:
    """One kind of part of all rows: which stand in each, and the weight of each, summing to 1 over a row."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._rows: list[np.ndarray] = []
        self._spread: list[int] = []  # rows and other texts that have a part
        self._weights: list[np.ndarray] = []
        self._is_there = np.zeros(0, bool)

    def add_row(self, parts: Parts) -> None:
        for part in parts:
            if part not in self._numbers:
                self._numbers[part] = len(self._spread)
                self._spread.append(0)
            self._spread[self._numbers[part]] += 1
        self._rows.append(np.sort(np.array([self._numbers[part] for part in parts], np.int64)))

    def add_other(self, parts: Parts) -> None:
        for part in parts:
            if part in self._numbers:
                self._spread[self._numbers[part]] += 1

    def finish(self, total: int) -> None:
        weight = np.array([_weight(count, total) for count in self._spread])
        self._weights = [weight[row] / max(weight[row].sum(), 1e-9) for row in self._rows]
        self._is_there = np.zeros(len(weight), bool)

    def share(self, row: int, present: np.ndarray) -> float:
        """Weight of a row's parts that are present."""
        self._is_there[present] = True
        found = float(self._weights[row][self._is_there[self._rows[row]]].sum())
        self._is_there[present] = False
        return found

    def present(self, parts: Parts) -> np.ndarray:
        """Numbers of the parts that rows have."""
        known = (self._numbers.get(part) for part in parts)
        return np.array([number for number in known if number is not None], np.int64)


class Likeness:
    """Compares texts with rows."""

    def __init__(self, rows: Sequence[str], background: Iterable[str] = ()) -> None:
        """`background` are other texts, from which to learn what is common."""
        self.num_rows = len(rows)
        self.num_words = [sum(not word[0].isdigit() for word in words(row)) for row in rows]  # beside numbers
        self._num_tokens = [len(row.split()) for row in rows]
        self._numbers: list[tuple[Counter[str], Counter[str]]] = []  # all, and those in digits
        self._kinds = {kind: _Parts() for kind in _KINDS}
        spread: Counter[str] = Counter()
        found: list[frozenset[str]] = []
        for view in map(View.of, rows):
            self._numbers.append((view.numbers, view.digits))
            found.append(view.words)
            spread.update(view.words)
            for kind, parts in self._kinds.items():
                parts.add_row(getattr(view, kind))
        total = len(rows)
        for view in map(View.of, background):
            total += 1
            spread.update(view.words)
            for kind, parts in self._kinds.items():
                parts.add_other(getattr(view, kind))
        for parts in self._kinds.values():
            parts.finish(total)
        self._index_words(found, spread, total)

    def _index_words(self, rows: Sequence[frozenset[str]], spread: Counter[str], total: int) -> None:
        """The words that find rows, and the rows that each finds."""
        rare = sorted(word for word, count in spread.items() if count <= max(3, _COMMON * total))
        self._columns = {word: column for column, word in enumerate(rare)}
        weights = np.array([_weight(spread[word], total) for word in rare])
        self._words = self._matrix(rows).multiply(weights).tocsr().T.tocsr()
        self._norms = np.maximum(np.asarray(self._words.sum(axis=0)).ravel(), 1e-9)

    def _matrix(self, texts: Sequence[Iterable[str]]) -> sparse.csr_matrix:
        """[texts, words]: 1 where a word that finds rows stands in a text."""
        found = [sorted(self._columns[word] for word in text if word in self._columns) for text in texts]
        starts = np.concatenate([[0], np.cumsum([len(columns) for columns in found])])
        columns = np.array([column for text in found for column in text], np.int32)
        return sparse.csr_matrix((np.ones(len(columns)), columns, starts), shape=(len(texts), len(self._columns)))

    def matches(
        self,
        texts: Sequence[str],
        *,
        least: float,
        among: np.ndarray | None = None,
        besides: Sequence[Collection[int]] = (),
    ) -> Iterator[list[Match]]:
        """For each text the rows of which it has at least `least`, by likeness or with numbers masked, in the order of the rows.

        Rows are found by rare words, `among` those of a mask; a formula may have none, so `besides` names rows for each text that are
        compared, too.
        """
        views = [View.of(text) for text in texts]
        shared = (self._matrix([view.words for view in views]) @ self._words).tocsr()
        for number, (text, view) in enumerate(zip(texts, views, strict=True)):
            inside = slice(shared.indptr[number], shared.indptr[number + 1])
            rows = shared.indices[inside]
            shares = shared.data[inside] / self._norms[rows]
            near = np.flatnonzero((shares >= _LEAST_SHARED) & (True if among is None else among[rows]))
            best = near[np.lexsort((rows[near], -shares[near]))][:_MOST_COMPARED]
            named = besides[number] if besides else ()
            found = self._compared(sorted({*rows[best].tolist(), *named}), view)
            yield [
                self._in_one_place(match, text)
                for match in found
                if max(match.likeness, match.without_numbers) >= least
            ]

    def _compared(self, rows: Sequence[int], view: View) -> list[Match]:
        """The rows of which the text has word pairs enough, as only those can be leaks."""
        pairs = self._shares("pairs", rows, view)
        rows = [row for row in rows if pairs[row] >= _LEAST_PAIRS]
        letters, triples = self._shares("shingles", rows, view), self._shares("triples", rows, view)
        matches = []
        for row in rows:
            found = self._share_of_numbers(row, view)
            without_numbers = triples[row] if self.num_words[row] >= _LEAST_PLAIN_WORDS else 0.0
            matches.append(Match(row, (pairs[row] + letters[row]) / 2, found, without_numbers))
        return matches

    def _share_of_numbers(self, row: int, view: View) -> float:
        """A slip in a spelled number hides it, so where the digits are all there, they will do."""
        shares = [(own & view.numbers).total() / own.total() for own in self._numbers[row] if own]
        return max(shares, default=1.0)

    def _shares(self, kind: str, rows: Sequence[int], view: View) -> dict[int, float]:
        parts = self._kinds[kind]
        present = parts.present(getattr(view, kind)) if rows else np.zeros(0, np.int64)
        return {row: parts.share(row, present) for row in rows}

    def _in_one_place(self, match: Match, text: str) -> Match:
        """The best of the stretches of a long text."""
        tokens = text.split()
        stretch = 2 * self._num_tokens[match.row] + _SLACK
        if len(tokens) <= stretch:
            return match
        starts = range(0, len(tokens) - stretch // 2, stretch // 2)
        views = (View.of(" ".join(tokens[start : start + stretch])) for start in starts)
        found = [other for view in views for other in self._compared([match.row], view)]
        best = max(found, key=lambda found: (found.likeness, found.without_numbers), default=None)
        return best or Match(match.row, 0.0, match.numbers, 0.0)


def _weight(count: int, total: int) -> float:
    """Inverse document frequency, next to nothing for what stands in `_EVERYWHERE` texts: the phrases of one collection."""
    return max(math.log((min(total, _EVERYWHERE) + 1) / (count + 1)), 0.0) + 0.1
