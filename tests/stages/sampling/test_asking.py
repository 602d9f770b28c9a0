"""One problem to one model: the greedy response, token by token the most probable one."""

from pathlib import Path

import pytest
import torch

from data.schema import Problem
from ring_model.checkpoint import load_model
from ring_model.tokenizer import Tokenizer
from stages.sampling.asking import respond
from stages.sampling.prompting import prompt_ids, prompt_text
from tests.stages.conftest import PROBLEMS


def greedy(folder: Path, prompt: list[int], *, num_tokens: int) -> list[int]:
    """The slow way: the whole text through the model for every token."""
    model, eos_id = load_model(folder), Tokenizer.from_folder(folder).eos_id
    tokens: list[int] = []
    with torch.no_grad():
        while len(tokens) < num_tokens and eos_id not in tokens:
            hidden_ND = model(torch.tensor([[*prompt, *tokens]])).hidden_ND
            tokens.append(int(model.logits(hidden_ND[-1:]).argmax()))
    return tokens


@pytest.mark.parametrize("problem", PROBLEMS[:2])
def test_a_model_says_its_most_probable_tokens(tiny_model: Path, problem) -> None:
    tokenizer = Tokenizer.from_folder(tiny_model)
    tokens = greedy(tiny_model, prompt_ids(tokenizer, problem), num_tokens=9)
    said = respond(tiny_model, problem, max_new_tokens=9)
    assert said.prompt == prompt_text(problem)
    assert said.tokens == len(tokens)
    assert said.finished == (tokens[-1] == tokenizer.eos_id)
    assert said.response == tokenizer.decode(tokens[:-1] if said.finished else tokens)


def test_a_prompt_that_leaves_no_room_is_told(tiny_model: Path) -> None:
    long = " ".join(["compute"] * 200)
    with pytest.raises(
        ValueError, match=r"the longest prompt has 2.. tokens, prompt and response together may have 128"
    ):
        respond(tiny_model, Problem(id="p", domain="math", split="rl", prompt=long), max_new_tokens=9)


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config.json"):
        respond(tmp_path, PROBLEMS[0], max_new_tokens=9)
