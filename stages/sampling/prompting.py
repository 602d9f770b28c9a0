"""What a model is asked, and which model is meant: one place, so that SFT, selection, RL and evaluation cannot disagree."""

import json
from collections.abc import Mapping
from pathlib import Path

from data.domains import DOMAINS
from data.schema import Problem
from ring_model.tokenizer import Tokenizer
from stages.records.artifact import changed_files
from stages.training.checkpoints import checkpoint_folders

MODEL = "model"  # model folder inside an artifact
REFERENCE = "reference.json"  # instead of it: names a released folder
CHOICE = "choice.json"  # the selection's result


def prompt_text(problem: Problem) -> str:
    """The user's turn: the problem followed by the instruction of its domain."""
    return problem.prompt + DOMAINS[problem.domain].prompt_suffix


def prompt_ids(tokenizer: Tokenizer, problem: Problem) -> list[int]:
    """Token ids up to where the response begins: with the thinking opened, where the template opens it (`ring_model.chat_template`)."""
    return tokenizer.render_prompt(prompt_text(problem))


def model_folder(artifact: Path) -> Path:
    """The model of a base or RL artifact: its own folder, or the released one that it refers to.

    Raises ValueError where a file of the released folder is another one than when the artifact was made.
    """
    path = artifact / REFERENCE
    if not path.is_file():
        return artifact / MODEL
    reference = json.loads(path.read_text(encoding="utf-8"))
    folder = Path(reference["folder"])
    if changed := changed_files(folder, reference["files"]):
        raise ValueError(
            f"{folder} is not what it was when {artifact.name[:12]} referred to it: {'; '.join(changed[:3])}; "
            "put its files back, or run the chain again, which takes what is there"
        )
    return folder


def chosen_model(inputs: Mapping[str, Path]) -> Path:
    """The SFT checkpoint that selection chose, one that was trained or a mean: where arms start that name none, and `sft` in results.

    Raises ValueError where what it names is no checkpoint of that SFT.
    """
    path = inputs["selection"] / CHOICE
    name = json.loads(path.read_text(encoding="utf-8"))["checkpoint"]
    kept = {folder.name: folder for folder in checkpoint_folders(inputs["sft"])}
    if name not in kept:
        raise ValueError(f"{path}: {name!r} is no checkpoint of {inputs['sft'].name[:12]}; there are {', '.join(kept)}")
    return kept[name]


def start_model(inputs: Mapping[str, Path], checkpoint: str | None) -> Path:
    """The SFT checkpoint of that name, or the chosen one. Raises ValueError where SFT kept none of that name."""
    if checkpoint is None:
        return chosen_model(inputs)
    folder = inputs["sft"] / checkpoint
    if not folder.is_dir():
        kept = ", ".join(path.name for path in checkpoint_folders(inputs["sft"]))
        raise ValueError(
            f"an arm starts from {checkpoint}, but SFT kept {kept}; name one of them, or none for the chosen one"
        )
    return folder
