"""The adapters that a recipe asks for, as the model takes them."""

from typing import TYPE_CHECKING

from stages.config import Lora

if TYPE_CHECKING:
    from ring_model.transformers_scorer import Adapters


def adapters(lora: Lora | None) -> "Adapters | None":
    """None where all weights are trained."""
    if lora is None:
        return None
    from ring_model.transformers_scorer import Adapters  # imports transformers, which takes seconds

    return Adapters(rank=lora.rank, alpha=lora.alpha, targets=lora.targets or "all-linear", parameters=lora.parameters)
