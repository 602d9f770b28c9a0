"""What `ring_model` is measured against: transformers' Qwen2Moe, its `generate`, and TRL's `GRPOTrainer`.

The defaults of the functions are the fastest settings on one thread of a CPU; `python -m benchmarks.references [d128|d256]`
prints what each setting gives (minutes). Seconds are CPU seconds (`process_time`), which other processes change little.
TRL is in the extra `bench`.
"""

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    PrinterCallback,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    TrainerCallback,
)
from transformers.utils import logging as transformers_logging

from benchmarks.random_prompts import random_prompts
from flows.tables import rows_table
from ring_model.checkpoint import save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from ring_model.tokenizer import SPECIAL_TOKENS, Tokenizer, build_word_tokenizer

IGNORED = -100

SIZES = {
    "d128": {
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_experts": 16,
    },
    "d256": {
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "num_experts": 32,
    },
}


def config_of(size: str, *, vocab_size: int) -> BailingMoeConfig:
    """A model of the named size with top-2 of experts of width 128, one shared expert, and end token 0."""
    return BailingMoeConfig(
        **SIZES[size],
        vocab_size=vocab_size,
        num_experts_per_tok=2,
        num_shared_experts=1,
        moe_intermediate_size=128,
        initializer_range=0.06,
        rope_theta=1e4,
        eos_token_id=0,
        pad_token_id=0,
    )


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
    packed: bool = True,
) -> Callable[[], float]:
    """A function that runs one step on these rows: forward, the mean loss of all response tokens, backward, optimizer if given.

    `model` is a transformers model. Pairs share rows of twice the longest pair's width, told apart by their position ids (no
    attention mask); or, not `packed`, each is a row padded on the right, with an attention mask. The function returns the loss.
    """
    pairs = list(zip(prompts, responses, strict=True))
    inputs = _packed_inputs(pairs) if packed else _padded_inputs(pairs)
    model.train()

    def step() -> float:
        loss = model(**inputs, use_cache=False).loss
        loss.backward()
        if optimizer is not None:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        return loss.item()

    return step


Pair = tuple[Sequence[int], Sequence[int]]


def _padded_inputs(pairs: list[Pair]) -> dict[str, torch.Tensor]:
    width = max(len(prompt) + len(response) for prompt, response in pairs)
    pad = lambda row, value: [*row, *[value] * (width - len(row))]  # noqa: E731
    return {
        "input_ids": torch.tensor([pad([*prompt, *response], 0) for prompt, response in pairs]),
        "attention_mask": torch.tensor([pad([1] * (len(prompt) + len(response)), 0) for prompt, response in pairs]),
        "labels": torch.tensor([pad([IGNORED] * len(prompt) + [*response], IGNORED) for prompt, response in pairs]),
    }


def _packed_inputs(pairs: list[Pair]) -> dict[str, torch.Tensor]:
    """Longest pairs first, each into the first row that has room; what is left of a row is one more document without labels."""
    width = 2 * max(len(prompt) + len(response) for prompt, response in pairs)
    rows: list[dict[str, list[int]]] = []
    for prompt, response in sorted(pairs, key=lambda pair: -len(pair[0]) - len(pair[1])):
        length = len(prompt) + len(response)
        row = next((row for row in rows if len(row["input_ids"]) + length <= width), None)
        if row is None:
            rows.append(row := {"input_ids": [], "position_ids": [], "labels": []})
        row["input_ids"] += [*prompt, *response]
        row["position_ids"] += range(length)
        row["labels"] += [IGNORED] * len(prompt) + [*response]
    longest = max(len(row["input_ids"]) for row in rows)
    for row in rows:
        rest = longest - len(row["input_ids"])
        row["input_ids"] += [0] * rest
        row["position_ids"] += range(rest)
        row["labels"] += [IGNORED] * rest
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


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
    rows: int = 128, attention: str = "paged|eager", experts: str = "grouped_mm",
) -> Decoded:  # fmt: skip
    """The same with transformers' continuous batching, which replaces finished rows."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation=attention, experts_implementation=experts
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


def train_by_trl(
    folder: Path | str,
    rows: Sequence[Mapping[str, object]],
    *,
    reward: Callable[..., list[float]],
    num_prompts: int,
    num_samples: int,
    max_new_tokens: int,
    num_steps: int,
    learning_rate: float,
    callbacks: Sequence[TrainerCallback] = (),
    **settings: object,
) -> None:
    """Train a folder of ours by TRL's `GRPOTrainer`.

    A step samples `num_samples` responses to each of `num_prompts` rows (`prompt`, and what `reward` wants to know), scores them by
    `reward` and makes one update in one batch: float32, temperature 1, no KL term, no second look at a batch, no logging,
    no checkpointing of activations. `settings` go to `GRPOConfig` and win.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    with tempfile.TemporaryDirectory() as scratch:
        arguments = {
            "output_dir": scratch,
            "per_device_train_batch_size": num_prompts * num_samples,
            "num_generations": num_samples,
            "max_completion_length": max_new_tokens,
            "max_steps": num_steps,
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
            reward_funcs=reward,
            args=GRPOConfig(**arguments | settings),
            train_dataset=Dataset.from_list([dict(row) for row in rows]),
            callbacks=list(callbacks),
        )
        trainer.remove_callback(PrinterCallback)  # it prints the metrics that logging_strategy forbids
        trainer.train()


