"""The policy loss, against numbers worked by hand and a slow second formula."""

import math

import pytest
import torch

from ring_model.modelling import RouterOutput
from stages.config import Objective
from stages.rl.divergences import ESTIMATORS
from stages.rl.losses import LossOutput, TokenBatch, is_clipped, surrogate, update_loss

LOAD = torch.tensor([[2.0, 1.0]])  # no real load: 2 (0.5 x 2 + 0.5 x 1) = 3 is easy to see
ROUTER = RouterOutput(
    probability_LE=torch.tensor([[0.5, 0.5]]),
    load_LE=torch.ones(1, 2) / 2,
    entropy_L=torch.zeros(1),
    z_loss=torch.tensor(5.0),
    expert_LNK=torch.zeros(1, 0, 1, dtype=torch.int64),
)
BARE = {"kl_coefficient": 0.0, "entropy_coefficient": 0.0, "balance_coefficient": 0.0, "z_coefficient": 0.0}
PLAIN = Objective(**BARE)


def objective(**values: object) -> Objective:
    return Objective.model_validate({**BARE, **values})


def batch(
    old: list[float] | None,
    advantages: list[float],
    *,
    sampler: list[float] | None = None,
    reference: list[float] | None = None,
    weights: list[float] | None = None,
    units: list[int] | None = None,
    responses: list[int] | None = None,
) -> TokenBatch:
    """Tokens of one response, each a unit of its own, of weight 1, where nothing else is said."""
    count = len(advantages)
    return TokenBatch(
        sampler_logprobs_M=torch.tensor(sampler or old or [0.0] * count),
        old_logprobs_M=None if old is None else torch.tensor(old),
        reference_logprobs_M=None if reference is None else torch.tensor(reference),
        advantages_M=torch.tensor(advantages),
        weights_M=torch.tensor(weights or [1.0] * count),
        unit_M=torch.tensor(units or list(range(count))),
        response_M=torch.tensor(responses or [0] * count),
    )


def loss_of(
    logprobs_M: torch.Tensor,
    tokens: TokenBatch,
    objective: Objective = PLAIN,
    *,
    share: float = 1.0,
    entropies_M: torch.Tensor | None = None,
) -> LossOutput:
    return update_loss(logprobs_M, entropies_M, ROUTER, tokens, objective=objective, load_LE=LOAD, router_share=share)


def gradient_of(logprobs: list[float], tokens: TokenBatch, objective: Objective = PLAIN) -> list[float]:
    logprobs_M = torch.tensor(logprobs, requires_grad=True)
    loss_of(logprobs_M, tokens, objective).loss.backward()
    assert logprobs_M.grad is not None
    return logprobs_M.grad.tolist()


# ---------------------------------------------------------------- ratio and clip


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, 2.0),  # on policy: r A
        (1.5, 2.0, 2.4),  # above 1.2 and rewarded: clipped to 1.2 A
        (0.5, 2.0, 1.0),  # below 0.8 and rewarded: the smaller of 0.5 A and 0.8 A
        (1.5, -2.0, -3.0),  # above 1.2 and punished: the smaller of -3 and -2.4
        (0.5, -2.0, -1.6),  # below 0.8 and punished: clipped to 0.8 A
    ],
)
def test_surrogate_is_the_smaller_of_the_plain_and_the_clipped_product(ratio, advantage, expected) -> None:
    found = surrogate(torch.tensor([ratio]), torch.tensor([advantage]), objective=PLAIN)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_clip_has_an_end_of_its_own_on_either_side() -> None:
    ratios, wide = torch.tensor([1.25, 1.35, 0.95, 0.85]), objective(clip_low=0.1, clip_high=0.3)
    assert surrogate(ratios, torch.ones(4), objective=wide).tolist() == pytest.approx([1.25, 1.3, 0.95, 0.85])
    assert surrogate(ratios, -torch.ones(4), objective=wide).tolist() == pytest.approx([-1.25, -1.35, -0.95, -0.9])


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.5, 1.0, True), (1.5, -1.0, False), (1.5, 0.0, False), (0.5, 1.0, False), (0.5, -1.0, True), (0.5, 0.0, False),
        (1.1, 1.0, False), (0.9, -1.0, False),
    ],
)  # fmt: skip
def test_a_token_is_clipped_where_the_ratio_left_on_the_side_that_pays(ratio, advantage, expected) -> None:
    found = is_clipped(torch.tensor([ratio]), torch.tensor([advantage]), objective=PLAIN)
    assert found.tolist() == [expected]


