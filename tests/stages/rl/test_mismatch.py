"""What the sampler's probabilities differ by from the trainer's, by hand."""

import math

import pytest
import torch
from pydantic import TypeAdapter

from stages.config import Mismatch
from stages.rl.mismatch import Differences, token_weights

K = [0.25, 0.5, 1.0, 5.0, 8.0]
SAMPLER_M = torch.full((5,), -3.0)
TRAINER_M = SAMPLER_M + torch.tensor(K).log()


def weights(
    trainer_M: torch.Tensor = TRAINER_M,
    sampler_M: torch.Tensor = SAMPLER_M,
    *,
    responses: list[int] | None = None,
    **values: object,
):
    correction = TypeAdapter(Mismatch).validate_python(values)
    response_M = torch.tensor(responses or [0] * len(trainer_M))
    return token_weights(sampler_M, trainer_M, response_M, correction=correction)


def test_without_a_correction_there_is_no_weight() -> None:
    assert weights(kind="none") is None


def test_tis_is_k_up_to_a_cap() -> None:
    assert weights(kind="tis").tolist() == pytest.approx([0.25, 0.5, 1.0, 2.0, 2.0])
    assert weights(kind="tis", cap=6.0).tolist() == pytest.approx([0.25, 0.5, 1.0, 5.0, 6.0])


def test_icepop_is_k_within_its_interval_and_nothing_outside() -> None:
    assert weights(kind="icepop", low=0.4, high=6.0).tolist() == pytest.approx([0.0, 0.5, 1.0, 5.0, 0.0])
    assert weights(kind="icepop", low=0.0, high=6.0).tolist() == pytest.approx([0.25, 0.5, 1.0, 5.0, 0.0])


def test_kpop_keeps_a_token_by_the_larger_of_two_divergences_of_drawing_it() -> None:
    # p0 = .9, q = .5: D(p0, q) = .9 ln 1.8 + .1 ln .2 = .3681, D(q, p0) = .5 ln(5/9) + .5 ln 5 = .5108
    trainer_M, sampler_M = torch.tensor([0.9]).log(), torch.tensor([0.5]).log()
    assert weights(trainer_M, sampler_M, kind="kpop", limit=0.511).tolist() == [1.0]
    assert weights(trainer_M, sampler_M, kind="kpop", limit=0.510).tolist() == [0.0]
    assert weights(sampler_M, trainer_M, kind="kpop", limit=0.510).tolist() == [0.0]
    # k = 8 of a rare token is a small divergence
    assert weights(torch.tensor([-12.0]), torch.tensor([-12.0 - math.log(8)]), kind="kpop", limit=0.1).tolist() == [1.0]


def test_a_probability_of_nothing_or_all_is_a_finite_divergence() -> None:
    assert weights(torch.tensor([0.0]), torch.tensor([-1e4]), kind="kpop", limit=100.0).tolist() == [1.0]


def test_a_sequence_counts_by_the_geometric_mean_of_its_tokens() -> None:
    # means: (.25 x .5)^(1/2) = .354; (1 x 5 x 8)^(1/3) = 3.42
    found = weights(responses=[0, 0, 1, 1, 1], kind="sequence", low=0.3, high=3.0)
    assert found.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert weights(responses=[0, 0, 1, 1, 1], kind="sequence", low=0.36, high=3.5).tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", ["tis", "icepop", "kpop", "sequence"])
def test_no_gradient_flows_through_a_weight(kind: str) -> None:
    found = weights(TRAINER_M.clone().requires_grad_(), kind=kind)
    assert not found.requires_grad


@pytest.mark.parametrize("log_k", [500.0, -500.0])
def test_an_extreme_k_gives_a_finite_weight(log_k: float) -> None:
    for kind in ("tis", "icepop", "sequence"):
        assert torch.isfinite(weights(torch.tensor([log_k]), torch.tensor([0.0]), kind=kind)).all()


# ---------------------------------------------------------------- figures


def figures(log_k: list[float], weights: list[float] | None = None) -> dict[str, float]:
    found = Differences.none()
    found.add(torch.tensor(log_k), None if weights is None else torch.tensor(weights))
    return found.figures()


def test_differences_are_a_mean_a_maximum_a_share_outside_and_an_effective_share() -> None:
    ks = [0.25, 0.6, 1.0, 4.0, 8.0]
    found = figures([math.log(k) for k in ks], [0.0, 1.0, 1.0, 1.0, 0.0])
    assert found["mismatch/mean_abs_difference"] == pytest.approx(sum(abs(math.log(k)) for k in ks) / 5)
    assert found["mismatch/max_abs_difference"] == pytest.approx(math.log(8))
    assert found["mismatch/outside_share"] == pytest.approx(2 / 5)  # 1/4 and 8
    assert found["mismatch/effective_share"] == pytest.approx(13.85**2 / (5 * (0.0625 + 0.36 + 1 + 16 + 64)))
    assert found["mismatch/rejected_share"] == pytest.approx(2 / 5)


def test_the_same_probabilities_differ_by_nothing() -> None:
    assert figures([0.0] * 10) == {
        "mismatch/mean_abs_difference": 0.0,
        "mismatch/max_abs_difference": 0.0,
        "mismatch/outside_share": 0.0,
        "mismatch/effective_share": 1.0,
        "mismatch/rejected_share": 0.0,
        "mismatch/k_quantile_01": 1.0,
        "mismatch/k_quantile_50": 1.0,
        "mismatch/k_quantile_99": 1.0,
    }


def test_quantiles_of_k_are_right_to_an_eighth_of_their_logarithm() -> None:
    log_k = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) * 0.3
    found = figures(log_k.tolist())
    for share in (0.01, 0.99):
        exact = float(log_k.quantile(share))
        assert math.log(found[f"mismatch/k_quantile_{round(100 * share):02d}"]) == pytest.approx(exact, rel=0.125)
    assert abs(math.log(found["mismatch/k_quantile_50"])) < 0.01


def test_parts_of_a_step_merge_to_the_whole() -> None:
    log_k = (torch.randn(100, generator=torch.Generator().manual_seed(0)) * 2).tolist()
    whole, one, two = figures(log_k), Differences.none(), Differences.none()
    one.add(torch.tensor(log_k[:30]), None)
    two.add(torch.tensor(log_k[30:]), None)
    one.merge(two)
    assert one.figures() == pytest.approx(whole)


def test_no_token_has_no_difference() -> None:
    assert Differences.none().figures() == {}
    assert figures([]) == {}
