"""What a BailingMoE needs in memory, computed from its configuration alone.

Training here keeps float32 parameters and gradients and AdamW's two float32 moments: 16 bytes a parameter, of which ZeRO shards
some over the ranks (stage 1 the moments, 2 the gradients too, 3 the parameters too). Activations are those of this code's own
forward pass in float32; a test counts what autograd really keeps. Not counted: on a CPU up to 31 filled rows for each expert.

Axes in names: L layers, D hidden, E experts, K experts per token, F expert width, S shared width, V vocabulary.
"""

from ring_model.configuration import BailingMoeConfig

FLOAT32, BFLOAT16 = 4, 2
_MOMENTS = 2 * FLOAT32


def training_state_bytes(config: BailingMoeConfig, *, zero_stage: int, num_ranks: int) -> int:
    """Bytes of parameters, gradients and moments on each rank, the largest share rounded up.

    Raises:
        ValueError: the stage is not 0 to 3, or there is no rank.

    """
    if zero_stage not in range(4) or num_ranks < 1:
        raise ValueError(f"zero_stage = {zero_stage} must be 0 to 3 and num_ranks = {num_ranks} at least 1")
    shares = [num_ranks if zero_stage >= stage else 1 for stage in (3, 2, 1)]
    sizes = (FLOAT32, FLOAT32, _MOMENTS)
    return sum(size * -(-config.num_parameters // share) for size, share in zip(sizes, shares, strict=True))


def layer_activation_floats(config: BailingMoeConfig, *, is_dense: bool) -> int:
    """Numbers that one layer, with a dense MLP or with experts, keeps for the backward pass of one token."""
    hidden, k = config.hidden_size, config.num_experts_per_tok
    norms = 2 * 2 * hidden  # what comes out, with and without the weight
    attention = config.qkv_size + hidden + config.num_attention_heads
    if is_dense:
        return norms + attention + 4 * config.intermediate_size
    routed = k * (2 * hidden + 4 * config.moe_intermediate_size)
    return norms + attention + routed + 4 * config.shared_size + 2 * config.num_experts


def activation_bytes(config: BailingMoeConfig, *, num_tokens: int, checkpoints_layers: bool) -> int:
    """Bytes that `num_tokens` tokens in one micro-batch keep between the forward and the backward pass, logits left out.

    With checkpointed layers each layer keeps its input, and one layer at a time, the largest of them, the rest.
    """
    num_layers, num_dense = config.num_hidden_layers, config.first_k_dense_replace
    layers = [layer_activation_floats(config, is_dense=index < num_dense) for index in range(num_layers)]
    floats = num_layers * config.hidden_size + max(layers) if checkpoints_layers else sum(layers)
    return FLOAT32 * num_tokens * floats


def cache_bytes(config: BailingMoeConfig, *, num_tokens: int, dtype_bytes: int = BFLOAT16) -> int:
    """Bytes of the keys and values of `num_tokens` tokens in all layers."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype_bytes * num_tokens
