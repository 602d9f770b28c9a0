"""BailingMoE as a transformers model: `AutoModelForCausalLM.from_pretrained(folder)`, `generate`, peft, Trainer.

In and out: the released folder. Experts are stacked in memory and split under their released names on disk, so an export
opens here, in `ring_model.checkpoint` and in other readers of that layout. The arithmetic is that of `ring_model.modelling`;
the parts that both architectures share are transformers' own, of Qwen2Moe.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedModel, initialization
from transformers.cache_utils import Cache, DynamicCache
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import MoeCausalLMOutputWithPast, MoeModelOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, slice_logits_to_keep
from transformers.models.qwen2_moe.modeling_qwen2_moe import (
    Qwen2MoeExperts,
    Qwen2MoeMLP,
    Qwen2MoeRMSNorm,
    Qwen2MoeRotaryEmbedding,
    Qwen2MoeTopKRouter,
    apply_rotary_pos_emb,
    eager_attention_forward,
)
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ring_model.configuration import HEAD_NORM_EPS, MODEL_TYPE
from ring_model.huggingface_config import BailingMoeConfig

# Names of arguments, classes and attributes below are those that transformers looks for; kwargs are what it passes through.


class BailingMoeAttention(nn.Module):
    """Grouped-query attention with one fused matrix: all query rows, then key rows, then value rows."""

    def __init__(self, config: BailingMoeConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_sections = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        num_rows = sum(self.head_sections) * self.head_dim
        self.query_key_value = nn.Linear(config.hidden_size, num_rows, bias=config.use_qkv_bias)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.use_bias)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; hidden states [B, T, D] in and out, and the attention weights where the back end gives them."""
        shape = hidden_states.shape
        heads = self.query_key_value(hidden_states).view(*shape[:2], sum(self.head_sections), -1).transpose(1, 2)
        query, key, value = heads.split(self.head_sections, dim=1)
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        mixed, weights = attend(self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs)
        return self.dense(mixed.reshape(shape)), weights


