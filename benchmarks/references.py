"""What `ring_model` is measured against: transformers' Qwen2Moe, `generate`, and TRL's `GRPOTrainer`, in their fastest settings here.

The defaults below are the settings that came out fastest on one thread of this CPU; the other ones stay arguments, so that the
choice can be measured again. Seconds are CPU seconds (`process_time`), which another process on the machine does not change.
TRL is in the extra `bench`; everything else is in the base set.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from transformers import AutoModelForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM

import ring_model  # noqa: F401 - makes the auto classes open our folders
from ring_model.configuration import BailingMoeConfig
from ring_model.tokenizer import SPECIAL_TOKENS, Tokenizer, build_word_tokenizer

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one way to generate gave."""

    useful_tokens: int
    """Response tokens, each response up to and with its end token."""
    seconds: float
    """CPU seconds."""


def qwen2_moe(config: BailingMoeConfig, *, attention: str = "sdpa", experts: str = "grouped_mm") -> Qwen2MoeForCausalLM:
    """transformers' nearest architecture, of the same sizes: its one shared expert is as wide as ours, behind a sigmoid gate."""
    torch.manual_seed(0)
    return Qwen2MoeForCausalLM._from_config(
        Qwen2MoeConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            num_experts=config.num_experts,
            num_experts_per_tok=config.num_experts_per_tok,
            norm_topk_prob=config.norm_topk_prob,
            moe_intermediate_size=config.moe_intermediate_size,
            shared_expert_intermediate_size=config.shared_size,
            max_position_embeddings=config.max_position_embeddings,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            initializer_range=config.initializer_range,
            qkv_bias=False,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        ),
        attn_implementation=attention,
        experts_implementation=experts,
    )


def training_step(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    optimizer: torch.optim.Optimizer | None = None,
    packed: bool = False,
) -> Callable[[], float]:
    """A function that runs one step on these rows: forward, the mean loss of all response tokens, backward, optimizer if given.

    `model` is a transformers model. The rows are padded on the right, with an attention mask; `packed` puts them into one row
    without padding, told apart by their position ids. The function returns the loss.
    """
    inputs = _packed_inputs(prompts, responses) if packed else _padded_inputs(prompts, responses)
    model.train()

    def step() -> float:
        loss = model(**inputs, use_cache=False).loss
        loss.backward()
        if optimizer is not None:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        return loss.item()

    return step


