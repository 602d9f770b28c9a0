"""Weights on their way to the sampler: once a version, and compared now and then."""

from pathlib import Path

import pytest
import torch

from ring_model.checkpoint import load_model
from ring_model.engine import NonFiniteError
from ring_model.policy import BailingScorer
from stages.rl.publishing import Publisher
from tests.stages.rl.scripted import Reply, ScriptedSampler

PROMPT = [3, 4, 5, 6, 7]


def reply(problem_id: str, number: int) -> Reply:
    return Reply()


@pytest.fixture
def model(tiny_model: Path) -> BailingScorer:
    return BailingScorer(load_model(tiny_model))


def sampler_in(folder: Path, *, keeps_first: bool = False) -> ScriptedSampler:
    return ScriptedSampler(reply, folder=folder, keeps_first=keeps_first)


def moved(model: BailingScorer) -> None:
    """As a few steps of training would."""
    with torch.no_grad():
        model.model.lm_head.weight += 0.5 * torch.randn(
            model.model.lm_head.weight.shape, generator=torch.Generator().manual_seed(0)
        )


def test_weights_are_published_once_a_version(model: BailingScorer, tmp_path: Path) -> None:
    sampler = sampler_in(tmp_path)
    publisher = Publisher(model, sampler, prompt=PROMPT, max_lag=0, check_every=sampler.check_every)
    first, again, later = (publisher.policy(version) for version in (3, 3, 4))
    assert sampler.published == [3, 4]
    assert first == again
    assert (first.weights.name, later.weights.name) == ("000003", "000004")
    assert publisher.policy(4) == later


@pytest.mark.parametrize(("first", "compared"), [(0, [0, 20, 40]), (3, [3, 20, 40]), (39, [39, 40])])
def test_the_sampler_is_compared_at_the_first_version_and_every_twentieth(
    model: BailingScorer, tmp_path: Path, first: int, compared: list[int]
) -> None:
    sampler, at = sampler_in(tmp_path), []
    publisher = Publisher(model, sampler, prompt=PROMPT, max_lag=0, check_every=sampler.check_every)
    for version in (version for version in (0, 1, 3, 4, 19, 20, 21, 39, 40, 41) if version >= first):
        before = sampler.compared
        publisher.policy(version)
        at += [version] * (sampler.compared - before)
    assert at == compared


def test_a_sampler_says_how_often_it_is_compared(model: BailingScorer, tmp_path: Path) -> None:
    sampler = sampler_in(tmp_path)
    sampler.check_every = 1
    publisher = Publisher(model, sampler, prompt=PROMPT, max_lag=0, check_every=sampler.check_every)
    for version in (3, 3, 4, 5):
        publisher.policy(version)
    assert sampler.compared == 3


def test_a_sampler_that_has_other_weights_is_found_at_the_next_comparison(model: BailingScorer, tmp_path: Path) -> None:
    publisher = Publisher(model, sampler_in(tmp_path, keeps_first=True), prompt=PROMPT, max_lag=0, check_every=20)
    publisher.policy(19)
    moved(model)
    with pytest.raises(RuntimeError, match=r"does not have the weights of version 20: .* differ by .* at most 0.01 is"):
        publisher.policy(20)


def test_the_same_weights_pass(model: BailingScorer, tmp_path: Path) -> None:
    sampler = sampler_in(tmp_path)
    publisher = Publisher(model, sampler, prompt=PROMPT, max_lag=0, check_every=sampler.check_every)
    publisher.policy(19)
    moved(model)
    publisher.policy(20)
    assert sampler.compared == 2


class _Off(ScriptedSampler):
    """Computes the last token but one by so many nats otherwise."""

    nats = 0.0

    def check(self, policy, tokens) -> list[float]:
        *rest, one, last = super().check(policy, tokens)
        return [*rest, one - self.nats, last]


@pytest.mark.parametrize(("nats", "passes"), [(0.009, True), (0.011, False), (-0.011, False), (float("nan"), False)])
def test_a_hundredth_of_a_nat_is_rounding(model: BailingScorer, tmp_path: Path, nats: float, passes: bool) -> None:
    sampler = _Off(reply, folder=tmp_path)
    sampler.nats = nats
    publisher = Publisher(model, sampler, prompt=PROMPT, max_lag=0, check_every=sampler.check_every)
    if passes:
        assert publisher.policy(0).weights.name == "000000"
        return
    with pytest.raises(RuntimeError, match="version 0"):
        publisher.policy(0)


def test_weights_that_give_no_finite_numbers_are_told_as_such(model: BailingScorer, tmp_path: Path) -> None:
    publisher = Publisher(model, sampler_in(tmp_path), prompt=PROMPT, max_lag=0, check_every=20)
    with torch.no_grad():
        model.model.norm.weight[0] = float("inf")
    with pytest.raises(NonFiniteError, match="log-probabilities are not finite"):
        publisher.policy(0)
