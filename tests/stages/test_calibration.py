"""A machine's speed is that of real steps of a model of the recipe's size."""

from stages import calibration
from stages.recipe import load_recipe


def test_a_larger_model_takes_longer_steps(monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS", 0.05)
    small, large = (
        calibration.calibrate(load_recipe(name).recipe.base.model.model_dump()) for name in ("smoke", "laptop")
    )
    assert 0 < small["train"] < large["train"] and 0 < small["decode"] < large["decode"]
