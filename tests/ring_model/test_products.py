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


@pytest.mark.parametrize("rows", SIZES)
def test_a_bias_and_its_gradient_are_torchs_in_any_order_of_columns(rows: int) -> None:
    x, weight, bias = draw(rows, 24), draw(20, 24), draw(20).requires_grad_()
    probe, order = draw(rows, 20), torch.randperm(20, generator=torch.Generator().manual_seed(0))
    out = linear(x, weight, bias_N=bias, order_N=order)
    expected = torch.nn.functional.linear(x, weight, bias)[:, order]
    assert torch.allclose(out, expected, atol=1e-4)
    ours, torchs = (torch.autograd.grad((one * probe).sum(), bias)[0] for one in (out, expected))
    assert torch.allclose(ours, torchs, atol=1e-4)


@pytest.mark.parametrize("has_bias", [False, True])
def test_half_precision_under_autocast_goes_through_torch(has_bias: bool) -> None:
    layer = Linear(24, 20, has_bias=has_bias)
    for parameter in layer.parameters():
        torch.nn.init.ones_(parameter)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(draw(40, 24)).dtype == torch.bfloat16
