"""What a model is asked, and which model is meant."""

import json
import shutil
from pathlib import Path

import pytest

from data.domains import DOMAINS
from data.schema import Problem
from ring_model.tokenizer import Tokenizer
from stages.records.artifact import list_files, write_json
from stages.sampling.prompting import chosen_model, model_folder, prompt_ids, prompt_text


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_problem_is_asked_with_the_instruction_of_its_domain(domain: str, tiny_model: Path) -> None:
    problem = Problem(id="p", domain=domain, split="rl", prompt="compute 3 + 9")
    assert prompt_text(problem) == "compute 3 + 9" + DOMAINS[domain].prompt_suffix
    tokenizer = Tokenizer.from_folder(tiny_model)
    expected = f"<role>HUMAN</role>{prompt_text(problem)}<role>ASSISTANT</role><think>"
    assert prompt_ids(tokenizer, problem) == tokenizer.encode(expected)
    assert prompt_ids(tokenizer, problem)[-1] == tokenizer.token_id("<think>")


def test_an_answer_a_solution_and_tests_are_no_part_of_what_is_asked() -> None:
    bare = Problem(id="p", domain="math", split="rl", prompt="compute 3 + 9")
    told = Problem(id="p", domain="math", split="rl", prompt="compute 3 + 9", answer="12", tests="t", solution="s")
    assert prompt_text(told) == prompt_text(bare)


def test_the_model_of_an_artifact_is_its_own_folder_or_the_released_one_that_it_names(tmp_path: Path) -> None:
    assert model_folder(tmp_path) == tmp_path / "model"
    folder = released(tmp_path)
    assert model_folder(tmp_path) == folder


@pytest.mark.parametrize("change", ["other weights", "one more file", "gone"])
def test_a_released_folder_that_changed_since_is_not_used(tmp_path: Path, change: str) -> None:
    folder = released(tmp_path)
    if change == "other weights":
        (folder / "model.safetensors").write_bytes(b"other weights")
    elif change == "one more file":
        (folder / "chat_template.jinja").write_text("{{ messages }}")
    else:
        shutil.rmtree(folder)
    with pytest.raises(ValueError, match="is not what it was"):
        model_folder(tmp_path)


def released(artifact: Path) -> Path:
    """A released folder that an artifact refers to."""
    folder = artifact / "released" / "größe"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    write_json(artifact / "reference.json", {"folder": str(folder), "files": list_files(folder)})
    return folder


def test_the_chosen_model_is_the_checkpoint_of_sft_that_selection_named(tmp_path: Path) -> None:
    (tmp_path / "selection").mkdir()
    (tmp_path / "selection" / "choice.json").write_text(json.dumps({"checkpoint": "epoch-03", "reason": "r"}))
    (tmp_path / "sft" / "epoch-03").mkdir(parents=True)
    inputs = {name: tmp_path / name for name in ("sft", "selection")}
    assert chosen_model(inputs) == tmp_path / "sft" / "epoch-03"


@pytest.mark.parametrize("name", ["../..", "epoch-04", "/etc", ""])
def test_a_choice_that_is_no_checkpoint_of_that_sft_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "selection").mkdir()
    (tmp_path / "sft" / "epoch-03").mkdir(parents=True)
    (tmp_path / "selection" / "choice.json").write_text(json.dumps({"checkpoint": name}))
    with pytest.raises(ValueError, match="is no checkpoint of sft; there are epoch-03"):
        chosen_model({part: tmp_path / part for part in ("sft", "selection")})
