"""`BailingMoeConfig` for transformers: the same `config.json`, opened by `transformers.AutoConfig`.

Reads the released files and ours; a value that would change the arithmetic is refused by name, by the very check of
`ring_model.configuration`. Writes what transformers 5 writes and, beside it, the keys that readers from 4.36 on look for.
"""

from dataclasses import fields
from typing import Any, ClassVar

from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto.configuration_auto import AutoConfig

from ring_model import configuration, register_model_classes

UNWANTED = ("auto_map", "sliding_window", "max_window_layers")
"""Keys of released files that do not come in: the first names files of remote code, which an export does not carry along; a window
would make transformers' caches forget, though `use_sliding_window` is false."""


class BailingMoeConfig(PreTrainedConfig):
    """The fields of `ring_model.configuration.BailingMoeConfig`, with the same meaning and defaults (Ling-lite's)."""

    model_type = configuration.MODEL_TYPE
    keys_to_ignore_at_inference = ("past_key_values",)
    auto_map: ClassVar[dict[str, str]] = {}  # no remote code; TRL looks here

    vocab_size: int = 126464
    hidden_size: int = 2048
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    num_key_value_heads: int = 4
    head_dim: int | None = None
    num_experts: int = 64
    num_experts_per_tok: int = 6
    num_shared_experts: int = 2
    moe_intermediate_size: int = 1408
    intermediate_size: int = 5632
    first_k_dense_replace: int = 0
    use_qkv_bias: bool = False
    use_bias: bool = False
    hidden_act: str = "silu"
    norm_topk_prob: bool = True
    norm_head: bool = True
    rms_norm_eps: float = 1e-5
    rope_theta: float | int = 600000.0
    rope_parameters: dict | None = None
    max_position_embeddings: int = 16384
    initializer_range: float = 0.006
    attention_dropout: float | int = 0.0
    tie_word_embeddings: bool = False
    use_cache: bool = True
    eos_token_id: int | list[int] | None = 126081
    pad_token_id: int | None = 126081

    def __post_init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - any other key of the file, any argument of transformers
        """Check the values, fill in what follows from others, and make the model classes known.

        Raises:
            ValueError: a key has a value that would change the arithmetic; it is named.

        """
        self.rope_theta = float((self.rope_parameters or {}).get("rope_theta", self.rope_theta))
        own = {name: getattr(self, name) for name in self.__annotations__}
        implied = {name: value for name, value in kwargs.items() if name in configuration.ONLY_VALUE}
        self.head_dim = configuration.BailingMoeConfig.from_dict(own | implied).head_dim
        for name in UNWANTED:
            kwargs.pop(name, None)
        super().__post_init__(**kwargs)
        register_model_classes()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:  # noqa: ANN401 - as transformers declares it
        """Read the keys of a `config.json`, refusing unknown ones; `kwargs` are transformers' own.

        Raises:
            ValueError: as `ring_model.configuration.BailingMoeConfig.from_dict`.

        """
        configuration.BailingMoeConfig.from_dict(config_dict)
        return super().from_dict(config_dict, **kwargs)

    def released(self) -> configuration.BailingMoeConfig:
        """The same numbers as this project's own record."""
        names = [field.name for field in fields(configuration.BailingMoeConfig) if field.name != "torch_dtype"]
        dtype = str(self.dtype or "float32").removeprefix("torch.")
        return configuration.BailingMoeConfig.from_dict(
            {name: getattr(self, name) for name in names} | {"torch_dtype": dtype}
        )

    def to_diff_dict(self) -> dict[str, Any]:
        """What `save_pretrained` writes: every released key, also where it has its default value."""
        return self.released().to_dict() | super().to_diff_dict()


AutoConfig.register(configuration.MODEL_TYPE, BailingMoeConfig)
