"""How long a chain takes is worked out from what is known, and nothing else is said."""

import json
import threading
from dataclasses import replace

import pytest

from flows.forecast import (
    FIGURES,
    SPREAD_FORMER,
    Cost,
    Countdown,
    Forecast,
    _Pace,
    duration,
    forecast,
    former_costs,
    in_words,
    makespan,
)
from stages.plan import plan_chain
from stages.recipe import load_recipe
from stages.records.artifact import Store

SPECS = plan_chain(load_recipe("smoke").recipe)
ARMS = ("rl/phased", "rl/mixed", "rl/more-sft")


def costs(seconds: dict[str, float], cores: float = 1.0) -> dict[str, Cost]:
    return {key: Cost(value, cores, SPREAD_FORMER) for key, value in seconds.items()}


def test_stages_follow_what_they_take_and_arms_share_the_places():
    known = costs({"base": 5, "sft": 7, "rl/phased": 10, "rl/mixed": 6, "rl/more-sft": 3, "evaluation": 2})
    assert makespan(SPECS, known, places=2, cores=2) == pytest.approx(5 + 7 + 10 + 2)  # 6 and 3 beside 10
    assert makespan(SPECS, known, places=1, cores=2) == pytest.approx(5 + 7 + 10 + 6 + 3 + 2)


def test_a_stage_of_two_ranks_waits_until_both_places_are_free():
    specs = [replace(spec, ranks=2) if spec.key == "rl/more-sft" else spec for spec in SPECS]
    assert makespan(specs, costs(dict(zip(ARMS, (10, 6, 3), strict=True))), places=2, cores=2) == pytest.approx(13)


def test_more_busy_cores_than_there_are_slow_all_alike():
    assert makespan(SPECS, costs({"rl/phased": 10, "rl/mixed": 6}), places=2, cores=1) == pytest.approx(16)
    assert makespan(SPECS, costs({"base": 10}, cores=1.5), places=2, cores=1) == pytest.approx(15)


def test_what_is_in_the_cache_costs_nothing():
    assert makespan(SPECS, {}, places=2, cores=2) == 0.0


@pytest.mark.parametrize(
    ("seconds", "said"), [(1, "5 s"), (43, "45 s"), (89, "90 s"), (100, "2 min"), (700, "12 min"), (7500, "2 h 05 min")]
)
def test_a_duration_is_no_more_exact_than_it_is_known(seconds, said):
    assert duration(seconds) == said


def test_a_forecast_says_from_what_to_what_and_names_what_is_not_known():
    known = Forecast({"base": Cost(600, 1.0, (0.5, 2.0))}, ("rl/mixed",))
    said = in_words(known, SPECS, places=2)
    assert said.startswith("about 10 min (5 min to 20 min)") and "no forecast for rl mixed" in said
    assert "no forecast" in in_words(Forecast({}, ("base", "sft")), SPECS, places=2)


def test_the_pace_of_a_stage_tells_what_is_left_of_it():
    pace = _Pace(began=0.0)
    assert pace.seconds_left(5.0, None) is None
    assert pace.seconds_left(5.0, 100.0) == 95.0
    pace.step(10.0, done=10, total=100)  # the first steps came after the imports
    assert pace.seconds_left(10.0, 100.0) == 90.0
    pace.step(20.0, done=20, total=100)
    assert pace.seconds_left(20.0, 100.0) == 80.0
    assert pace.seconds_left(25.0, 100.0) == 75.0


def test_what_is_left_shrinks_as_stages_end_and_is_silent_before_a_forecast_and_after_the_last():
    countdown = Countdown(SPECS, places=2)
    assert countdown.left() == ""
    countdown.expect(Forecast(costs({"base": 600, "sft": 300}), ("selection",)))
    assert countdown.left() == "about 15 min and selection left of the chain"
    countdown.end("base")  # another run made it
    assert countdown.left() == "about 5 min and selection left of the chain"
    countdown.begin("sft")
    countdown.progress("sft", done=0, total=10, unit="steps")
    countdown.end("sft")
    countdown.end("selection")
    assert countdown.left() == ""


def test_stages_that_went_slower_than_foretold_slow_the_rest():
    countdown = Countdown(SPECS, places=2)
    countdown.expect(Forecast(costs({"base": 100, "sft": 600}), ()))
    countdown.begin("base")
    countdown._working["base"].began -= 200
    countdown.end("base")
    assert countdown.left() == "about 20 min left of the chain"


def test_stages_with_other_settings_than_the_published_have_no_forecast(tmp_path):
    recipe = load_recipe("laptop", overrides=["sft.training.epochs=3"]).recipe
    todo = [spec for spec in plan_chain(recipe) if spec.stage in ("curation", "sft")]
    known = forecast(todo, recipe=recipe, store=Store(tmp_path), is_over=threading.Event())
    assert (set(known.costs), known.unknown) == ({"curation"}, ("sft",))


@pytest.mark.parametrize("name", json.loads(FIGURES.read_text(encoding="utf-8")))
def test_the_published_figures_cover_each_stage_of_their_recipe(name):
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))[name]
    assert set(figures["stages"]) == {spec.key for spec in plan_chain(load_recipe(name).recipe)}
    assert set(figures["step_seconds"]) == {"train", "decode"}


def test_a_machine_knows_from_its_own_results(smoke):
    recipe = load_recipe("smoke", overrides=["seed=7"]).recipe  # time does not depend on the seed
    runtime = recipe.runtime.model_dump(mode="json")
    store = Store(smoke.ring.home)
    assert set(former_costs(plan_chain(recipe), runtime=runtime, store=store)) == {spec.key for spec in SPECS}
    assert former_costs(SPECS, runtime=runtime | {"threads": 9}, store=store) == {}