class BailingMoeSparseMoeBlock(nn.Module):
    """Router, routed experts (stacked) and the experts that every token uses."""

    def __init__(self, config: BailingMoeConfig) -> None:
        super().__init__()
        self.gate = Qwen2MoeTopKRouter(config)
        self.experts = Qwen2MoeExperts(config)
        shared_size = config.num_shared_experts * config.moe_intermediate_size
        self.shared_experts = Qwen2MoeMLP(config, intermediate_size=shared_size) if shared_size else None

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Sum of the chosen experts by weight and of the shared ones; [B, T, D] in and out."""
        tokens = hidden_states.flatten(0, 1)
        _, weights, chosen = self.gate(tokens)
        mixed = self.experts(tokens, chosen, weights)
        if self.shared_experts is not None:
            mixed = mixed + self.shared_experts(tokens)
        return mixed.view(hidden_states.shape)


class BailingMoeDecoderLayer(GradientCheckpointingLayer):
    """Pre-norm attention and experts, or a dense MLP in their place, each added to the residual stream."""

    def __init__(self, config: BailingMoeConfig, layer_idx: int) -> None:
        super().__init__()
        self.input_layernorm = Qwen2MoeRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.attention = BailingMoeAttention(config, layer_idx)
        self.post_attention_layernorm = Qwen2MoeRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        is_dense = layer_idx < config.first_k_dense_replace
        self.mlp = Qwen2MoeMLP(config) if is_dense else BailingMoeSparseMoeBlock(config)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Next residual stream [B, T, D]."""
        mixed, _ = self.attention(self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + mixed
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class BailingMoePreTrainedModel(PreTrainedModel):
    """What transformers asks of every class of the architecture."""

    config: BailingMoeConfig
    config_class = BailingMoeConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["BailingMoeDecoderLayer"]  # noqa: RUF012 - declared so by transformers, as are those below
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    _can_compile_fullgraph = True
    # Else transformers looks for the decorator's name in this file's text; it stands above the class that we import.
    _can_set_experts_implementation_cached_value = True
    _can_record_outputs = {  # noqa: RUF012
        "router_logits": OutputRecorder(Qwen2MoeTopKRouter, index=0),
        "hidden_states": BailingMoeDecoderLayer,
        "attentions": OutputRecorder(BailingMoeAttention, index=1),
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (Qwen2MoeExperts, Qwen2MoeTopKRouter)):
            for parameter in module.parameters(recurse=False):
                initialization.normal_(parameter, mean=0.0, std=self.config.initializer_range)


class BailingMoeModel(BailingMoePreTrainedModel):
    """The model without its output matrix."""

    def __init__(self, config: BailingMoeConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(BailingMoeDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = Qwen2MoeRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = Qwen2MoeRotaryEmbedding(config)  # ty: ignore[invalid-argument-type] - reads what both configs have
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.word_embeddings = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> MoeModelOutputWithPast:
        """Final hidden states [B, T, D].

        Positions count from the cache's length where `position_ids` are not given. A row whose positions start again at 0
        is packed: its documents do not see each other (without attention mask and cache from outside).
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        hidden_states = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            start = 0 if past_key_values is None else past_key_values.get_seq_length()
            position_ids = torch.arange(start, start + hidden_states.shape[1], device=hidden_states.device)[None]
        mask = create_causal_mask(  # before the cache is made: transformers sees packed rows only where there is none
            config=self.config,
            inputs_embeds=hidden_states,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        rotary = self.rotary_emb(hidden_states, position_ids)
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                attention_mask=mask,
                position_embeddings=rotary,
                past_key_values=past_key_values,
                position_ids=position_ids,
                **kwargs,
            )
        return MoeModelOutputWithPast(
            last_hidden_state=self.norm(hidden_states), past_key_values=past_key_values if use_cache else None
        )


class BailingMoeForCausalLM(BailingMoePreTrainedModel, GenerationMixin):
    """The language model."""

    _tied_weights_keys = {"lm_head.weight": "model.word_embeddings.weight"}  # noqa: RUF012 - where the configuration ties them

    def __init__(self, config: BailingMoeConfig) -> None:
        super().__init__(config)
        self.model = BailingMoeModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,  # noqa: ANN401
    ) -> MoeCausalLMOutputWithPast:
        """Logits [B, T, V] (or of the last `logits_to_keep` places), and the mean loss of `labels` (-100: none)."""
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        return MoeCausalLMOutputWithPast(
            loss=None if labels is None else self.loss_function(logits, labels, self.vocab_size, **kwargs),
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            router_logits=outputs.router_logits,
        )

    def head(self, hidden_states: Tensor) -> Tensor:
        """Logits. With `norm_head`, columns of the output matrix are divided by their norm, a constant in training.

        Dividing the hidden states gives the same product and is far fewer numbers.
        """
        if self.config.norm_head:
            weight = self.lm_head.weight.detach()
            norm = torch.linalg.vector_norm(weight, dim=0, dtype=torch.float32) + HEAD_NORM_EPS
            hidden_states = (hidden_states / norm).to(hidden_states.dtype)
        return self.lm_head(hidden_states)


AutoModel.register(BailingMoeConfig, BailingMoeModel)
AutoModelForCausalLM.register(BailingMoeConfig, BailingMoeForCausalLM)
register_checkpoint_conversion_mapping(
    MODEL_TYPE,
    [
        WeightConverter(
            source_patterns=["mlp.experts.*.gate_proj.weight", "mlp.experts.*.up_proj.weight"],
            target_patterns="mlp.experts.gate_up_proj",
            operations=[MergeModulelist(dim=0), Concatenate(dim=1)],
        ),
        WeightConverter(
            source_patterns="mlp.experts.*.down_proj.weight",
            target_patterns="mlp.experts.down_proj",
            operations=[MergeModulelist(dim=0)],
        ),
    ],
)
