"""Products are those of torch, whichever kernel takes which rows."""

import pytest
import torch

from ring_model.products import Linear, linear, product, product_of_columns

SIZES = [1, 31, 32, 33, 100, 512, 700]  # below, at and above what oneDNN takes, with and without a rest


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("rows", SIZES)
def test_products_equal_those_in_double(rows: int) -> None:
    a, b, c = draw(rows, 24), draw(20, 24), draw(rows, 20)
    assert torch.allclose(product(a, b).double(), a.double() @ b.double().t(), atol=1e-4)
    assert torch.allclose(product(c, b.t()).double(), c.double() @ b.double(), atol=1e-4)
    assert torch.allclose(product_of_columns(c, a).double(), c.double().t() @ a.double(), atol=1e-4)


@pytest.mark.parametrize("rows", SIZES)
def test_gradients_equal_torchs(rows: int) -> None:
    x, weight, probe = draw(rows, 24).requires_grad_(), draw(20, 24).requires_grad_(), draw(rows, 20)
    ours = torch.autograd.grad((linear(x, weight) * probe).sum(), (x, weight))
    torchs = torch.autograd.grad((torch.nn.functional.linear(x, weight) * probe).sum(), (x, weight))
    for one, two in zip(ours, torchs, strict=True):
        assert torch.allclose(one, two, atol=1e-4)


def test_half_precision_under_autocast_goes_through_torch() -> None:
    layer = Linear(24, 20)
    torch.nn.init.ones_(layer.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(draw(40, 24)).dtype == torch.bfloat16
