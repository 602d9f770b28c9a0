"""The policy loss, against numbers worked by hand and a slow second formula."""

import math

import pytest
import torch

from ring_model.modelling import RouterOutput
from stages.config import C3po, RlArm, RlConfig
from stages.rl.losses import TokenBatch, step_loss, token_losses


def batch(old: list[float], advantages: list[float], *, reference: list[float] | None = None, weight: float = 1.0):
    return TokenBatch(
        torch.tensor(old), torch.tensor(reference or old), torch.tensor(advantages), torch.full((len(old),), weight)
    )


def config(**values: object) -> RlConfig:
    arm = RlArm(kind="rl", name="a", phases=({"name": "p", "steps": 1, "mixture": {"math": 1.0}},))
    zero = {"kl_coefficient": 0.0, "entropy_coefficient": 0.0, "balance_coefficient": 0.0, "z_coefficient": 0.0}
    return RlConfig(arms=(arm,), objective=C3po(token_budget=4, scope="global"), **{**zero, **values})


LOAD = torch.tensor([[2.0, 1.0]])  # no real load: 2 (0.5 x 2 + 0.5 x 1) = 3 is easy to see
ROUTER = RouterOutput(
    probability_LE=torch.tensor([[0.5, 0.5]]),
    load_LE=torch.ones(1, 2) / 2,
    entropy_L=torch.zeros(1),
    z_loss=torch.tensor(5.0),
)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, -2.0),  # on policy: r A
        (1.5, 2.0, -2.4),  # above 1.2 and rewarded: clipped to 1.2 A
        (0.5, 2.0, -1.0),  # below 0.8 and rewarded: the smaller of 0.5 A and 0.8 A
        (1.5, -2.0, 3.0),  # above 1.2 and punished: the smaller of -3 and -2.4
        (0.5, -2.0, 1.6),  # below 0.8 and punished: clipped to 0.8 A
    ],
)
def test_surrogate_is_the_smaller_of_the_plain_and_the_clipped_product(ratio, advantage, expected) -> None:
    losses_M, _ = token_losses(torch.tensor([math.log(ratio)]), batch([0.0], [advantage]), clip=0.2, kl_coefficient=0.0)
    assert losses_M.item() == pytest.approx(expected, rel=1e-6)


def test_kl_is_the_estimator_of_grpo_and_never_negative() -> None:
    # pi_ref / pi = 2: 2 - ln 2 - 1
    tokens = batch([-1.0], [0.0], reference=[-1.0 + math.log(2)])
    losses_M, kl_M = token_losses(torch.tensor([-1.0]), tokens, clip=0.2, kl_coefficient=0.5)
    assert kl_M.item() == pytest.approx(1 - math.log(2), rel=1e-6)
    assert losses_M.item() == pytest.approx(0.5 * (1 - math.log(2)), rel=1e-6)
    random = torch.randn(100)
    _, kl_M = token_losses(random, batch([0.0] * 100, [0.0] * 100), clip=0.2, kl_coefficient=1.0)
    assert (kl_M >= -1e-6).all()


def test_on_policy_gradient_is_minus_weight_times_advantage() -> None:
    logprobs_M = torch.tensor([-1.0, -2.0, -0.5, -3.0], requires_grad=True)
    tokens = batch([-1.0, -2.0, -0.5, -3.0], [1.0, 1.0, -2.0, -2.0], weight=1 / 4)
    output = step_loss(logprobs_M, torch.zeros(4), ROUTER, tokens, config=config(), load_LE=LOAD, router_share=1.0)
    output.loss.backward()
    assert logprobs_M.grad is not None
    assert logprobs_M.grad.tolist() == [-0.25, -0.25, 0.5, 0.5]
    assert output.num_clipped == 0


def test_without_a_reference_there_is_no_divergence() -> None:
    tokens = TokenBatch(torch.zeros(2), None, torch.ones(2), torch.ones(2))
    losses_M, kl_M = token_losses(torch.zeros(2), tokens, clip=0.2, kl_coefficient=0.5)
    assert losses_M.tolist() == [-1.0, -1.0]
    assert kl_M.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "num_clipped"),
    [(1.5, 1.0, 1), (1.5, -1.0, 0), (1.5, 0.0, 0), (0.5, 1.0, 0), (0.5, -1.0, 1), (0.5, 0.0, 0), (1.1, 1.0, 0), (0.9, -1.0, 0)],
)  # fmt: skip
def test_a_token_is_clipped_where_the_ratio_left_on_the_side_that_pays(ratio, advantage, num_clipped) -> None:
    output = step_loss(
        torch.tensor([math.log(ratio)]), None, ROUTER, batch([0.0], [advantage]), config=config(), load_LE=LOAD, router_share=1.0
    )  # fmt: skip
    assert output.num_clipped == num_clipped


def test_the_reported_kl_is_a_sum_over_tokens_before_weights_and_beta() -> None:
    # pi_ref / pi = 2 and 1/2: (2 - ln 2 - 1) + (1/2 + ln 2 - 1) = 1/2
    tokens = batch([0.0, 0.0], [0.0, 0.0], reference=[math.log(2), -math.log(2)], weight=1 / 8)
    logprobs_M = torch.zeros(2, requires_grad=True)
    output = step_loss(
        logprobs_M, None, ROUTER, tokens, config=config(kl_coefficient=0.1), load_LE=LOAD, router_share=1.0
    )
    assert output.kl_sum == pytest.approx(0.5)
    assert output.loss.item() == pytest.approx(0.1 * 0.5 / 8)