class AtEachStep(TrainerCallback):
    """Calls a function at the end of each step."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        self._function()


def trl_grpo_seconds(folder: Path | str, prompts: Sequence[str], *, num_steps: int = 5, **settings: object) -> float:
    """Median CPU seconds of one step of 8 samples of at most 64 tokens of each prompt by TRL, after a first one to warm up."""
    ends: list[float] = []
    train_by_trl(
        folder,
        [{"prompt": prompt} for prompt in prompts],
        reward=lambda completion_ids, **_: [share_of_odd_ids(ids) for ids in completion_ids],
        callbacks=[AtEachStep(lambda: ends.append(time.process_time()))],
        **{
            "num_prompts": len(prompts),
            "num_samples": 8,
            "max_new_tokens": 64,
            "num_steps": num_steps + 1,
            "learning_rate": 1e-4,
        }
        | settings,
    )
    return median(end - start for start, end in pairwise(ends))


def save_word_tokenizer(folder: Path | str, *, vocab_size: int) -> Tokenizer:
    """Give a folder a tokenizer of exactly `vocab_size` words, so that any prompt of ids is a text and back."""
    tokenizer = build_word_tokenizer([" ".join(map(str, range(vocab_size - len(SPECIAL_TOKENS))))])
    tokenizer.save(folder)
    return tokenizer


TRAINING_SETTINGS = (
    ("sdpa", "grouped_mm", True),
    ("sdpa", "grouped_mm", False),
    ("sdpa", "eager", True),
    ("eager", "grouped_mm", True),
)
GENERATE_SETTINGS: tuple[dict[str, str], ...] = (
    {}, {"cache": "static"}, {"attention": "eager"}, {"experts": "eager"}, {"experts": "batched_mm"},
)  # fmt: skip
GRPO_SETTINGS: tuple[dict[str, object], ...] = (
    {},
    {"cache_implementation": "static"},
    {"model_init_kwargs": {"experts_implementation": "eager"}},
    {"model_init_kwargs": {"attn_implementation": "eager"}},
    {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4},
    {"use_transformers_continuous_batching": True},
)


def main() -> None:
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        for size in sys.argv[1:] or ["d128"]:
            folder = Path(scratch) / size
            save_model(initialise(BailingMoe(config_of(size, vocab_size=60)), seed=0), folder)
            rows = [*_training_rows(size), *_generate_rows(folder), *_grpo_rows(folder)]
            Console().print(rows_table(rows, title=f"references, {size}, one thread"))


def _row(what: str, setting: str, seconds: float, tokens: int | None = None) -> dict:
    rate = "" if tokens is None else f"{tokens / seconds:,.0f}"
    return {"what": what, "setting": setting or "the defaults", "CPU s": round(seconds, 2), "tokens/s": rate}


def _training_rows(size: str) -> Iterator[dict]:
    prompts = random_prompts(32, vocab_size=512, min_tokens=15, max_tokens=15)
    responses = random_prompts(32, vocab_size=512, min_tokens=25, max_tokens=75, seed=1)
    tokens = sum(map(len, prompts)) + sum(map(len, responses))
    for attention, experts, packed in TRAINING_SETTINGS:
        model = qwen2_moe(config_of(size, vocab_size=512), attention=attention, experts=experts)
        seconds = step_seconds(training_step(model, prompts, responses, packed=packed))
        setting = f"{attention}, {experts}, {'packed' if packed else 'padded'}"
        yield _row("Qwen2Moe forward and backward", setting, seconds, tokens)


def step_seconds(step: Callable[[], object], *, repeats: int = 10) -> float:
    """Median CPU seconds of a step, after two to warm up."""
    marks = []
    for _ in range(repeats + 3):
        marks.append(time.process_time())
        step()
    return median(end - start for start, end in pairwise(marks[2:]))


def _generate_rows(folder: Path) -> Iterator[dict]:
    prompts = random_prompts(256, vocab_size=60, min_tokens=40, max_tokens=40)
    for settings in GENERATE_SETTINGS:
        decoded = transformers_generate(
            folder, prompts, max_new_tokens=200, temperature=20.0, eos_id=0, **settings
        )  # fmt: skip
        yield _row("generate, 128 rows", _text(settings), decoded.seconds, decoded.useful_tokens)
    decoded = transformers_generate_batch(folder, prompts, max_new_tokens=200, temperature=20.0, eos_id=0)
    yield _row("generate_batch (refills)", "", decoded.seconds, decoded.useful_tokens)


def _grpo_rows(folder: Path) -> Iterator[dict]:
    if importlib.util.find_spec("trl") is None:
        Console().print("TRL is not installed, so its rows are left out; pip install -e '.[bench]'")
        return
    tokenizer = save_word_tokenizer(folder, vocab_size=60)
    prompts = [tokenizer.decode(prompt) for prompt in random_prompts(8, vocab_size=60, min_tokens=40, max_tokens=40)]
    for settings in GRPO_SETTINGS:
        seconds = trl_grpo_seconds(folder, prompts, **settings)
        yield _row("TRL GRPO step, 8 x 8 x 64", _text(settings), seconds)


def share_of_odd_ids(ids: Sequence[int]) -> float:
    """A reward that costs nothing and differs between responses."""
    return sum(token % 2 for token in ids) / max(len(ids), 1)


def _text(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


if __name__ == "__main__":
    main()
