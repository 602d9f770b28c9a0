"""The model computes what the slow float64 reference computes, forward and backward."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import slow_model
import torch
from torch.nn import functional

from ring_model.checkpoint import released_tensors
from ring_model.experts import dispatch, experts
from ring_model.modelling import (
    BailingMoe,
    dead_experts,
    expert_load,
    initialise,
    max_violation,
    route,
    router_output,
    z_loss,
)
from ring_model.products import FORCED, Kernel, matmul_kernel

ROWS = [[5, 1, 36, 7, 7, 2, 9], [3], [11, 4, 30, 8]]


def padded(rows: list[list[int]], fill: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows]), torch.tensor([len(row) for row in rows])


def test_logits_equal_the_slow_reference(model: BailingMoe, weights: dict[str, np.ndarray]) -> None:
    tokens_BT, lengths_B = padded(ROWS, 0)
    output = model(tokens_BT, lengths_B=lengths_B)
    expected = np.concatenate([slow_model.logits(weights, row, model.config) for row in ROWS])
    assert np.abs(model.logits(output.hidden_ND).detach().numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("change", [{"norm_head": False}, {"norm_topk_prob": False}, {"num_shared_experts": 0}])
def test_logits_equal_the_slow_reference_with_options_off(change: dict[str, object]) -> None:
    model = initialise(BailingMoe(replace(slow_model.SMALL, **change)), seed=8)
    names = {name: tensor.double().numpy() for name, tensor in released_tensors(model).items()}
    hidden_ND = model(torch.tensor(ROWS[:1])).hidden_ND
    expected = slow_model.logits(names, ROWS[0], model.config)
    assert np.abs(model.logits(hidden_ND).detach().numpy() - expected).max() < 1e-5


def test_padding_content_changes_no_bit(model: BailingMoe) -> None:
    outputs = []
    for fill in (0, 17):
        tokens_BT, lengths_B = padded(ROWS, fill)
        outputs.append(model(tokens_BT, lengths_B=lengths_B))
    assert torch.equal(outputs[0].hidden_ND, outputs[1].hidden_ND)
    assert torch.equal(outputs[0].router.probability_LE, outputs[1].router.probability_LE)
    assert len(outputs[0].hidden_ND) == sum(map(len, ROWS))


def test_router_losses_ignore_padding(model: BailingMoe) -> None:
    tokens_BT, lengths_B = padded([ROWS[0], ROWS[0][:4]], 9)
    ragged = model(tokens_BT, lengths_B=lengths_B).router
    rows = [model(torch.tensor([row])).router for row in (ROWS[0], ROWS[0][:4])]
    weighted = (7 * rows[0].z_loss + 4 * rows[1].z_loss) / 11
    assert torch.allclose(ragged.z_loss, weighted, rtol=1e-6)
    assert torch.allclose(ragged.load_LE, (7 * rows[0].load_LE + 4 * rows[1].load_LE) / 11)


def released_gradients(model: BailingMoe, row: list[int], weighting: np.ndarray) -> dict[str, torch.Tensor]:
    """Gradients of weighted logits, under the released names."""
    output = model(torch.tensor([row]))
    (model.logits(output.hidden_ND) * torch.from_numpy(weighting).float()).sum().backward()
    probe = BailingMoe(model.config)
    for source, target in zip(model.parameters(), probe.parameters(), strict=True):
        assert source.grad is not None
        target.data.copy_(source.grad)
    return released_tensors(probe)


def require_central_differences(model: BailingMoe) -> None:
    """Gradients are those of the slow reference, of one number in each tensor, with the norms of the head held fast."""
    weights, row = slow_weights(model), ROWS[0]
    weighting = np.random.default_rng(0).normal(size=(len(row), model.config.vocab_size))
    names = released_gradients(model, row, weighting)
    draw, divisor = np.random.default_rng(1), slow_model.head_norm(weights, model.config)
    for name, values in weights.items():
        index = tuple(int(draw.integers(size)) for size in values.shape)
        if name == "model.word_embeddings.weight":
            index = (row[0], index[1])  # a token that is there
        sides = []
        for step in (1e-5, -1e-5):
            moved = values.copy()
            moved[index] += step
            logits = slow_model.logits({**weights, name: moved}, row, model.config, divisor=divisor)
            sides.append((logits * weighting).sum())
        assert float(names[name][index]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=2e-4, abs=2e-4), name


def slow_weights(model: BailingMoe) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in released_tensors(model).items()}


def test_gradient_equals_central_differences_of_the_slow_reference(model: BailingMoe) -> None:
    require_central_differences(model)


def test_dense_layers_biases_and_a_tied_head_have_the_slow_references_gradients(variant: BailingMoe) -> None:
    require_central_differences(variant)


def test_dense_layers_biases_and_a_tied_head_have_the_slow_references_logits(variant: BailingMoe) -> None:
    tokens_BT, lengths_B = padded(ROWS, 0)
    output = variant(tokens_BT, lengths_B=lengths_B)
    weights = slow_weights(variant)
    expected = np.concatenate([slow_model.logits(weights, row, variant.config) for row in ROWS])
    assert np.abs(variant.logits(output.hidden_ND).detach().numpy() - expected).max() < 1e-5
    num_routers = variant.config.num_hidden_layers - variant.config.first_k_dense_replace
    assert output.router.load_LE.shape == (num_routers, variant.config.num_experts)
    routers = variant.config.shape.routers
    assert (routers.num_layers, routers.first_layer) == (num_routers, variant.config.first_k_dense_replace)


def test_a_tied_matrix_has_the_gradient_of_both_its_uses() -> None:
    """An untied model of the same numbers has the two apart."""
    tied = initialise(BailingMoe(slow_model.VARIANTS["tied, divided by norms"]), seed=8)
    apart = BailingMoe(replace(tied.config, tie_word_embeddings=False))
    with torch.no_grad():
        for name, tensor in released_tensors(apart).items():
            own = "model.word_embeddings.weight" if name == "lm_head.weight" else name
            tensor.copy_(released_tensors(tied)[own])
    for model in (tied, apart):
        model.logits(model(torch.tensor(ROWS[:1])).hidden_ND).log_softmax(1)[:, 5].sum().backward()
    both = apart.word_embeddings.weight.grad + apart.lm_head.weight.grad
    assert tied.lm_head.weight is tied.word_embeddings.weight
    assert torch.allclose(tied.lm_head.weight.grad, both, atol=1e-6)
    assert min(float(one.weight.grad.abs().max()) for one in (apart.word_embeddings, apart.lm_head)) > 1e-2


def test_parameters_are_counted_once_and_by_part(variant: BailingMoe) -> None:
    counted = sum(parameter.numel() for parameter in variant.parameters())
    assert variant.config.num_parameters == sum(variant.config.parameters_by_part().values()) == counted


def test_biases_begin_at_zero_and_norms_at_one() -> None:
    model = initialise(BailingMoe(slow_model.VARIANTS["all"]), seed=0)
    vectors = {name: set(p.tolist()) for name, p in model.named_parameters() if p.dim() == 1}
    assert {name for name, values in vectors.items() if values == {0.0}} == {
        f"layers.{layer}.attention.{part}.bias" for layer in range(3) for part in ("query_key_value", "dense")
    }
    assert all(values == {1.0} for name, values in vectors.items() if name.endswith("weight"))


def test_checkpointed_layers_of_a_variant_give_the_same_gradients_to_the_bit(variant: BailingMoe) -> None:
    plain = gradients(variant)
    variant.checkpoints_layers = True
    assert all(torch.equal(one, two) for one, two in zip(plain, gradients(variant), strict=True))


def test_bfloat16_products_of_a_variant_stay_near_float32(variant: BailingMoe) -> None:
    tokens_BT, lengths_B = padded(ROWS, 0)
    exact = variant(tokens_BT, lengths_B=lengths_B).hidden_ND
    variant.compute_dtype = torch.bfloat16
    output = variant(tokens_BT, lengths_B=lengths_B, keep_keys_values=True)
    assert {keys.dtype for keys, _ in output.keys_values} == {torch.float32}
    assert 0.0 < (output.hidden_ND - exact).abs().mean() < 0.1


def test_head_norm_is_a_constant_in_the_gradient(model: BailingMoe) -> None:
    hidden_MD = torch.randn(4, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    model.logits(hidden_MD).sum().backward()
    norm_D = model.lm_head.weight.detach().norm(dim=0) + 1e-7
    assert torch.allclose(
        model.lm_head.weight.grad, (hidden_MD / norm_D).sum(0).expand_as(model.lm_head.weight), atol=1e-6
    )


def test_balance_and_z_loss_by_hand() -> None:
    logits_NE = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4]]).log()
    routing = route(logits_NE, k=1, normalise=True)
    load_E = expert_load(routing)
    assert load_E.tolist() == [1.0, 0.0, 0.0]
    assert float(router_output([routing]).balance_loss(load_E[None])) == pytest.approx(3 * 0.55)
    assert float(z_loss(routing)) == pytest.approx(0.0, abs=1e-12)
    assert float(z_loss(route(logits_NE + torch.tensor([[2.0], [1.0]]), k=1, normalise=True))) == pytest.approx(2.5)


def test_uniform_routing_has_balance_loss_one_for_any_k() -> None:
    for k in (1, 2):
        routing = route(torch.zeros(4, 4), k=k, normalise=True)
        assert float(router_output([routing]).balance_loss(torch.full((1, 4), 0.25))) == pytest.approx(1.0)


def test_router_statistics_by_hand() -> None:
    load_LE = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.25, 0.25, 0.25, 0.25]])
    assert max_violation(load_LE).tolist() == [1.0, 0.0]
    assert dead_experts(load_LE).tolist() == [1, 0]
    sure, torn = [0.0, -1e9, -1e9, -1e9], [0.0, 0.0, -1e9, -1e9]
    routing = route(torch.tensor([sure, torn]), k=1, normalise=True)
    assert float(router_output([routing]).entropy_L[0]) == pytest.approx(math.log(2) / 2)


def test_topk_weights_by_hand() -> None:
    routing = route(torch.tensor([[0.1, 0.5, 0.4]]).log(), k=2, normalise=True)
    assert routing.expert_NK.tolist() == [[1, 2]]
    assert routing.weight_NK[0].tolist() == pytest.approx([5 / 9, 4 / 9])


def naive_experts(x, weight, expert, gate_up, down):
    out = torch.zeros_like(x)
    for n in range(len(x)):
        for k in range(expert.shape[1]):
            gate, up = (gate_up[expert[n, k]] @ x[n]).chunk(2)
            out[n] += weight[n, k] * (down[expert[n, k]] @ (functional.silu(gate) * up))
    return out


@pytest.fixture
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "onednn" and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setenv(FORCED, request.param)
    matmul_kernel.cache_clear()
    yield request.param
    matmul_kernel.cache_clear()


@pytest.mark.parametrize("kernel", get_args(Kernel), indirect=True)
@pytest.mark.parametrize("num_tokens", [9, 200])  # oneDNN multiplies the latter one by one, the rest goes in groups
def test_experts_and_their_gradient_equal_a_loop_over_tokens(num_tokens: int, kernel: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num_tokens, 8, generator=generator, requires_grad=True)
    weight = torch.rand(num_tokens, 2, generator=generator, requires_grad=True)
    expert = torch.randint(0, 4, (num_tokens, 2), generator=generator)  # expert 4 is chosen by nobody
    assert dispatch(expert, num_experts=5).one_by_one == (kernel == "onednn" and num_tokens == 200)
    gate_up = torch.randn(5, 16, 8, generator=generator, requires_grad=True)
    down = torch.randn(5, 8, 8, generator=generator, requires_grad=True)
    arguments = (x, weight, gate_up, down)
    fast = experts(x, weight_NK=weight, expert_NK=expert, routed=(gate_up, down))
    slow = naive_experts(x, weight, expert, gate_up, down)
    assert torch.allclose(fast, slow, atol=1e-5)
    probe = torch.randn(num_tokens, 8, generator=generator)
    for one, two in zip(
        torch.autograd.grad((fast * probe).sum(), arguments), torch.autograd.grad((slow * probe).sum(), arguments),
        strict=True,
    ):  # fmt: skip
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-4)


def test_an_expanded_gradient_is_accepted(model: BailingMoe) -> None:
    model(torch.tensor(ROWS[:1])).hidden_ND.sum().backward()
    assert torch.isfinite(model.layers[0].mlp.gate_up.grad).all()


def test_initialisation_depends_on_the_seed_alone() -> None:
    one, two, other = (initialise(BailingMoe(slow_model.SMALL), seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert float(one.lm_head.weight.std()) == pytest.approx(0.3, rel=0.1)


def test_forward_and_backward_repeat_to_the_bit(model: BailingMoe) -> None:
    gradients = []
    for _ in range(2):
        model.zero_grad()
        tokens_BT, lengths_B = padded(ROWS, 0)
        output = model(tokens_BT, lengths_B=lengths_B)
        router = output.router
        (model.logits(output.hidden_ND).square().sum() + router.balance_loss(router.load_LE) + router.z_loss).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def gradients(model: BailingMoe) -> list[torch.Tensor]:
    tokens_BT, lengths_B = padded(ROWS, 0)
    model.zero_grad()
    output = model(tokens_BT, lengths_B=lengths_B)
    (model.logits(output.hidden_ND).float().log_softmax(1)[:, 5].sum() + output.router.z_loss).backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def test_checkpointed_layers_give_the_same_gradients_to_the_bit(model: BailingMoe) -> None:
    plain = gradients(model)
    model.checkpoints_layers = True
    assert all(torch.equal(one, two) for one, two in zip(plain, gradients(model), strict=True))


def test_bfloat16_products_stay_near_float32_and_leave_the_parameters_alone(model: BailingMoe) -> None:
    """Compared at the tokens that go to the same experts: rounding turns a close choice."""
    exact, plain = gradients(model), model(torch.tensor(ROWS[:1]))
    model.compute_dtype = torch.bfloat16
    rounded = model(torch.tensor(ROWS[:1]))
    assert rounded.hidden_ND.dtype == torch.float32
    same_N = (plain.router.expert_LNK.sort(2).values == rounded.router.expert_LNK.sort(2).values).all(2).all(0)
    assert int(same_N.sum()) >= len(same_N) - 1
    logits, near = (model.logits(output.hidden_ND)[same_N] for output in (plain, rounded))
    assert 0 < (near - logits).abs().max() < 0.1 * logits.abs().max()
    for one, two in zip(exact, gradients(model), strict=True):
        assert two.dtype == torch.float32
        assert (one - two).norm() < 0.2 * one.norm()


def test_logits_and_routers_are_float32_products_in_bfloat16_too(model: BailingMoe) -> None:
    model.compute_dtype = torch.bfloat16
    hidden_MD = model(torch.tensor(ROWS[:1])).hidden_ND.detach()
    exact_MV = (hidden_MD / model.lm_head.norm()).double() @ model.lm_head.weight.detach().double().T
    with model.autocast():
        assert (model.logits(hidden_MD).detach() - exact_MV).abs().max() < 1e-6
        routing = model.layers[0].mlp(hidden_MD)[1]
    exact_ME = hidden_MD.double() @ model.layers[0].mlp.gate.weight.detach().double().T
    assert (routing.logits_NE.detach() - exact_ME).abs().max() < 1e-6
