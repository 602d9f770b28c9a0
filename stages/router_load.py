"""The experts' loads of a training step: summed over micro-batches and ranks, kept for the balance loss of the next step."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ring_model.configuration import BailingMoeConfig

Load = list[list[float]]  # [L, E]: share of a layer's selections that went to each expert; plain, to be saved


def uniform_load(config: BailingMoeConfig) -> Load:
    """Before the first step: every expert alike."""
    return [[1.0 / config.num_experts] * config.num_experts for _ in range(config.num_hidden_layers)]


def no_load(config: BailingMoeConfig) -> dict[str, float]:
    """Sums of a rank without tokens; all ranks give the same names."""
    return {_name(index): 0.0 for index in range(config.num_hidden_layers * config.num_experts)}


def weighed_load(load_LE: Tensor, share: float) -> dict[str, float]:
    """A micro-batch's part of the step's loads; `share` of the step's tokens are its own."""
    return {_name(index): share * value for index, value in enumerate(load_LE.flatten().tolist())}


def step_load(totals: Mapping[str, float], config: BailingMoeConfig) -> Load:
    """The loads of a whole step from the sums over all micro-batches and ranks."""
    flat = torch.tensor([totals[name] for name in no_load(config)])
    return flat.view(config.num_hidden_layers, config.num_experts).tolist()


def load_metrics(load: Load) -> dict[str, float]:
    """The busiest expert of any layer as a multiple of a uniform load, and the number of experts that nobody chose."""
    return {
        "router/max_load": max(map(max, load)) * len(load[0]),
        "router/dead_experts": float(sum(value == 0.0 for layer in load for value in layer)),
    }


def _name(index: int) -> str:
    return f"load/{index}"
