"""Which scorer trains the model of a folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from ring_model.checkpoint import unread_model
from ring_model.model_types import is_ours
from ring_model.policy import BailingScorer, Scorer

if TYPE_CHECKING:
    from ring_model.transformers_scorer import Adapters


def open_scorer(folder: Path, *, adapters: "Adapters | None" = None) -> Scorer:
    """Our own code for our own architecture, whose weights are read by `Scorer.read`; transformers for any other, and for adapters.

    Raises:
        ValueError: as `load_model` or `TransformersScorer`.

    """
    if adapters is None and is_ours(folder):
        return BailingScorer(unread_model(folder), unread=folder)
    from ring_model.transformers_scorer import TransformersScorer  # imports transformers, which takes seconds

    return TransformersScorer(folder, adapters=adapters)
