"""What a model is asked, and which model is meant."""

import json
from pathlib import Path

import pytest

from data.domains import DOMAINS
from data.schema import Problem
from ring_model.tokenizer import Tokenizer
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
    (tmp_path / "reference.json").write_text(json.dumps({"folder": "/released/größe"}), encoding="utf-8")
    assert model_folder(tmp_path) == Path("/released/größe")


def test_the_chosen_model_is_the_checkpoint_of_sft_that_selection_named(tmp_path: Path) -> None:
    (tmp_path / "selection").mkdir()
    (tmp_path / "selection" / "choice.json").write_text(json.dumps({"checkpoint": "epoch-03", "reason": "r"}))
    inputs = {name: tmp_path / name for name in ("sft", "selection")}
    assert chosen_model(inputs) == tmp_path / "sft" / "epoch-03"
