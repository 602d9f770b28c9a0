"""Makes the slow reference importable and keeps torch on one thread."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)

from slow_model import SMALL, VARIANTS  # noqa: E402

from ring_model.checkpoint import released_tensors  # noqa: E402
from ring_model.configuration import BailingMoeConfig  # noqa: E402
from ring_model.modelling import BailingMoe, initialise  # noqa: E402


def telling(config: BailingMoeConfig) -> BailingMoe:
    """A model with large weights and norm weights and biases away from one and zero, so that every part shows in its logits."""
    model = initialise(BailingMoe(config), seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
    return model


@pytest.fixture
def model() -> BailingMoe:
    """The small model."""
    return telling(SMALL)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> BailingMoe:
    """The small model with what others of the family have: dense layers, biases, a tied head."""
    return telling(VARIANTS[request.param])


@pytest.fixture
def weights(model: BailingMoe) -> dict[str, np.ndarray]:
    """The model's parameters under their released names, in float64."""
    return {name: tensor.double().numpy() for name, tensor in released_tensors(model).items()}