def _padded_inputs(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    width = max(map(len, rows))
    pad = lambda row, value: [*row, *[value] * (width - len(row))]  # noqa: E731
    labels = [[IGNORED] * len(prompt) + list(response) for prompt, response in zip(prompts, responses, strict=True)]
    return {
        "input_ids": torch.tensor([pad(row, 0) for row in rows]),
        "attention_mask": torch.tensor([pad([1] * len(row), 0) for row in rows]),
        "labels": torch.tensor([pad(row, IGNORED) for row in labels]),
    }


def _packed_inputs(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    pairs = list(zip(prompts, responses, strict=True))
    labels = [label for prompt, response in pairs for label in [*[IGNORED] * len(prompt), *response]]
    return {
        "input_ids": torch.tensor([[token for prompt, response in pairs for token in [*prompt, *response]]]),
        "position_ids": torch.tensor([[place for p, r in pairs for place in range(len(p) + len(r))]]),
        "labels": torch.tensor([labels]),
    }


def transformers_generate(
    folder: Path | str,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    eos_id: int,
    batch_rows: int = 128,
    cache: str = "dynamic",
    experts: str = "grouped_mm",
    attention: str = "sdpa",
) -> Decoded:
    """Sample one response per prompt with `generate` on a folder of ours, in static batches, left-padded.

    A batch ends with its longest response. The model is opened, and one short batch runs, before the clock starts.
    """
    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation=attention, experts_implementation=experts
    ).eval()
    settings = {
        "do_sample": temperature > 0,
        "temperature": temperature or None,
        "top_k": 0,
        "eos_token_id": eos_id,
        "pad_token_id": eos_id,
        "cache_implementation": None if cache == "dynamic" else cache,
    }
    batches = [prompts[start : start + batch_rows] for start in range(0, len(prompts), batch_rows)]
    torch.manual_seed(0)
    _generate_batch(model, batches[0], max_new_tokens=4, settings=settings)
    started, tokens = time.process_time(), 0
    for batch in batches:
        tokens += _generate_batch(model, batch, max_new_tokens=max_new_tokens, settings=settings)
    return Decoded(tokens, time.process_time() - started)


def _generate_batch(
    model: torch.nn.Module, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, settings: dict
) -> int:
    """Useful tokens of one batch."""
    width = max(map(len, prompts))
    end = settings["eos_token_id"]
    ids = torch.tensor([[*[end] * (width - len(prompt)), *prompt] for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    made = model.generate(ids, attention_mask=mask, max_new_tokens=max_new_tokens, **settings)[:, width:]
    before_end = (made == end).cumsum(1) == 0
    return int((before_end.sum(1) + 1).clamp(max=made.shape[1]).sum())


def transformers_generate_batch(
    folder: Path | str, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, eos_id: int,
    rows: int = 128, attention: str = "sdpa", experts: str = "grouped_mm",
) -> Decoded:  # fmt: skip
    """The same with transformers' continuous batching, which replaces finished rows."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation=f"paged|{attention}", experts_implementation=experts
    ).eval()
    settings = GenerationConfig(
        do_sample=True, temperature=temperature, top_k=0, eos_token_id=eos_id, pad_token_id=eos_id,
        max_new_tokens=max_new_tokens,
    )  # fmt: skip
    started = time.process_time()
    outputs = model.generate_batch(
        inputs=[list(prompt) for prompt in prompts],
        generation_config=settings,
        continuous_batching_config=ContinuousBatchingConfig(max_batch_tokens=rows, allow_block_sharing=False),
        progress_bar=False,
    )
    seconds = time.process_time() - started
    return Decoded(sum(len(output.generated_tokens) for output in outputs.values()), seconds)


def trl_grpo_seconds(
    folder: Path | str,
    prompts: Sequence[str],
    *,
    reward: Callable[[list[int]], float],
    num_samples: int = 8,
    max_new_tokens: int = 64,
    num_steps: int = 5,
    learning_rate: float = 1e-4,
    **settings: object,
) -> float:
    """Median CPU seconds of one step of TRL's `GRPOTrainer` on a folder of ours, after a first one to warm up.

    A step samples `num_samples` responses of each prompt (texts for the folder's tokenizer), scores each by `reward` of its
    token ids, and makes one update in one batch: float32, temperature 1, no KL term, no second look at a batch, no logging,
    no checkpointing of activations. `settings` go to `GRPOConfig` and win.
    """
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Clock(TrainerCallback):
        """CPU time at the end of each step."""

        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *args: object, **kwargs: object) -> None:
            self.ends.append(time.process_time())

    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = {
            "output_dir": scratch,
            "per_device_train_batch_size": len(prompts) * num_samples,
            "num_generations": num_samples,
            "max_completion_length": max_new_tokens,
            "max_steps": num_steps + 1,
            "learning_rate": learning_rate,
            "lr_scheduler_type": "constant",
            "temperature": 1.0,
            "beta": 0.0,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "seed": 0,
        }
        trainer = GRPOTrainer(
            model=str(folder),
            reward_funcs=lambda completion_ids, **_: [reward(ids) for ids in completion_ids],
            args=GRPOConfig(**arguments | settings),
            train_dataset=Dataset.from_dict({"prompt": list(prompts)}),
            callbacks=[clock],
        )
        trainer.train()
    return median(end - start for start, end in pairwise(clock.ends))


def save_word_tokenizer(folder: Path | str, *, vocab_size: int) -> Tokenizer:
    """Give a folder a tokenizer of exactly `vocab_size` words, so that any prompt of ids is a text and back."""
    tokenizer = build_word_tokenizer([" ".join(map(str, range(vocab_size - len(SPECIAL_TOKENS))))])
    tokenizer.save(folder)
    return tokenizer
