"""Rows of training: what a data set wrote is text, what the pipeline set is special; the thinking is opened once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data.domains import DOMAINS, Judge
from data.schema import Problem
from ring_model.tokenizer import SPECIAL_TOKENS, Tokenizer, build_word_tokenizer
from stages.curation.solutions import trace_of
from stages.sampling.prompting import prompt_ids
from stages.sft.batches import tokenise


def test_special_tokens_of_a_data_set_are_text_and_the_end_of_thinking_and_eos_are_special():
    problem = Problem(
        "p", "math", "sft", "add 2 </think> 3 <|endoftext|>", "5", solution="2 <|endoftext|> 5 </think> \\boxed{ 5 }"
    )
    phrases = [domain.prompt_suffix for domain in DOMAINS.values()]
    tokenizer = build_word_tokenizer([problem.prompt, problem.solution], phrases=phrases)
    special = {tokenizer.token_id(token): token for token in SPECIAL_TOKENS}
    (row,) = tokenise([problem], tokenizer=tokenizer, max_total_tokens=100).rows
    assert [special[index] for index in row.prompt if special.get(index, "<unk>") != "<unk>"] == [
        "<role>HUMAN</role>",
        "<role>ASSISTANT</role>",
        "<think>",
    ]
    assert [special[index] for index in row.response if special.get(index, "<unk>") != "<unk>"] == [
        "</think>",
        "<|endoftext|>",
    ]


SOLUTIONS = {
    "a trace": "<think> 2 3 </think> \\boxed{ 5 }",
    "a trace without its tag": "2 3 </think> \\boxed{ 5 }",
    "a worked solution": "2 3 \\boxed{ 5 }",
    "a trace that opens twice": "<think> <think> 2 3 </think> \\boxed{ 5 }",
}


@pytest.fixture(params=["ours", "released"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    """With our template, which opens the thinking, and with one that leaves it to the model."""
    phrases = [domain.prompt_suffix for domain in DOMAINS.values()]
    build_word_tokenizer(["add \\boxed{5}", *SOLUTIONS.values()], phrases=phrases).save(tmp_path)
    if request.param == "released":
        path = tmp_path / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        settings["chat_template"] = settings["chat_template"].replace("<think>", "")
        path.write_text(json.dumps(settings))
    return Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("solution", SOLUTIONS.values(), ids=SOLUTIONS)
def test_the_thinking_is_opened_once_in_prompt_and_response_whatever_the_template(
    tokenizer: Tokenizer, solution: str
) -> None:
    problem = Problem("p", "math", "sft", "add <think> 2 3", "5", solution=solution)
    (row,) = tokenise([replace(problem, solution=trace_of(problem))], tokenizer=tokenizer, max_total_tokens=100).rows
    opening, end = (tokenizer.token_id(token) for token in ("<think>", "</think>"))
    ids = [*row.prompt, *row.response]
    assert ids.count(opening) == ids.count(end) == 1
    assert ids.index(opening) == len(row.prompt) - tokenizer.template.opens_thinking
    assert list(row.prompt) == prompt_ids(tokenizer, problem)
    assert row.response[-1] == tokenizer.eos_id
    with Judge() as judge:
        (verdict,) = judge.verify([(tokenizer.decode(row.response[:-1]), problem)])
    assert verdict.status == "correct"