def test_in_the_first_update_the_gradient_is_minus_weight_times_advantage_whatever_the_sampler_says() -> None:
    tokens = batch(None, [1.0, 1.0, -2.0, -2.0], sampler=[-9.0, -2.0, -0.1, -3.0], weights=[0.25] * 4)
    assert gradient_of([-1.0, -2.0, -0.5, -3.0], tokens) == [-0.25, -0.25, 0.5, 0.5]
    assert loss_of(torch.tensor([-1.0, -2.0, -0.5, -3.0]), tokens).num_clipped == 0


def test_a_later_update_has_the_ratio_to_the_policy_before_the_first() -> None:
    # two updates from one batch, PPO's loss written out: r = 1.1 and 0.6, A = 2 and 1, w = 1/4; d(-w r A)/d log pi = -w r A
    tokens = batch([-1.0, -1.0], [2.0, 1.0], sampler=[-5.0, -5.0], weights=[0.25, 0.25])
    logprobs = [-1.0 + math.log(1.1), -1.0 + math.log(0.6)]
    assert loss_of(torch.tensor(logprobs), tokens).loss.item() == pytest.approx(-(2.2 + 0.6) / 4)
    assert gradient_of(logprobs, tokens) == pytest.approx([-0.55, -0.15])


def test_a_clipped_token_has_no_gradient_and_is_counted() -> None:
    tokens, logprobs = batch([0.0, 0.0], [1.0, 1.0]), [math.log(1.5), math.log(0.5)]
    first, second = gradient_of(logprobs, tokens)
    assert first == 0.0 != second
    assert loss_of(torch.tensor(logprobs), tokens).num_clipped == 1


def test_a_sequences_ratio_is_the_geometric_mean_of_its_tokens_and_is_clipped_as_one() -> None:
    # first response: r = 1.21 and 1, s = 1.1; second: r = 2 and 2, s = 2, clipped at 1.2
    tokens = batch([0.0] * 4, [1.0] * 4, units=[0, 0, 1, 1], responses=[0, 0, 1, 1], weights=[0.25] * 4)
    logprobs = [math.log(1.21), 0.0, math.log(2), math.log(2)]
    sequence = objective(ratio="sequence")
    output = loss_of(torch.tensor(logprobs), tokens, sequence)
    assert output.loss.item() == pytest.approx(-(1.1 * 2 + 1.2 * 2) / 4)
    assert output.num_clipped == 2
    # d s / d log r_t = s / 2 for either token, and two tokens hold s, each with weight 1/4
    assert gradient_of(logprobs, tokens, sequence) == pytest.approx([-1.1 / 4, -1.1 / 4, 0.0, 0.0])


# ---------------------------------------------------------------- mismatch


def test_what_the_sampler_differs_by_weighs_the_gradient_and_not_the_clip() -> None:
    # k = 2, 1/4 and 8: tis caps at 2, icepop rejects what lies outside of [1/2, 5]
    sampler = [-1.0 - math.log(2), -1.0 + math.log(4), -1.0 - math.log(8)]
    tokens = batch(None, [1.0, 1.0, 1.0], sampler=sampler)
    logprobs = [-1.0, -1.0, -1.0]
    assert gradient_of(logprobs, tokens) == pytest.approx([-1.0, -1.0, -1.0])
    assert gradient_of(logprobs, tokens, objective(mismatch="tis")) == pytest.approx([-2.0, -0.25, -2.0])
    assert gradient_of(logprobs, tokens, objective(mismatch="icepop")) == pytest.approx([-2.0, 0.0, 0.0])


