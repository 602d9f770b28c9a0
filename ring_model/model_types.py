"""Which architecture a model folder holds, by its config.json."""

import json
from pathlib import Path

from ring_model.configuration import MODEL_TYPE, BailingMoeConfig
from ring_model.shape import NO_LIMIT


def model_type(folder: Path) -> str:
    """Its name for the architecture. Raises ValueError where config.json is missing or names none."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} is no model: {path} does not exist; give a folder with config.json, model*.safetensors and tokenizer files"
        )
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["model_type"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not the JSON of a model's configuration, which names a model_type: {error!r}"
        ) from error


def is_ours(folder: Path) -> bool:
    """Whether a folder holds our own architecture. Raises ValueError as `model_type`."""
    return model_type(folder) == MODEL_TYPE


def max_positions(folder: Path) -> int:
    """Longest row, in tokens, that the model of a folder was made for."""
    if is_ours(folder):
        return BailingMoeConfig.from_folder(folder).max_position_embeddings
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found = {**values, **(values.get("text_config") or {})}.get("max_position_embeddings")
    return found if isinstance(found, int) else NO_LIMIT
