"""What the routers did in a training step: summed over micro-batches and ranks; the loads serve the next step's balance loss.

Figures bear the number that their layer has in the model, from 0 on; layers before the first router are dense and have none.

Axes: L layers that have a router, E experts.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ring_model.modelling import RouterOutput, balance_loss, dead_experts, max_violation
from ring_model.rows import RowLayout
from ring_model.shape import Routers
from stages.stage import Row

_Z = "z_loss"
Load = list[list[float]]  # [L, E]: share of a layer's selections that went to each expert; plain, to be saved


def uniform_load(routers: Routers) -> Load:
    """Before the first step: every expert alike."""
    return [[1.0 / routers.num_experts] * routers.num_experts for _ in range(routers.num_layers)]


def no_routing(routers: Routers) -> dict[str, float]:
    """Sums of a rank without tokens; all ranks give the same names."""
    names = (_Z, *_expert_names("load", routers), *_expert_names("probability", routers), *_entropy_names(routers))
    return dict.fromkeys(names, 0.0)


def weighed_routing(router: RouterOutput | None, share: float) -> dict[str, float]:
    """A micro-batch's part of the step's loads, probabilities, entropies and Z; `share` of the step's tokens are its own."""
    if router is None:
        return {_Z: 0.0}
    num_layers, num_experts = router.load_LE.shape
    by_expert = (router.load_LE.flatten(), router.probability_LE.detach().flatten())
    values = torch.cat((router.z_loss.detach()[None], *by_expert, router.entropy_L)).tolist()
    sizes = {"load": num_layers * num_experts, "probability": num_layers * num_experts, "entropy": num_layers}
    names = (_Z, *(name for quantity, count in sizes.items() for name in _names(quantity, count)))
    return {name: share * value for name, value in zip(names, values, strict=True)}


def selections_by_domain(
    router: RouterOutput | None, layout: RowLayout, domains: Sequence[str], routers: Routers
) -> dict[str, float]:
    """How often each expert was chosen for the tokens of each domain; `domains` are those of the rows, from 0 on, of a micro-batch."""
    if router is None:
        return {}
    known = sorted(set(domains))
    num_experts, k = routers.num_experts, routers.num_chosen
    row_N = layout.token_rows.to(router.expert_LNK.device)
    domain_N = torch.tensor([known.index(domain) for domain in domains], device=row_N.device)[row_N]
    count_N = torch.ones(len(row_N), device=row_N.device) if layout.counts is None else layout.counts
    weight_A = count_N.double().repeat_interleave(k)
    found: dict[str, float] = {}
    for layer, expert_NK in enumerate(router.expert_LNK):
        place_A = (domain_N[:, None] * num_experts + expert_NK).flatten()
        counts = torch.bincount(place_A, weights=weight_A, minlength=len(known) * num_experts).view(len(known), -1)
        for domain, of_domain in zip(known, counts.tolist(), strict=True):
            found |= {f"{domain}/{layer * num_experts + expert}": count for expert, count in enumerate(of_domain)}
    return found


def no_selections(domains: Sequence[str], routers: Routers) -> dict[str, float]:
    """Those of a rank without tokens; all ranks give the same names."""
    return {name: 0.0 for domain in domains for name in _expert_names(domain, routers)}


def load_by_domain(totals: Mapping[str, float], domains: Sequence[str], routers: Routers) -> dict[str, Load]:
    """The loads of a whole step on the tokens of each domain; a domain without tokens has none."""
    found: dict[str, Load] = {}
    for domain in domains:
        count_LE = _by_expert(domain, totals, routers)
        if bool(count_LE.any()):
            found[domain] = (count_LE / count_LE.sum(dim=1, keepdim=True)).tolist()
    return found


def domain_metrics(loads: Mapping[str, Load], routers: Routers) -> dict[str, float]:
    """Of each layer and domain the busiest expert's excess over a uniform load, and the experts that no token of it chose."""
    found: dict[str, float] = {}
    for domain, load in loads.items():
        load_LE = torch.tensor(load)
        for name, values_L in (("max_violation", max_violation(load_LE)), ("dead_experts", dead_experts(load_LE))):
            by_layer = _by_layer(f"router/{name}", values_L, routers)
            found |= {f"{metric}_{domain}": value for metric, value in by_layer.items()}
    return found


def load_rows(load: Load, by_domain: Mapping[str, Load], routers: Routers) -> list[Row]:
    """A table of loads: a row a layer and expert, with a column for all tokens and one for those of each domain."""
    return [
        {
            "layer": routers.first_layer + layer,
            "expert": expert,
            "load": share,
            **{name: one[layer][expert] for name, one in by_domain.items()},
        }
        for layer, shares in enumerate(load)
        for expert, share in enumerate(shares)
    ]


def router_losses(totals: Mapping[str, float], routers: Routers) -> dict[str, float]:
    """B and Z of a whole step, before their coefficients, however it was cut.

    B is eq. 6 as it is written, with the loads of the step itself; training takes those of the step before.
    """
    if not routers.num_layers:
        return {}
    load_LE, probability_LE = (_by_expert(name, totals, routers) for name in ("load", "probability"))
    return {"router/balance_loss": float(balance_loss(probability_LE, load_LE)), "router/z_loss": totals[_Z]}


def step_load(totals: Mapping[str, float], routers: Routers) -> Load:
    """The loads of a whole step from the sums over all micro-batches and ranks."""
    return _by_expert("load", totals, routers).tolist()


def routing_metrics(totals: Mapping[str, float], routers: Routers) -> dict[str, float]:
    """Of each layer its entropy (nats), the busiest expert's excess over a uniform load, and the experts that nobody chose."""
    if not routers.num_layers:
        return {}
    load_LE = _by_expert("load", totals, routers)
    return (
        _by_layer("router/entropy", _entropies(totals, routers), routers)
        | _by_layer("router/max_violation", max_violation(load_LE), routers)
        | _by_layer("router/dead_experts", dead_experts(load_LE), routers)
    )


def _by_layer(name: str, values_L: Tensor, routers: Routers) -> dict[str, float]:
    numbered = enumerate(values_L.tolist(), start=routers.first_layer)
    return {f"{name}_layer_{layer:02d}": float(value) for layer, value in numbered}


def _by_expert(quantity: str, totals: Mapping[str, float], routers: Routers) -> Tensor:
    flat = torch.tensor([totals[name] for name in _expert_names(quantity, routers)])
    return flat.view(routers.num_layers, routers.num_experts)


def _entropies(totals: Mapping[str, float], routers: Routers) -> Tensor:
    return torch.tensor([totals[name] for name in _entropy_names(routers)])


def _expert_names(quantity: str, routers: Routers) -> list[str]:
    return _names(quantity, routers.num_layers * routers.num_experts)


def _entropy_names(routers: Routers) -> list[str]:
    return _names("entropy", routers.num_layers)


def _names(quantity: str, count: int) -> list[str]:
    return [f"{quantity}/{index}" for index in range(count)]
