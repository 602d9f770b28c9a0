"""The command line, and the recipes of experiments."""

import pytest

from benchmarks.experiments.command import main
from stages.recipe import load_recipe


def test_a_recipe_that_is_not_there_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smok"]) == 2
    assert "did you mean 'smoke'" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", ["0,0", "one"])
def test_seeds_are_different_numbers(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["smoke", "--seeds", seeds])
    assert "seed" in capsys.readouterr().err


def test_the_arms_of_phases_ask_the_same_domains_but_for_those_of_one() -> None:
    """Shares over all steps: what differs is the order."""
    config = load_recipe("phases").recipe.rl
    assert config is not None
    shares = {}
    for arm in config.arms:
        assert arm.kind == "rl" and arm.num_steps == 100
        shares[arm.name] = {
            domain: sum(phase.steps * phase.mixture.get(domain, 0.0) for phase in arm.phases)
            for domain in ("math", "code", "science")
        }
    for name in ("phased-0", "phased-20", "mixed"):
        assert shares[name] == pytest.approx({"math": 40, "code": 40, "science": 20}, abs=0.5)
    assert shares["math-only"]["math"] == shares["code-only"]["code"] == 100
