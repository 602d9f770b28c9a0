"""What the routers did in a training step: summed over micro-batches and ranks; the loads serve the next step's balance loss.

Axes: L layers, E experts.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import RouterOutput, dead_experts, max_violation

_Z = "z_loss"
Load = list[list[float]]  # [L, E]: share of a layer's selections that went to each expert; plain, to be saved


def uniform_load(config: BailingMoeConfig) -> Load:
    """Before the first step: every expert alike."""
    return [[1.0 / config.num_experts] * config.num_experts for _ in range(config.num_hidden_layers)]


def no_routing(config: BailingMoeConfig) -> dict[str, float]:
    """Sums of a rank without tokens; all ranks give the same names."""
    names = (_Z, *_expert_names("load", config), *_expert_names("probability", config), *_entropy_names(config))
    return dict.fromkeys(names, 0.0)


def weighed_routing(router: RouterOutput, share: float) -> dict[str, float]:
    """A micro-batch's part of the step's loads, probabilities, entropies and Z; `share` of the step's tokens are its own."""
    num_layers, num_experts = router.load_LE.shape
    by_expert = (router.load_LE.flatten(), router.probability_LE.detach().flatten())
    values = torch.cat((router.z_loss.detach()[None], *by_expert, router.entropy_L)).tolist()
    sizes = {"load": num_layers * num_experts, "probability": num_layers * num_experts, "entropy": num_layers}
    names = (_Z, *(name for quantity, count in sizes.items() for name in _names(quantity, count)))
    return {name: share * value for name, value in zip(names, values, strict=True)}


def router_losses(totals: Mapping[str, float], config: BailingMoeConfig) -> dict[str, float]:
    """B and Z of a whole step, before their coefficients, however it was cut.

    B is eq. 6 as it is written, with the loads of the step itself; training takes those of the step before.
    """
    load_LE, probability_LE = (_by_expert(name, totals, config) for name in ("load", "probability"))
    router = RouterOutput(probability_LE, load_LE, _entropies(totals, config), torch.tensor(totals[_Z]))
    return {"router/balance_loss": float(router.balance_loss(load_LE)), "router/z_loss": totals[_Z]}


def step_load(totals: Mapping[str, float], config: BailingMoeConfig) -> Load:
    """The loads of a whole step from the sums over all micro-batches and ranks."""
    return _by_expert("load", totals, config).tolist()


def routing_metrics(totals: Mapping[str, float], config: BailingMoeConfig) -> dict[str, float]:
    """Of each layer its entropy (nats), the busiest expert's excess over a uniform load, and the experts that nobody chose."""
    load_LE = _by_expert("load", totals, config)
    return (
        _by_layer("router/entropy", _entropies(totals, config))
        | _by_layer("router/max_violation", max_violation(load_LE))
        | _by_layer("router/dead_experts", dead_experts(load_LE))
    )


def _by_layer(name: str, values_L: Tensor) -> dict[str, float]:
    return {f"{name}_layer_{layer:02d}": float(value) for layer, value in enumerate(values_L.tolist())}


def _by_expert(quantity: str, totals: Mapping[str, float], config: BailingMoeConfig) -> Tensor:
    flat = torch.tensor([totals[name] for name in _expert_names(quantity, config)])
    return flat.view(config.num_hidden_layers, config.num_experts)


def _entropies(totals: Mapping[str, float], config: BailingMoeConfig) -> Tensor:
    return torch.tensor([totals[name] for name in _entropy_names(config)])


def _expert_names(quantity: str, config: BailingMoeConfig) -> list[str]:
    return _names(quantity, config.num_hidden_layers * config.num_experts)


def _entropy_names(config: BailingMoeConfig) -> list[str]:
    return _names("entropy", config.num_hidden_layers)


def _names(quantity: str, count: int) -> list[str]:
    return [f"{quantity}/{index}" for index in range(count)]
