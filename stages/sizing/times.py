"""Hours of a stage from its load: training by model-FLOPs utilisation, decoding by memory bandwidth.

Decoding. A copy of the model takes one step for all its rows. A step reads the weights that the rows use, and the keys and values of
every row at half its response, from memory:

    bytes = 2 x (P_rest + P_routed x (1 - (1 - K/E)^rows)) + cache x (prompt + response / 2) x rows

seconds = bytes / (bandwidth x efficiency), or FLOPs / (peak x training efficiency), or the least time of the layers, whichever is longest.
Copies work side by side, and
all rows are kept busy: the tail, in which the longest responses are waited for, is not counted, nor are judging and loading.
"""

from dataclasses import dataclass

from ring_model.configuration import BailingMoeConfig
from ring_model.memory import BFLOAT16, cache_bytes
from stages.sizing.assumptions import Assumptions
from stages.sizing.gpus import Gpu
from stages.sizing.work import Drawing, Load
from stages.training.compute import REFERENCE, SAMPLING, TRAINING, Work, forward_flops

_AGAIN = 4 / 3  # with checkpointed layers the forward pass is computed twice


@dataclass(frozen=True, slots=True)
class Cluster:
    """The GPUs that do the work."""

    gpu: Gpu
    num_gpus: int


@dataclass(frozen=True, slots=True)
class Hours:
    """Of a stage."""

    training: float
    sampling: float
    reference: float

    @property
    def total(self) -> float:
        """One after the other."""
        return self.training + self.sampling + self.reference


def hours_of(
    load: Load, model: BailingMoeConfig, cluster: Cluster, assumed: Assumptions, *, checkpoints_layers: bool
) -> Hours:
    """Hours of wall clock on the whole cluster."""
    speed = 3600 * cluster.num_gpus * cluster.gpu.flops * assumed.training_efficiency
    sampling = sum(decoding_seconds(one, model, cluster, assumed) for one in load.drawings) / 3600
    again = _AGAIN if checkpoints_layers else 1.0
    return Hours(
        training=again * load.flops.get(TRAINING, 0) / speed,
        sampling=sampling,
        reference=load.flops.get(REFERENCE, 0) / speed,
    )


def decoding_seconds(one: Drawing, model: BailingMoeConfig, cluster: Cluster, assumed: Assumptions) -> float:
    """Seconds to draw these responses with copies of the model on all GPUs."""
    sharing = min(assumed.sampler_gpus, cluster.num_gpus)
    copies = max(1, cluster.num_gpus // sharing)
    rows = max(1, min(one.rows, -(-one.responses // copies)))
    step = step_seconds(one, model, cluster, assumed, rows=rows, sharing=sharing)
    steps = one.responses * one.response_tokens / (copies * rows)
    prefill = forward_flops(_prompts(one), model.shape) / (
        cluster.num_gpus * cluster.gpu.flops * assumed.training_efficiency
    )
    return steps * step + prefill


def step_seconds(
    one: Drawing, model: BailingMoeConfig, cluster: Cluster, assumed: Assumptions, *, rows: int, sharing: int
) -> float:
    """Seconds of one step of a copy: one token for each of its rows."""
    context = one.prompt_tokens + one.response_tokens // 2
    moved = BFLOAT16 * used_parameters(model, rows=rows) + cache_bytes(model, num_tokens=rows * context)
    work = Work(tokens=rows, logits=rows, pairs=rows * context)
    by_memory = moved / (sharing * cluster.gpu.bandwidth * assumed.decoding_efficiency)
    by_compute = forward_flops(work, model.shape) / (sharing * cluster.gpu.flops * assumed.training_efficiency)
    return max(by_memory, by_compute, model.num_hidden_layers * assumed.layer_milliseconds / 1000)


def used_parameters(model: BailingMoeConfig, *, rows: int) -> float:
    """Parameters that a step reads: of the routed experts those that one of its rows is expected to choose, if all are equally likely."""
    parts = model.parameters_by_part()
    missed = (1 - model.num_experts_per_tok / model.num_experts) ** rows
    others = model.num_parameters - parts["routed experts"] - parts["embedding"]
    return others + parts["routed experts"] * (1 - missed)


def _prompts(one: Drawing) -> Work:
    length = one.prompt_tokens
    return Work(one.prompts * length, one.prompts, one.prompts * length * (length + 1) // 2)


def total_flops(load: Load) -> int:
    """Of all that a stage does."""
    return sum(load.flops.get(name, 0) for name in (TRAINING, SAMPLING, REFERENCE))
