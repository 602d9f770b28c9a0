"""What a model is asked, and which model is meant: one place, so that SFT, selection, RL and evaluation cannot disagree."""

import json
from collections.abc import Mapping
from pathlib import Path

from data.domains import DOMAINS
from data.schema import Problem
from ring_model.tokenizer import Tokenizer
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
    """The model of a base or RL artifact: its own folder, or the released one that it refers to."""
    reference = artifact / REFERENCE
    if reference.is_file():
        return Path(json.loads(reference.read_text(encoding="utf-8"))["folder"])
    return artifact / MODEL


def chosen_model(inputs: Mapping[str, Path]) -> Path:
    """The SFT checkpoint that selection chose, one that was trained or a mean: where arms start that name none, and `sft` in results."""
    choice = json.loads((inputs["selection"] / CHOICE).read_text(encoding="utf-8"))
    return inputs["sft"] / choice["checkpoint"]


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