def test_an_extreme_ratio_that_is_rejected_leaves_an_exact_nothing() -> None:
    tokens = batch(None, [1.0, 1.0], sampler=[-1e4, -1.0])  # k = e^9999
    output = loss_of(torch.tensor([-1.0, -1.0]), tokens, objective(mismatch="icepop"))
    assert math.isfinite(output.loss.item())
    assert gradient_of([-1.0, -1.0], tokens, objective(mismatch="icepop")) == [0.0, -1.0]


def test_the_differences_are_between_the_old_policy_and_the_sampler() -> None:
    tokens = batch(None, [0.0, 0.0], sampler=[-1.0, -2.0])
    figures = loss_of(torch.tensor([-1.5, -1.75]), tokens).differences.figures()
    assert figures["mismatch/mean_abs_difference"] == pytest.approx((0.5 + 0.25) / 2)
    later = batch([-1.25, -2.0], [0.0, 0.0], sampler=[-1.0, -2.0])
    figures = loss_of(torch.tensor([-1.5, -1.75]), later).differences.figures()
    assert figures["mismatch/mean_abs_difference"] == pytest.approx(0.125)


# ---------------------------------------------------------------- divergence


def test_the_divergence_is_weighed_by_beta_and_the_tokens_weight_and_reported_before_them() -> None:
    # pi_ref / pi = 2 and 1/2: (2 - ln 2 - 1) + (1/2 + ln 2 - 1) = 1/2
    tokens = batch(None, [0.0, 0.0], reference=[math.log(2), -math.log(2)], weights=[1 / 8, 1 / 8])
    output = loss_of(torch.zeros(2), tokens, objective(kl_coefficient=0.1))
    assert output.kl_sum == pytest.approx(0.5)
    assert output.loss.item() == pytest.approx(0.1 * 0.5 / 8)


def test_in_a_later_update_the_divergence_is_weighed_by_the_ratio_without_its_gradient() -> None:
    # r = 2, pi_ref / pi = 2: r (1 - ln 2); d k3 / d log pi = 1 - pi_ref / pi = -1
    tokens = batch([-1.0], [0.0], reference=[-1.0 + 2 * math.log(2)])
    logprobs = [-1.0 + math.log(2)]
    weighed = objective(kl_coefficient=1.0)
    assert loss_of(torch.tensor(logprobs), tokens, weighed).loss.item() == pytest.approx(2 * (1 - math.log(2)))
    assert gradient_of(logprobs, tokens, weighed) == pytest.approx([-2.0])


def test_without_a_reference_there_is_no_divergence() -> None:
    output = loss_of(torch.zeros(2), batch(None, [1.0, 1.0]), objective(kl_coefficient=0.5))
    assert (output.loss.item(), output.kl_sum) == (-2.0, 0.0)


# ---------------------------------------------------------------- entropy and routers


def test_entropy_is_encouraged() -> None:
    entropies_M = torch.tensor([1.0, 3.0], requires_grad=True)
    tokens = batch(None, [0.0, 0.0], weights=[0.5, 0.5])
    output = loss_of(torch.zeros(2), tokens, objective(entropy_coefficient=0.1), entropies_M=entropies_M)
    assert output.loss.item() == pytest.approx(-0.1 * 2.0)
    output.loss.backward()
    assert entropies_M.grad is not None
    assert (entropies_M.grad < 0).all()


def test_router_losses_weigh_by_the_share_of_the_micro_batch() -> None:
    weighed = objective(balance_coefficient=0.1, z_coefficient=0.01)
    output = loss_of(torch.zeros(1), batch(None, [0.0]), weighed, share=0.5)
    assert output.loss.item() == pytest.approx(0.5 * (0.1 * 3.0 + 0.01 * 5.0))


def test_the_loss_does_not_depend_on_the_split_into_micro_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs, old, advantages, entropies = (torch.randn(12, generator=generator) * 0.3 for _ in range(4))
    full = objective(kl_coefficient=1e-2, entropy_coefficient=1e-2, balance_coefficient=0.1, mismatch="tis")

    def part(rows: slice) -> float:
        count = len(old[rows])
        units, responses, weights = torch.arange(count), torch.zeros(count), torch.full((count,), 1 / 12)
        tokens = TokenBatch(old[rows] - 0.2, old[rows], old[rows] + 0.1, advantages[rows], weights, units, responses)
        return loss_of(logprobs[rows], tokens, full, share=count / 12, entropies_M=entropies[rows]).loss.item()

    assert part(slice(0, 5)) + part(slice(5, 12)) == pytest.approx(part(slice(0, 12)), rel=1e-5)


