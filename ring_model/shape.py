"""What training needs to know of an architecture beside its forward pass: how much it computes, and what routers it has."""

from dataclasses import dataclass

NO_LIMIT = 2**31 - 1
"""Positions of a model that names none."""


@dataclass(frozen=True, slots=True)
class Routers:
    """Sizes of the routers of a model; zeros where it has none."""

    num_layers: int = 0  # that have a router
    num_experts: int = 0  # of a layer
    num_chosen: int = 0  # experts that a token uses
    first_layer: int = (
        0  # number of the first layer that has one, as far as it is known; the layers before it are dense
    )


@dataclass(frozen=True, slots=True)
class Shape:
    """Numbers of a causal language model; see `stages.training.compute` for what is made of them."""

    active_parameters: int  # of the layers that multiply one token
    head_parameters: int  # of the output matrix
    attention_width: int  # columns of the queries, all layers together
    routers: Routers
    max_positions: int  # longest row, in tokens
