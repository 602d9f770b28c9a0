"""A claim is confirmed or refuted only where the interval and every seed say so; else it is open."""

import pytest

from benchmarks.claims import CLAIMS, CONFIRMED, OPEN, REFUTED, Claim, Evidence, difference, read_claims, verdict
from benchmarks.experiments.scores import METRICS, Scores
from benchmarks.experiments.steps import FIGURES
from stages.recipe import load_recipe


def evidence(low: float, high: float, *of_seeds: float) -> Evidence:
    return Evidence("", (low + high) / 2, low, high, of_seeds, "-")


@pytest.mark.parametrize(
    ("found", "sign", "said"),
    [
        (evidence(0.01, 0.05, 0.02, 0.04), 1, CONFIRMED),
        (evidence(0.01, 0.05, 0.02, 0.04), -1, REFUTED),
        (evidence(-0.05, -0.01, -0.02, -0.04), 1, REFUTED),
        (evidence(-0.05, -0.01, -0.02, -0.04), -1, CONFIRMED),
        (evidence(0.0, 0.05, 0.02, 0.04), 1, OPEN),  # the interval touches 0
        (evidence(0.01, 0.05, 0.09, -0.01), 1, OPEN),  # one seed points the other way
        (evidence(-0.05, -0.01, -0.09, 0.01), 1, OPEN),
    ],
)
def test_a_verdict_needs_the_interval_and_every_seed(found, sign, said) -> None:
    assert verdict(found, sign=sign) == said


def test_a_difference_pools_the_problems_of_all_seeds() -> None:
    def of_seed(model: list[float], against: list[float]) -> Scores:
        problems = [f"p{number}" for number in range(len(model))]
        by_problem = {
            ("a", "greedy"): dict(zip(problems, model, strict=True)),
            ("b", "greedy"): dict(zip(problems, against, strict=True)),
        }
        return Scores(by_problem, {"math": problems})

    claim = Claim("", "", "any", "a", "b", metric="greedy", group="math", expects="above")
    found = difference(claim, [of_seed([1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]), of_seed([1.0, 0.0], [0.0, 1.0])])
    assert found.of_seeds == (0.5, 0.0)
    assert found.value == pytest.approx(2 / 6)  # (1 + 0 + 0 + 1 + 1 - 1) / 6
    assert found.said.startswith("a - b, greedy on math: +0.333 [")


def test_every_claim_names_an_experiment_with_both_models_and_something_that_is_measured() -> None:
    for claim in read_claims(CLAIMS):
        recipe = load_recipe(claim.experiment).recipe
        assert recipe.rl
        arms = {arm.name for arm in recipe.rl.arms}
        assert {claim.model, claim.against} <= arms | {"sft"}, claim
        assert (claim.figure in FIGURES) != (claim.metric in METRICS), claim
        assert claim.figure or claim.expects in ("above", "below"), claim
