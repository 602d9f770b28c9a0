"""Which scorer trains the model of a folder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ring_model.checkpoint import unread_model
from ring_model.configuration import MODEL_TYPE, BailingMoeConfig
from ring_model.policy import BailingScorer, Scorer
from ring_model.shape import NO_LIMIT

if TYPE_CHECKING:
    from ring_model.transformers_scorer import Adapters


def is_ours(folder: Path) -> bool:
    """Whether a folder holds our own architecture. Raises ValueError where config.json is missing or names no `model_type`."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} is no model: {path} does not exist; give a folder with config.json, model*.safetensors and tokenizer files"
        )
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["model_type"]) == MODEL_TYPE
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not the JSON of a model's configuration, which names a model_type: {error!r}"
        ) from error


def max_positions(folder: Path) -> int:
    """Longest row, in tokens, that the model of a folder was made for."""
    if is_ours(folder):
        return BailingMoeConfig.from_folder(folder).max_position_embeddings
    return int(
        json.loads((folder / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings", NO_LIMIT)
    )


def open_scorer(folder: Path, *, adapters: "Adapters | None" = None) -> Scorer:
    """Our own code for our own architecture, whose weights are read by `Scorer.read`; transformers for any other, and for adapters.

    Raises:
        ValueError: as `load_model` or `TransformersScorer`.

    """
    if adapters is None and is_ours(folder):
        return BailingScorer(unread_model(folder), unread=folder)
    from ring_model.transformers_scorer import TransformersScorer  # imports transformers, which takes seconds

    return TransformersScorer(folder, adapters=adapters)
