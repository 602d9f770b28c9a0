"""Rows of training: what a data set wrote is text, what the pipeline set is special."""

from data.domains import DOMAINS
from data.schema import Problem
from ring_model.tokenizer import SPECIAL_TOKENS, build_word_tokenizer
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
