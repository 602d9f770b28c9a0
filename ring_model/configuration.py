"""What a BailingMoE is: the numbers of its `config.json`, read and written in the released layout (paper section 1).

In: a model folder with `config.json`, or keyword arguments. Out: `BailingMoeConfig`, and the same file again.
A key that would change the arithmetic in a way this code does not implement is refused by name, never ignored.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from ring_model.shape import Routers, Shape

MODEL_TYPE = "bailing_moe"
ARCHITECTURE = "BailingMoeForCausalLM"
GENERATION_FILE = "generation_config.json"
HEAD_NORM_EPS = 1e-7  # added to the norms of `norm_head` (paper section 1)

ONLY_VALUE: dict[str, Any] = {
    "model_type": MODEL_TYPE,
    "hidden_act": "silu",
    "rope_scaling": None,
    "rope_interleave": False,
    "partial_rotary_factor": 1.0,
    "use_qk_norm": False,
    "use_sliding_window": False,
    "norm_softmax": False,
    "attention_dropout": 0.0,
    "embedding_dropout": 0.0,
    "output_dropout": 0.0,
    "n_group": 1,
    "topk_group": 1,
    "score_function": "softmax",
    "routed_scaling_factor": 1.0,
    "moe_router_enable_expert_bias": False,
    "num_nextn_predict_layers": 0,
    "quantization_config": None,
}
"""Keys of `config.json` for which only one value is implemented. An absent key, or null, means that value."""

WITHOUT_ARITHMETIC = frozenset(
    {
        "architectures", "auto_map", "transformers_version", "_name_or_path", "_attn_implementation", "_experts_implementation",
        "dtype", "use_cache", "return_dict", "output_attentions", "output_hidden_states", "output_router_logits",
        "router_aux_loss_coef", "bos_token_id", "pretraining_tp", "router_dtype", "chunk_size_feed_forward", "is_encoder_decoder",
        "is_decoder", "id2label", "label2id", "problem_type", "tokenizer_class", "max_window_layers", "sliding_window",
        "rope_parameters", "rope_type", "head_dim", "moe_shared_expert_intermediate_size",
    }
)  # fmt: skip
"""Other keys of released or exported files: bookkeeping, or checked by `from_dict`. A key that is in none of the tables is refused
unless it is off (null, false, 0 or empty)."""

WRITTEN_CONSTANTS = (
    "hidden_act",
    "rope_scaling",
    "norm_softmax",
    "attention_dropout",
    "embedding_dropout",
    "output_dropout",
)

_OFF_BY_NULL = frozenset({"first_k_dense_replace", "use_qkv_bias", "use_bias", "tie_word_embeddings"})
"""Keys of which null means what an absent key does: without it."""

_MANY = 2**31 - 1
_WHOLE_NUMBERS: dict[str, tuple[int, int]] = {
    "vocab_size": (1, _MANY),
    "hidden_size": (1, _MANY),
    "num_hidden_layers": (1, 10_000),
    "num_attention_heads": (1, _MANY),
    "num_key_value_heads": (1, _MANY),
    "num_experts": (1, 100_000),
    "num_experts_per_tok": (1, 100_000),
    "num_shared_experts": (0, 100_000),
    "moe_intermediate_size": (1, _MANY),
    "intermediate_size": (0, _MANY),
    "first_k_dense_replace": (0, 10_000),
    "max_position_embeddings": (1, _MANY),
}
"""Least and most of what is counted. Whether there are weights for so many is checked where they are read (`ring_model.checkpoint`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BailingMoeConfig:
    """The numbers of a BailingMoE; the defaults are Ling-lite's (16.8 B parameters, 2.75 B active)."""

    vocab_size: int = 126464
    """Number of token ids, rows of the embedding and of the output matrix."""
    hidden_size: int = 2048
    """Width of the residual stream."""
    num_hidden_layers: int = 28
    """Number of layers."""
    num_attention_heads: int = 16
    """Number of query heads; the head width is hidden_size / num_attention_heads."""
    num_key_value_heads: int = 4
    """Number of key and value heads, each shared by an equal number of query heads."""
    num_experts: int = 64
    """Number of routed experts in a layer that has any."""
    num_experts_per_tok: int = 6
    """Number of routed experts that each token uses."""
    num_shared_experts: int = 2
    """Number of experts that every token uses; one MLP of this many expert widths; 0 means none."""
    moe_intermediate_size: int = 1408
    """Width of one expert."""
    intermediate_size: int = 5632
    """Width of the MLP of a dense layer; kept for the file alone where no layer is dense."""
    first_k_dense_replace: int = 0
    """Number of layers, from the first on, that have one dense MLP in place of router, routed and shared experts."""
    use_qkv_bias: bool = False
    """Add a bias to queries, keys and values."""
    use_bias: bool = False
    """Add a bias to what attention gives (`attention.dense`); no other matrix has one, as in the released modeling code."""
    tie_word_embeddings: bool = False
    """Use the embedding as output matrix: one parameter, one tensor of a file, and no `lm_head.weight`."""
    norm_topk_prob: bool = True
    """Divide the chosen experts' probabilities by their sum."""
    norm_head: bool = True
    """Divide each column of the output matrix by its L2 norm over the vocabulary; of a tied matrix not where it embeds."""
    rms_norm_eps: float = 1e-5
    """Added to the mean square inside every RMSNorm."""
    rope_theta: float = 600000.0
    """Base of the rotary frequencies."""
    max_position_embeddings: int = 16384
    """Longest row, in tokens, that the model was made for."""
    initializer_range: float = 0.006
    """Standard deviation of the initial matrices."""
    eos_token_id: int | tuple[int, ...] | None = 126081
    """Id that ends a response, or several of them; None where the file says so."""
    pad_token_id: int | None = 126081
    """Id that fills rows up; None where the file says so."""
    torch_dtype: str = "float32"
    """Number type of the stored tensors; `BailingMoe` holds float32."""

    def __post_init__(self) -> None:
        """Refuse values of another kind, and numbers that no model can have."""
        for name, (least, most) in _WHOLE_NUMBERS.items():
            _require_whole(name, getattr(self, name), least=least, most=most)
        for name in ("rms_norm_eps", "rope_theta", "initializer_range"):
            _require_positive(name, getattr(self, name))
        for name in ("norm_topk_prob", "norm_head", "use_qkv_bias", "use_bias", "tie_word_embeddings"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(  # noqa: TRY004 - one error for one bad file
                    f"{name} = {getattr(self, name)!r} must be true or false"
                )
        _require_divides("num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size)
        _require_divides(
            "num_key_value_heads", self.num_key_value_heads, "num_attention_heads", self.num_attention_heads
        )
        if self.head_dim % 2:
            raise ValueError(f"head width hidden_size / num_attention_heads = {self.head_dim} must be even for RoPE")
        if not 1 <= self.num_experts_per_tok <= self.num_experts:
            raise ValueError(f"num_experts_per_tok = {self.num_experts_per_tok} must be 1..{self.num_experts} experts")
        self._check_dense_layers()
        for name in ("hidden_size", "moe_intermediate_size"):
            if getattr(self, name) % 4:
                raise ValueError(
                    f"{name} = {getattr(self, name)} must be a multiple of 4: grouped products need 16-byte rows"
                )
        for name in ("eos_token_id", "pad_token_id"):
            if not all(0 <= index < self.vocab_size for index in _ids(getattr(self, name), name)):
                raise ValueError(f"{name} = {getattr(self, name)} must be an id below vocab_size = {self.vocab_size}")

    def _check_dense_layers(self) -> None:
        num_dense, num_layers = self.first_k_dense_replace, self.num_hidden_layers
        if num_dense >= num_layers:
            raise ValueError(
                f"first_k_dense_replace = {num_dense} must be 0..{num_layers - 1}: at least one of the {num_layers} layers has a router"
            )
        if num_dense and not self.intermediate_size:
            raise ValueError(
                f"intermediate_size = 0 must be at least 1, the width of the {num_dense} dense layers of first_k_dense_replace"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def qkv_size(self) -> int:
        """Rows of the fused query, key and value matrix."""
        return (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim

    @property
    def shared_size(self) -> int:
        """Width of the one MLP that stands for all shared experts."""
        return self.num_shared_experts * self.moe_intermediate_size

    @property
    def num_parameters(self) -> int:
        """Number of all parameters."""
        return sum(self.parameters_by_part().values())

    @property
    def num_active_parameters(self) -> int:
        """Number of parameters that one token uses (the embedding and output matrices counted whole)."""
        routed = self.parameters_by_part()["routed experts"]
        return self.num_parameters - routed + routed * self.num_experts_per_tok // self.num_experts

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part that the model has, all layers together; a tied output matrix is the embedding."""
        layers, hidden = self.num_hidden_layers, self.hidden_size
        routed = layers - self.first_k_dense_replace
        expert = 3 * hidden * self.moe_intermediate_size
        parts = {
            "embedding": self.vocab_size * hidden,
            "attention": layers * hidden * (self.qkv_size + hidden),
            "attention biases": layers * (self.use_qkv_bias * self.qkv_size + self.use_bias * hidden),
            "dense layers": self.first_k_dense_replace * 3 * hidden * self.intermediate_size,
            "routers": routed * hidden * self.num_experts,
            "routed experts": routed * self.num_experts * expert,
            "shared experts": routed * self.num_shared_experts * expert,
            "norms": (2 * layers + 1) * hidden,
            "output matrix": 0 if self.tie_word_embeddings else self.vocab_size * hidden,
        }
        return {part: count for part, count in parts.items() if count}

    @property
    def shape(self) -> Shape:
        """What training needs to know of a model of these sizes."""
        parts = self.parameters_by_part()
        active = sum(parts.get(part, 0) for part in ("attention", "dense layers", "routers", "shared experts"))
        num_dense, num_layers = self.first_k_dense_replace, self.num_hidden_layers
        return Shape(
            active_parameters=active + parts["routed experts"] // self.num_experts * self.num_experts_per_tok,
            head_parameters=self.vocab_size * self.hidden_size,
            attention_width=num_layers * self.hidden_size,
            routers=Routers(num_layers - num_dense, self.num_experts, self.num_experts_per_tok, first_layer=num_dense),
            max_positions=self.max_position_embeddings,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the keys of a `config.json`.

        Raises:
            ValueError: a key has a value that would change the arithmetic, or a number is impossible; it is named.

        """
        values = _rope_at_the_top(values)
        _require_supported(values)
        names = {field.name for field in fields(cls)}
        if unknown := sorted(
            name for name in set(values) - names - set(ONLY_VALUE) - WITHOUT_ARITHMETIC if values[name]
        ):
            raise ValueError(
                f"config.json: unknown keys {', '.join(unknown)}: they may change the arithmetic; "
                "remove those that are known not to"
            )
        if isinstance(values.get("eos_token_id"), list):
            values["eos_token_id"] = _ids(values["eos_token_id"], "config.json: eos_token_id")
        left_out = {name for name in _OFF_BY_NULL if values.get(name) is None}
        config = cls(**{name: value for name, value in values.items() if name in names - left_out})
        _require_equal(values, "head_dim", config.head_dim, "hidden_size / num_attention_heads")
        shared = "num_shared_experts * moe_intermediate_size"
        _require_equal(values, "moe_shared_expert_intermediate_size", config.shared_size, shared)
        return config

    @classmethod
    def from_folder(cls, folder: Path | str) -> Self:
        """Read `config.json` of a model folder.

        Raises:
            ValueError: the file is missing, is not JSON, or `from_dict` refuses it.

        """
        path = Path(folder) / "config.json"
        if not path.is_file():
            raise ValueError(f"{path} does not exist; a model folder holds config.json and model*.safetensors")
        return cls.from_dict(_read(path))

    def to_dict(self) -> dict[str, Any]:
        """The keys that `config.json` holds, the constants of the released files among them."""
        constants = {name: ONLY_VALUE[name] for name in WRITTEN_CONSTANTS}
        return {"architectures": [ARCHITECTURE], "model_type": MODEL_TYPE, **asdict(self), **constants}

    def save(self, folder: Path | str) -> None:
        """Write `config.json` into an existing folder; the same config gives the same bytes."""
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        (Path(folder) / "config.json").write_text(text, encoding="utf-8")


def end_ids_of(folder: Path | str) -> tuple[int, ...]:
    """Ids that end a response by the model's files, each once: those of `generation_config.json` or, where it names none, of `config.json`.

    Empty where neither names one. That is transformers' order.

    Raises:
        ValueError: a file is not JSON, or what it names are no ids.

    """
    for name in (GENERATION_FILE, "config.json"):
        path = Path(folder) / name
        found = _ids(_read(path).get("eos_token_id"), f"{name}: eos_token_id") if path.is_file() else ()
        if found:
            return found
    return ()


def _ids(value: object, name: str) -> tuple[int, ...]:
    """An id, several in a list, or none."""
    listed = value if isinstance(value, list | tuple) else [] if value is None else [value]
    found = [index for index in listed if isinstance(index, int) and not isinstance(index, bool)]
    if len(found) < len(listed):
        raise ValueError(f"{name} = {value!r} must be an id or a list of ids")
    return tuple(dict.fromkeys(found))


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a JSON object")  # noqa: TRY004 - one error for one bad file
    return values


def _rope_at_the_top(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys as transformers 4 wrote them: version 5 keeps `rope_theta` inside `rope_parameters`."""
    rope = values.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or set(rope) - {
        "rope_type",
        "rope_theta",
        "partial_rotary_factor",
    }:
        raise ValueError(f"config.json: rope_parameters = {rope!r} is not supported, only the plain rope_theta")
    merged = {**values, **rope}
    if {"rope_theta"} <= values.keys() & rope.keys() and values["rope_theta"] != rope["rope_theta"]:
        raise ValueError(
            f"config.json: rope_theta = {values['rope_theta']} and rope_parameters.rope_theta = {rope['rope_theta']} differ"
        )
    return merged


def _require_supported(values: Mapping[str, Any]) -> None:
    """Raises ValueError naming every key that has another value than the only one of it."""
    others = [
        f"{name} = {values[name]!r} (only {only!r})"
        for name, only in ONLY_VALUE.items()
        if values.get(name) is not None and values[name] != only
    ]
    if others:
        raise ValueError(
            f"config.json: {', '.join(others)}: not supported, since it changes the arithmetic, and ring_model computes a {ARCHITECTURE} "
            "of the first version alone, as Ling-lite and Ring-lite are. Take such a folder, or one of an architecture that transformers "
            "has built in (Qwen, Llama, ...), which trains through transformers"
        )


def _require_equal(values: Mapping[str, Any], name: str, expected: int, meaning: str) -> None:
    if values.get(name) not in (None, expected):
        raise ValueError(f"config.json: {name} = {values[name]} must be {expected}, {meaning}")


def _require_whole(name: str, value: Any, *, least: int, most: int) -> None:  # noqa: ANN401 - of a JSON file
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} = {value!r} must be a whole number from {least} to {most:,}")


def _require_positive(name: str, value: Any) -> None:  # noqa: ANN401 - of a JSON file
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} = {value!r} must be a number above 0")


def _require_divides(name: str, divisor: int, whole_name: str, whole: int) -> None:
    if divisor < 1 or whole % divisor:
        raise ValueError(f"{name} = {divisor} must divide {whole_name} = {whole}")
