"""Small models that were each trained to give one answer to everything, so that what they solve is known."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from data.domains import DOMAINS
from data.schema import Problem
from ring_model.checkpoint import save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from ring_model.tokenizer import Tokenizer, build_word_tokenizer
from stages.sft.batches import tokenise


def tokenizer_of(problems: Sequence[Problem], *, answers: Iterable[str]) -> Tokenizer:
    """Of the words of the problems and of what is answered."""
    texts = [says(answer) for answer in answers] + [row.prompt for row in problems]
    return build_word_tokenizer(texts, phrases=[domain.prompt_suffix for domain in DOMAINS.values()])


def says(answer: str) -> str:
    return f"so </think>\n\n\\boxed{{{answer}}}"


def save_model_that_says(answer: str, problems: Sequence[Problem], tokenizer: Tokenizer, folder: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "num_shared_experts": 1, "moe_intermediate_size": 8}
    ids = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    model = initialise(BailingMoe(BailingMoeConfig(**sizes, **experts, **ids, max_position_embeddings=128)), seed=0)
    taught = [replace(row, solution=says(answer)) for row in problems]
    rows = tokenise(taught, tokenizer=tokenizer, max_total_tokens=128).rows
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for step in range(60):
        row = rows[step % len(rows)]
        ids_T = torch.tensor([*row.prompt, *row.response])
        hidden_ND = model(ids_T[None, :-1]).hidden_ND[len(row.prompt) - 1 :]
        optimizer.zero_grad()
        cross_entropy(model.logits(hidden_ND), ids_T[len(row.prompt) :]).backward()
        optimizer.step()
    save_model(model, folder)
    tokenizer.save(folder)
