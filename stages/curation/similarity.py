"""How alike two texts are by their words, where rare words say more than common ones."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.curation.normalisation import comparison_key
from stages.curation.pool import Pool

_SAMPLE_BATCHES = 32  # read for the frequency of words, evenly spaced


@dataclass(frozen=True, slots=True)
class WordWeights:
    """Inverse document frequency of words, over a fixed sample of the pool."""

    weights: Mapping[str, float]
    unseen: float  # of a word that the sample does not have

    @classmethod
    def of(cls, pool: Pool) -> "WordWeights":
        """From the pool's prompts."""
        step = max(1, -(-pool.num_batches // _SAMPLE_BATCHES))
        sample = (pool.read(number, ["prompt"])["prompt"].to_pylist() for number in range(0, pool.num_batches, step))
        return cls.of_texts([prompt for prompts in sample for prompt in prompts])

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> "WordWeights":
        """From texts as they are written."""
        counts = Counter(word for text in texts for word in set(comparison_key(text).split()))
        total = len(texts)
        weights = {word: math.log((total + 1) / (count + 1)) + 0.1 for word, count in counts.items() if count > 1}
        return cls(weights, unseen=math.log((total + 1) / 2) + 0.1)

    def __getitem__(self, word: str) -> float:
        return self.weights.get(word, self.unseen)


def cosine(one: Sequence[str], other: Sequence[str], weights: WordWeights) -> float:
    """Cosine of the TF-IDF vectors of two lists of words."""
    vectors = [
        {word: (1 + math.log(count)) * weights[word] for word, count in Counter(words).items()}
        for words in (one, other)
    ]
    product = sum(value * vectors[1].get(word, 0.0) for word, value in vectors[0].items())
    norms = [math.sqrt(sum(value * value for value in vector.values())) for vector in vectors]
    return product / (norms[0] * norms[1]) if all(norms) else 0.0
