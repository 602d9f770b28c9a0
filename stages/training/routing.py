"""What the routers did in a training step: summed over micro-batches and ranks; the loads serve the next step's balance loss.

Axes: L layers, E experts.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import RouterOutput, dead_experts, max_violation

_LOSSES = ("balance_loss", "z_loss")
Load = list[list[float]]  # [L, E]: share of a layer's selections that went to each expert; plain, to be saved


def uniform_load(config: BailingMoeConfig) -> Load:
    """Before the first step: every expert alike."""
    return [[1.0 / config.num_experts] * config.num_experts for _ in range(config.num_hidden_layers)]


def no_routing(config: BailingMoeConfig) -> dict[str, float]:
    """Sums of a rank without tokens; all ranks give the same names."""
    return dict.fromkeys((*_LOSSES, *_load_names(config), *_entropy_names(config)), 0.0)


def weighed_routing(router: RouterOutput, share: float) -> dict[str, float]:
    """A micro-batch's part of the step's loads, entropies and losses; `share` of the step's tokens are its own.

    The balance loss is that of its own loads, eq. 6 as it is written; training takes the loads of the step before.
    """
    num_layers, num_experts = router.load_LE.shape
    losses = torch.stack((router.balance_loss(router.load_LE), router.z_loss)).detach()
    values = torch.cat((losses, router.load_LE.flatten(), router.entropy_L)).tolist()
    names = (*_LOSSES, *_names("load", num_layers * num_experts), *_names("entropy", num_layers))
    return {name: share * value for name, value in zip(names, values, strict=True)}


def router_losses(totals: Mapping[str, float]) -> dict[str, float]:
    """B and Z of a whole step, before their coefficients."""
    return {f"router/{name}": totals[name] for name in _LOSSES}


def step_load(totals: Mapping[str, float], config: BailingMoeConfig) -> Load:
    """The loads of a whole step from the sums over all micro-batches and ranks."""
    flat = torch.tensor([totals[name] for name in _load_names(config)])
    return flat.view(config.num_hidden_layers, config.num_experts).tolist()


def routing_metrics(totals: Mapping[str, float], config: BailingMoeConfig) -> dict[str, float]:
    """Of each layer its entropy (nats), the busiest expert's excess over a uniform load, and the experts that nobody chose."""
    load_LE = torch.tensor(step_load(totals, config))
    entropy_L = torch.tensor([totals[name] for name in _entropy_names(config)])
    return (
        _by_layer("router/entropy", entropy_L)
        | _by_layer("router/max_violation", max_violation(load_LE))
        | _by_layer("router/dead_experts", dead_experts(load_LE))
    )


def _by_layer(name: str, values_L: Tensor) -> dict[str, float]:
    return {f"{name}_layer_{layer:02d}": float(value) for layer, value in enumerate(values_L.tolist())}


def _load_names(config: BailingMoeConfig) -> list[str]:
    return _names("load", config.num_hidden_layers * config.num_experts)


def _entropy_names(config: BailingMoeConfig) -> list[str]:
    return _names("entropy", config.num_hidden_layers)


def _names(quantity: str, count: int) -> list[str]:
    return [f"{quantity}/{index}" for index in range(count)]
