"""Random models of other architectures than ours, with a byte-level tokenizer of their own."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import (
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3MoeConfig,
    set_seed,
)
from transformers.models.gemma2 import Gemma2ForCausalLM
from transformers.models.gpt2 import GPT2LMHeadModel
from transformers.models.llama import LlamaForCausalLM
from transformers.models.mixtral import MixtralForCausalLM
from transformers.models.qwen2 import Qwen2ForCausalLM
from transformers.models.qwen3_moe import Qwen3MoeForCausalLM

TEXTS = (
    "what is the sum of 3 and 4?",
    "write a program that prints the sum",
    "so the answer is \\boxed{7}",
    "<think>",
) * 4
END, OTHER_END = "<|im_end|>", "<|endoftext|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
POSITIONS = 64


def save_tokenizer(folder: Path, *, template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    backend = Tokenizer(BPE())
    backend.pre_tokenizer, backend.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    backend.train_from_iterator(
        TEXTS, BpeTrainer(vocab_size=300, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    )
    backend.add_special_tokens([AddedToken(text, special=True) for text in (END, OTHER_END, "<|im_start|>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=OTHER_END)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_causal_lm(
    folder: Path,
    kind: str = "llama",
    *,
    template: str | None = TEMPLATE,
    positions: int = POSITIONS,
    layers: int = 2,
    **generation: Any,
) -> Path:
    """A folder as a hub has it. `generation` are keys of its generation_config.json."""
    tokenizer = save_tokenizer(folder, template=template)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": positions,
        "initializer_range": 0.3,  # so that a model of chance prefers some tokens
        **ids,
    }
    set_seed(0)
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**sizes))
    elif kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**sizes, tie_word_embeddings=True))
    elif kind == "qwen3_moe":
        experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 16}
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **experts, norm_topk_prob=True))
    elif kind == "mixtral":
        model = MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=4, num_experts_per_tok=2))
    elif kind == "gemma2":
        model = Gemma2ForCausalLM(Gemma2Config(**sizes, head_dim=8, final_logit_softcapping=2.0))
    else:
        own = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": positions}
        model = GPT2LMHeadModel(GPT2Config(**own, **ids, initializer_range=0.3))
    model.save_pretrained(folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": ids["eos_token_id"], **generation}))
    return folder


@torch.no_grad()
def slow_logits(model: Any, tokens: list[int]) -> torch.Tensor:
    """Of the next token, in float64 [V]: no cache, no padding, no batch."""
    return model(torch.tensor([tokens])).logits[0, -1].double()
