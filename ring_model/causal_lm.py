"""Any causal language model that transformers opens: its prompts, and its responses, drawn as those of our own models are.

In: a folder with `config.json`, `model*.safetensors` and tokenizer files. No code of the folder is run, and no other format of weights is
read. Out: one `Completion` a prompt. Transformers computes logits; `ring_model.generation.choose_tokens` draws, with the random number of
(the row's seed, the token's index), so that temperature, nucleus, log-probabilities and entropy mean what they mean there. Of the folder's
`generation_config.json` only the end tokens count: how a response is drawn is ours to say.

Axes: R rows of a batch, T positions, V vocabulary.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from ring_model.generation import Completion, choose_tokens, uniforms

_OPEN_THINKING = "<think>"
_HERE = {"trust_remote_code": False, "local_files_only": True}
# Transformers raises what the libraries beneath it raise.
_FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A problem as the model reads it."""

    token_ids: list[int]
    opens_thinking: bool  # it ends with `<think>`


def check_causal_lm(folder: Path) -> None:
    """Refuse a folder that is none of a causal language model, without reading its weights.

    Raises:
        ValueError: a file is missing or cannot be read, the architecture is not known to transformers or is none of a causal model,
            the weights are not safetensors, or there is no end token.

    """
    config, tokenizer = _config(folder), _tokenizer(folder)
    _end_ids(folder, config, tokenizer)


def count_parameters(folder: Path) -> int:
    """Numbers in the tensors of a folder's files; a tied matrix counts once."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                total += sum(math.prod(file.get_slice(name).get_shape()) for name in sorted(file.keys()))
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    return total


def load_causal_lm(folder: Path, device: str = "cpu", *, tokenizer_folder: Path | None = None) -> "CausalLm":
    """Open a folder: float32 on a CPU, else the number type of the folder. The tokenizer may be another folder's.

    Raises:
        ValueError: as `check_causal_lm`, or a tensor is missing or of another shape.

    """
    config, tokenizer = _config(folder), _tokenizer(tokenizer_folder or folder)
    ends = _end_ids(tokenizer_folder or folder, config, tokenizer)
    return CausalLm(folder, load_pretrained(folder, device).eval(), tokenizer, ends)


def load_pretrained(folder: Path, device: str = "cpu") -> Any:  # noqa: ANN401 - of any class
    """The model of a folder: float32 on a CPU, else the number type of the folder. Raises ValueError as `load_causal_lm`."""
    config = _config(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(  # any: a pair, with the information
            folder,
            config=config,
            dtype=torch.float32 if device == "cpu" else "auto",
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are told below
            output_loading_info=True,
            **_HERE,
        )
    except _FAILURES as error:
        raise _unopened(folder, error) from error
    model, found = loaded
    if lacking := sorted(found["missing_keys"]) + sorted(str(key) for key in found["mismatched_keys"]):
        raise ValueError(
            f"{folder}: {len(lacking)} tensors are missing or of another shape, such as {lacking[0]}; config.json asks for them"
        )
    model.generation_config = GenerationConfig()  # else what the folder prefers would be mixed in
    return model.to(device)


class CausalLm:
    """A model and its tokenizer."""

    def __init__(self, folder: Path, model: Any, tokenizer: Any, end_ids: Sequence[int]) -> None:  # noqa: ANN401 - of any class
        self._folder, self._model, self._tokenizer, self._end_ids = folder, model, tokenizer, tuple(end_ids)
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.max_positions: int | None = positions if isinstance(positions, int) else None  # None: no limit is known

    @torch.inference_mode()
    def token_logprobs(self, tokens: Sequence[int]) -> list[float]:
        """Log-probability of every token but the first."""
        ids_1T = torch.tensor([list(tokens)], device=self._model.device)
        logits_TV = self._model(input_ids=ids_1T, use_cache=False).logits[0, :-1].float()
        return logits_TV.log_softmax(dim=1).gather(1, ids_1T[0, 1:, None]).squeeze(1).tolist()

    def prompt(self, text: str) -> Prompt:
        """The user's turn in the folder's chat template, up to where the response begins; without a template the text alone.

        Special tokens that are written in the text are obeyed, as transformers does. Raises ValueError where the template fails.
        """
        if not self._tokenizer.chat_template:
            return Prompt(self._tokenizer(text)["input_ids"], opens_thinking=False)
        try:
            turn = [{"role": "user", "content": text}]
            rendered = self._tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template may raise anything
            raise ValueError(f"{self._folder}: the chat template cannot render a problem: {error}") from error
        ids = self._tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return Prompt(ids, opens_thinking=rendered.rstrip().endswith(_OPEN_THINKING))

    def text(self, completion: Completion, prompt: Prompt) -> str:
        """The response as a judge reads it: without the end token, with the `<think>` that the prompt opened."""
        ids = completion.token_ids[:-1] if completion.finished else completion.token_ids
        said = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return f"{_OPEN_THINKING}{said}" if prompt.opens_thinking else said

    @torch.inference_mode()
    def respond(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        seeds: Sequence[int],
        max_new_tokens: int,
        temperature: float,
        top_p: float = 1.0,
        max_rows: int = 128,
        max_total_tokens: int | None = None,
    ) -> list[Completion]:
        """One response a prompt, each with its own seed in [0, 2**64); temperature 0 takes the most probable tokens.

        Prompts are taken by length, `max_rows` at a time. A response ends with an end token, at `max_new_tokens`, or where the longest
        prompt of its batch has no position left, or none below `max_total_tokens` of prompt and response together.

        Raises:
            ValueError: a prompt is empty or leaves no room for a response.
            FloatingPointError: the model's log-probabilities are not finite.

        """
        positions = min((most for most in (self.max_positions, max_total_tokens) if most is not None), default=None)
        for prompt in prompts:
            if not prompt or (positions is not None and len(prompt) >= positions):
                most = (
                    "the model has {} positions"
                    if positions == self.max_positions
                    else "prompt and response may have {}"
                )
                raise ValueError(
                    f"{self._folder}: a prompt of {len(prompt)} tokens leaves no room: {most.format(positions)}"
                )
        order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
        found: dict[int, Completion] = {}
        for start in range(0, len(order), max_rows):
            batch = order[start : start + max_rows]
            draw = _Draw([seeds[index] for index in batch], temperature=temperature, top_p=top_p)
            longest = len(prompts[batch[-1]])
            room = max_new_tokens if positions is None else min(max_new_tokens, positions - longest)
            rows = self._batch([prompts[index] for index in batch], draw, max_new_tokens=room)
            found |= dict(zip(batch, rows, strict=True))
        return [found[index] for index in range(len(prompts))]

    def _batch(self, prompts: Sequence[Sequence[int]], draw: "_Draw", *, max_new_tokens: int) -> list[Completion]:
        longest = max(map(len, prompts))
        padded = [[self._end_ids[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        ids_RT = self._model.generate(
            input_ids=torch.tensor(padded, device=self._model.device),
            attention_mask=torch.tensor(mask, device=self._model.device),
            logits_processor=LogitsProcessorList([draw]),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=max_new_tokens,
                eos_token_id=list(self._end_ids),
                pad_token_id=self._end_ids[0],
            ),
        )
        return draw.completions(ids_RT[:, longest:].tolist(), self._end_ids)


class _Draw(LogitsProcessor):
    """Leaves each row the token that `choose_tokens` draws, and keeps what it says of it."""

    def __init__(self, seeds: Sequence[int], *, temperature: float, top_p: float) -> None:
        self._seeds = np.array(seeds, dtype=np.uint64)
        self._temperature, self._top_p = temperature, top_p
        self._logprobs: list[Tensor] = []  # [R] of every step
        self._entropies: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits [R, V] in and out: minus infinity but for one token."""
        position = np.full(len(self._seeds), len(self._logprobs), dtype=np.uint64)
        uniform_R = torch.from_numpy(uniforms(self._seeds, position)).to(scores.device)
        chosen = choose_tokens(scores.float(), uniform_R=uniform_R, temperature=self._temperature, top_p=self._top_p)
        self._logprobs.append(chosen.logprob_R)
        self._entropies.append(chosen.entropy_R)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen.token_R[:, None], 0.0)

    def completions(self, token_RT: Sequence[list[int]], end_ids: Sequence[int]) -> list[Completion]:
        """Each row up to its first end token. Raises FloatingPointError where a log-probability is not finite."""
        logprob_RT = torch.stack(self._logprobs, dim=1).float().cpu().numpy()
        entropy_RT = torch.stack(self._entropies, dim=1).float().cpu().numpy()
        found = []
        for tokens, logprobs, entropies in zip(token_RT, logprob_RT, entropy_RT, strict=True):
            length = next((n for n, token in enumerate(tokens, start=1) if token in end_ids), len(tokens))
            if not np.isfinite(logprobs[:length]).all():
                raise FloatingPointError("the model's log-probabilities are not finite: its weights are broken")
            found.append(
                Completion(
                    tokens[:length], logprobs[:length], entropies[:length], finished=tokens[length - 1] in end_ids
                )
            )
        return found


