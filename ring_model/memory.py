"""What a BailingMoE needs in memory, computed from its configuration alone.

Training in float32 keeps parameters, gradients and AdamW's two moments: 16 bytes a parameter, of which ZeRO shards some over the
ranks (stage 1 the moments, 2 the gradients too, 3 the parameters too). Training in bfloat16 keeps bfloat16 parameters and gradients,
float32 master weights and moments: 16 bytes, too. DeepSpeed adds to both, see `state_by_part`. Activations are those of this code's
own forward pass; tests count what autograd really keeps, and what a process really grows by. Not counted: on a CPU up to 31 filled
rows for each expert.

Axes in names: L layers, D hidden, E experts, K experts per token, F expert width, S shared width, V vocabulary.
"""

from dataclasses import dataclass

from ring_model.configuration import BailingMoeConfig

FLOAT32, BFLOAT16 = 4, 2
_MOMENTS = 2 * FLOAT32
LOGITS_PIECE = 1 << 25  # numbers; `ring_model.policy.MAX_LOGITS`, which a test compares
BUCKET = 500_000_000  # numbers; DeepSpeed's reduce_bucket_size where its configuration says nothing
LIVE = 1_000_000_000  # numbers; DeepSpeed's stage3_max_live_parameters


@dataclass(frozen=True, slots=True)
class Precision:
    """Number types of training, as bytes of one number of each kind."""

    name: str
    weights: int
    gradients: int
    has_master: bool  # float32 master weights beside the weights, whatever ZeRO does
    activations: int


PRECISIONS = {
    "float32": Precision("float32", FLOAT32, FLOAT32, has_master=False, activations=FLOAT32),
    "bfloat16": Precision("bfloat16", BFLOAT16, BFLOAT16, has_master=True, activations=BFLOAT16),
}


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


def state_by_part(config: BailingMoeConfig, precision: Precision, *, zero_stage: int, num_ranks: int) -> dict[str, int]:
    """Bytes on each rank that stay for the whole of training, by part; the largest share, rounded up.

    Beside weights, gradients and moments: from stage 1 on DeepSpeed trains a float32 copy of the shard, in float32 training, too.
    With one rank there is nothing to shard, and this code always takes stage 0.

    Raises:
        ValueError: the stage is not 0 to 3, or there is no rank.

    """
    if zero_stage not in range(4) or num_ranks < 1:
        raise ValueError(f"zero_stage = {zero_stage} must be 0 to 3 and num_ranks = {num_ranks} at least 1")
    stage = zero_stage if num_ranks > 1 else 0
    count = config.num_parameters
    shard = -(-count // num_ranks)
    has_copy = precision.has_master or stage >= 1
    return {
        "weights": precision.weights * (shard if stage >= 3 else count),
        "gradients": precision.gradients * (shard if stage >= 2 else count),
        "master weights": FLOAT32 * (shard if stage >= 1 else count) if has_copy else 0,
        "moments": _MOMENTS * (shard if stage >= 1 else count),
    }


def step_bytes(config: BailingMoeConfig, precision: Precision, *, zero_stage: int, num_ranks: int) -> int:
    """Bytes that come and go while an optimiser step is taken, when activations are gone.

    Up to stage 1 gradients are reduced then, by way of a bucket. From stage 1 on AdamW takes the gradients of the rank's shard as one flat
    float32 copy; with master weights at stage 0, those of all parameters.
    """
    stage = zero_stage if num_ranks > 1 else 0
    count = config.num_parameters
    bucket = precision.gradients * min(BUCKET, count) if stage <= 1 else 0
    if stage == 0 and not precision.has_master:
        return bucket
    return bucket + FLOAT32 * (-(-count // num_ranks) if stage >= 1 else count)


def gathered_bytes(config: BailingMoeConfig, precision: Precision, *, zero_stage: int, num_ranks: int) -> int:
    """Bytes of whole blocks and buckets while gradients are computed: what ZeRO 2 collects to reduce, and ZeRO 3 gathers for a block.

    Stage 3 gathers the layer in use and the next, at least as much as DeepSpeed lets live, and holds the gradient of a layer until it is
    reduced.
    """
    if num_ranks == 1 or zero_stage < 2:
        return 0
    count, layer = config.num_parameters, layer_parameters(config)
    if zero_stage == 2:
        return precision.gradients * min(BUCKET, count)
    return precision.weights * min(count, max(2 * layer, LIVE)) + precision.gradients * min(count, layer)


def layer_parameters(config: BailingMoeConfig) -> int:
    """Number of parameters of the largest block that is gathered as one: a layer, or the output matrix."""
    parts = config.parameters_by_part()
    ends = parts["embedding"] + parts["output matrix"]
    return max((config.num_parameters - ends) // config.num_hidden_layers, parts["output matrix"])


def logits_bytes(config: BailingMoeConfig, *, num_logits: int, has_entropy: bool) -> int:
    """Bytes of the pieces of the logits at the peak of their backward pass.

    `num_logits` is the number of tokens that logits are computed for. A piece has a row for each token, and there are three such arrays:
    log-probabilities, their gradient, and that of the logits; with the gradient of entropies two more.
    """
    rows = min(num_logits, max(1, LOGITS_PIECE // config.vocab_size))
    return FLOAT32 * (5 if has_entropy else 3) * rows * config.vocab_size


def layer_activation_floats(config: BailingMoeConfig) -> int:
    """Numbers that one layer keeps for the backward pass of one token."""
    hidden, k = config.hidden_size, config.num_experts_per_tok
    norms = 2 * 2 * hidden  # what comes out, with and without the weight
    attention = config.qkv_size + hidden + config.num_attention_heads
    routed = k * (2 * hidden + 4 * config.moe_intermediate_size)
    return norms + attention + routed + 4 * config.shared_size + 2 * config.num_experts


def activation_bytes(
    config: BailingMoeConfig, *, num_tokens: int, checkpoints_layers: bool, dtype_bytes: int = FLOAT32
) -> int:
    """Bytes that `num_tokens` tokens in one micro-batch keep between the forward and the backward pass, logits left out.

    With checkpointed layers each layer keeps its input, and one layer at a time the rest.
    """
    layer = layer_activation_floats(config)
    num_layers = config.num_hidden_layers
    floats = num_layers * config.hidden_size + layer if checkpoints_layers else num_layers * layer
    return dtype_bytes * num_tokens * floats


def cache_bytes(config: BailingMoeConfig, *, num_tokens: int, dtype_bytes: int = BFLOAT16) -> int:
    """Bytes of the keys and values of `num_tokens` tokens in all layers."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype_bytes * num_tokens
