"""The model that a person names: its folder, the result that holds it, or the first characters of that result's fingerprint."""

import re
from collections.abc import Mapping
from pathlib import Path

from stages.records.artifact import Store, read_manifest
from stages.sampling.prompting import CHOICE, MODEL, REFERENCE, chosen_model, model_folder
from stages.training.checkpoints import checkpoint_folders

_ID = re.compile(r"[0-9a-f]{4,32}")


def find_model(name: str, *, store: Store) -> Path:
    """Folder of a model. A result with several wants one named, as `29063fee/epoch-02`, unless one is its end (RL, after its phases).

    Raises ValueError where nothing of this name holds a model, or holds several; it says which there are.
    """
    if (Path(name) / "config.json").is_file():
        return Path(name)
    prefix, _, part = name.rstrip("/").partition("/")
    if Path(name).is_dir():
        return _model_in(Path(name), "", name=name, store=store)
    if _ID.fullmatch(prefix):
        return _brought(_model_in(_folder_of(prefix, store), part, name=name, store=store), store)
    raise ValueError(
        f"no model {name!r}: give a folder with config.json and model*.safetensors, a result's folder, or an id of `ring ls` "
        f"(looked for {Path(name).absolute()})"
    )


def _folder_of(prefix: str, store: Store) -> Path:
    folder = store.folder_of(prefix)
    manifest = store.find(folder.parent.name, folder.name)
    return manifest.folder if manifest else folder


def _brought(model: Path, store: Store) -> Path:
    """The model's folder, with its weights, which a remote store keeps until they are asked for."""
    result = model.parent
    manifest = store.find(result.parent.name, result.name) if result.parent.parent == store.root else None
    return manifest.folder_with(model.name) / model.name if manifest else model


def _model_in(folder: Path, part: str, *, name: str, store: Store) -> Path:
    models = models_of(folder, store=store)
    part = part or (MODEL if MODEL in models else "")
    if part in models:
        return models[part]
    if not part and len(models) == 1:
        return next(iter(models.values()))
    if not models:
        raise ValueError(f"{name!r} holds no model ({folder}); results of base, sft, selection and rl do: `ring ls`")
    shown = f"{folder.name[:8]}/{list(models)[-1]}"
    raise ValueError(f"{name!r} holds {', '.join(models)}: name one, as {shown}")


def models_of(folder: Path, *, store: Store) -> Mapping[str, Path]:
    """Name -> folder of the models of a result; of a selection the one that it chose."""
    if (folder / MODEL).is_dir() or (folder / REFERENCE).is_file():
        others = {path.name: path for pattern in ("phase-*", "best") for path in sorted(folder.glob(pattern))}
        return {**others, MODEL: model_folder(folder)}
    if (folder / CHOICE).is_file():
        entry = read_manifest(folder).inputs["sft"]
        sft = store.find(entry["stage"], entry["fingerprint"])
        place = sft.folder if sft else store.place(entry["stage"], entry["fingerprint"])
        chosen = chosen_model({"selection": folder, "sft": place})
        return {chosen.name: chosen}
    return {path.name: path for path in checkpoint_folders(folder)}