def _config(folder: Path) -> PreTrainedConfig:
    try:
        config = AutoConfig.from_pretrained(folder, **_HERE)
    except _FAILURES as error:
        raise _unopened(folder, error) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(
            f"{folder}: a model of type {config.model_type} is no causal language model that transformers opens"
        )
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder} holds no *.safetensors; weights of other formats can run code and are not read: convert them"
        )
    return config


def _tokenizer(folder: Path) -> Any:  # noqa: ANN401 - of any class
    try:
        return AutoTokenizer.from_pretrained(folder, **_HERE)
    except _FAILURES as error:
        raise _unopened(folder, error, what="the tokenizer of this folder") from error


def _end_ids(folder: Path, config: PreTrainedConfig, tokenizer: Any) -> list[int]:  # noqa: ANN401 - of any class
    """Of `generation_config.json`, else of `config.json`, else of the tokenizer."""
    path = folder / "generation_config.json"
    try:
        named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not a JSON object: {error}") from error
    for ids in (named, getattr(config.get_text_config(), "eos_token_id", None), tokenizer.eos_token_id):
        if ids is not None and ids != []:
            return list(ids) if isinstance(ids, (list, tuple)) else [ids]
    raise ValueError(f"{folder} names no end token; set eos_token_id in generation_config.json")


def _unopened(folder: Path, error: Exception, *, what: str = "this folder") -> ValueError:
    said = " ".join(str(error).split())
    return ValueError(
        f"{folder}: transformers {_version()} cannot open {what}, without running code of it: {said[:400]}"
    )


def _version() -> str:
    from transformers import __version__

    return __version__