# ---------------------------------------------------------------- which divergence

SCORES = [0.3, -0.4, 1.1, 0.0, -0.9]  # of five symbols
REFERENCE_V = torch.tensor([0.1, 0.2, 0.25, 0.05, 0.4], dtype=torch.float64)


def by_scores(value) -> torch.Tensor:
    """The gradient by the scores of a policy over five symbols, of a function of its log-probabilities."""
    scores_V = torch.tensor(SCORES, dtype=torch.float64, requires_grad=True)
    value(scores_V.log_softmax(dim=0)).backward()
    assert scores_V.grad is not None
    return scores_V.grad


def expected_gradient(estimator) -> torch.Tensor:
    """Of an estimator in the loss, over every symbol that the policy may draw: what was drawn has no gradient itself."""
    return by_scores(lambda logprobs_V: (logprobs_V.detach().exp() * estimator(logprobs_V)).sum())


def divergence_from_the_reference(logprobs_V: torch.Tensor) -> torch.Tensor:
    """KL(pi || pi_ref)."""
    return (logprobs_V.exp() * (logprobs_V - REFERENCE_V.log())).sum()


def divergence_of_the_reference(logprobs_V: torch.Tensor) -> torch.Tensor:
    """KL(pi_ref || pi)."""
    return (REFERENCE_V * (REFERENCE_V.log() - logprobs_V)).sum()


def in_the_loss(kind: str):
    """The loss of tokens without an advantage, with beta = 1."""
    weighed = objective(kl_coefficient=1.0, kl_estimator=kind, kl_place="reward" if kind == "k1" else "loss")

    def value(logprobs_V: torch.Tensor) -> torch.Tensor:
        losses = []
        for symbol, logprob in enumerate(logprobs_V):
            tokens = batch(None, [0.0], reference=[float(REFERENCE_V[symbol].log())])
            losses.append(loss_of(logprob[None], tokens, weighed).loss)
        return torch.stack(losses)

    return value


@pytest.mark.parametrize(
    ("kind", "divergence"), [("k2", divergence_from_the_reference), ("k3", divergence_of_the_reference)]
)
def test_the_expected_gradient_of_an_estimator_in_the_loss_is_that_of_the_divergence_it_names(kind, divergence) -> None:
    assert torch.allclose(expected_gradient(in_the_loss(kind)), by_scores(divergence), rtol=1e-6, atol=1e-7)
    other = {divergence_from_the_reference: divergence_of_the_reference}.get(divergence, divergence_from_the_reference)
    assert not torch.allclose(expected_gradient(in_the_loss(kind)), by_scores(other), atol=0.05)


def test_the_plain_log_ratio_has_no_expected_gradient() -> None:
    found = expected_gradient(lambda logprobs_V: ESTIMATORS["k1"](logprobs_V, REFERENCE_V.log()))
    assert torch.allclose(found, torch.zeros(5, dtype=torch.float64), atol=1e-15)


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_the_expected_value_of_k1_and_k3_is_the_divergence(kind: str) -> None:
    logprobs_V = torch.tensor(SCORES, dtype=torch.float64).log_softmax(dim=0)
    expected = (logprobs_V.exp() * ESTIMATORS[kind](logprobs_V, REFERENCE_V.log())).sum()
    assert expected.item() == pytest.approx(divergence_from_the_reference(logprobs_V).item())


def test_estimators_by_hand() -> None:
    # log pi = -1, log pi_ref = -1 + ln 2
    one, two = torch.tensor([-1.0]), torch.tensor([-1.0 + math.log(2)])
    expected = {"k1": -math.log(2), "k2": math.log(2) ** 2 / 2, "k3": 1 - math.log(2)}
    assert {kind: find(one, two).item() for kind, find in ESTIMATORS.items()} == pytest.approx(expected, rel=1e-6)