def test_a_clipped_token_has_no_gradient_and_is_counted() -> None:
    logprobs_M = torch.tensor([math.log(1.5), math.log(0.5)], requires_grad=True)
    output = step_loss(
        logprobs_M,
        torch.zeros(2),
        ROUTER,
        batch([0.0, 0.0], [1.0, 1.0]),
        config=config(),
        load_LE=LOAD,
        router_share=1.0,
    )
    output.loss.backward()
    assert logprobs_M.grad is not None
    assert logprobs_M.grad[0] == 0.0
    assert logprobs_M.grad[1] != 0.0
    assert output.num_clipped == 1


def test_entropy_is_encouraged() -> None:
    entropies_M = torch.tensor([1.0, 3.0], requires_grad=True)
    tokens = batch([0.0, 0.0], [0.0, 0.0], weight=1 / 2)
    output = step_loss(
        torch.zeros(2),
        entropies_M,
        ROUTER,
        tokens,
        config=config(entropy_coefficient=0.1),
        load_LE=LOAD,
        router_share=1.0,
    )
    assert output.loss.item() == pytest.approx(-0.1 * 2.0)
    output.loss.backward()
    assert entropies_M.grad is not None
    assert (entropies_M.grad < 0).all()


def test_router_losses_weigh_by_the_share_of_the_micro_batch() -> None:
    weighed = config(balance_coefficient=0.1, z_coefficient=0.01)
    output = step_loss(
        torch.zeros(1), torch.zeros(1), ROUTER, batch([0.0], [0.0]), config=weighed, load_LE=LOAD, router_share=0.5
    )
    assert output.loss.item() == pytest.approx(0.5 * (0.1 * 3.0 + 0.01 * 5.0))


def test_the_loss_does_not_depend_on_the_split_into_micro_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs, old, advantages, entropies = (torch.randn(12, generator=generator) * 0.3 for _ in range(4))
    full = config(kl_coefficient=1e-2, entropy_coefficient=1e-2, balance_coefficient=0.1)

    def part(rows: slice) -> float:
        tokens = TokenBatch(old[rows], old[rows] + 0.1, advantages[rows], torch.full((len(old[rows]),), 1 / 12))
        share = len(old[rows]) / 12
        return step_loss(
            logprobs[rows], entropies[rows], ROUTER, tokens, config=full, load_LE=LOAD, router_share=share
        ).loss.item()

    assert part(slice(0, 5)) + part(slice(5, 12)) == pytest.approx(part(slice(0, 12)), rel=1e-5)


# ---------------------------------------------------------------- which divergence

SCORES = [0.3, -0.4, 1.1, 0.0, -0.9]  # of five symbols
REFERENCE_V = torch.tensor([0.1, 0.2, 0.25, 0.05, 0.4], dtype=torch.float64)


def gradient_of(value) -> torch.Tensor:
    """By the scores of a policy over five symbols, of a function of its log-probabilities."""
    scores_V = torch.tensor(SCORES, dtype=torch.float64, requires_grad=True)
    value(scores_V.log_softmax(dim=0)).backward()
    assert scores_V.grad is not None
    return scores_V.grad


def expected_gradient(estimator) -> torch.Tensor:
    """Of an estimator in the loss, over every symbol that the policy may draw: what was drawn has no gradient itself."""
    return gradient_of(lambda logprobs_V: (logprobs_V.detach().exp() * estimator(logprobs_V)).sum())


def divergence_from_the_reference(logprobs_V: torch.Tensor) -> torch.Tensor:
    """KL(pi || pi_ref)."""
    return (logprobs_V.exp() * (logprobs_V - REFERENCE_V.log())).sum()


def divergence_of_the_reference(logprobs_V: torch.Tensor) -> torch.Tensor:
    """KL(pi_ref || pi)."""
    return (REFERENCE_V * (REFERENCE_V.log() - logprobs_V)).sum()


def ours(logprobs_V: torch.Tensor) -> torch.Tensor:
    """The loss of tokens without an advantage, with beta = 1."""
    nothing_V = torch.zeros(5, dtype=torch.float64)
    tokens = TokenBatch(logprobs_V.detach(), REFERENCE_V.log(), nothing_V, nothing_V)
    return token_losses(logprobs_V, tokens, clip=0.2, kl_coefficient=1.0)[0]


def test_the_expected_gradient_of_our_kl_is_that_of_the_references_divergence_from_the_policy() -> None:
    assert torch.allclose(expected_gradient(ours), gradient_of(divergence_of_the_reference), rtol=1e-12, atol=1e-15)
    assert not torch.allclose(expected_gradient(ours), gradient_of(divergence_from_the_reference), atol=0.05)
    logprobs_V = torch.tensor(SCORES, dtype=torch.float64).log_softmax(dim=0)
    expected = (logprobs_V.exp() * ours(logprobs_V)).sum()
    assert expected.item() == pytest.approx(divergence_from_the_reference(logprobs_V).item())


def test_the_other_estimators_have_the_gradient_of_the_other_divergence_and_none() -> None:
    squared = expected_gradient(lambda logprobs_V: 0.5 * (logprobs_V - REFERENCE_V.log()) ** 2)
    assert torch.allclose(squared, gradient_of(divergence_from_the_reference), rtol=1e-12, atol=1e-15)
    plain = expected_gradient(lambda logprobs_V: logprobs_V - REFERENCE_V.log())
    assert torch.allclose(plain, torch.zeros(5, dtype=torch.float64), atol=1e-15)
