"""How long a chain will take on this machine, and while it runs, what is left of the whole of it.

What is known of a stage, best first: what the same stage with the same settings took before in this home folder on this kind of
machine; else the figures of `stage_seconds.json`, which were measured elsewhere, times how much longer a step of training and of
decoding takes here (`stages.calibration`). Where neither speaks, nothing is invented: the stage is named as unknown.
Stages are laid out in time as the chain runs them. `python -m benchmarks.stage_seconds HOME RECIPE` makes the figures anew.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.config import Recipe
from stages.plan import PlannedStage, plan_chain
from stages.recipe import load_recipe
from stages.records.artifact import Manifest, Store
from stages.records.machine import machine_kind

ROOT = Path(__file__).resolve().parent.parent
FIGURES = Path(__file__).with_name("stage_seconds.json")
CALIBRATION_SECONDS = 60  # after that it is given up: importing PyTorch takes most of it
WORTH_CALIBRATING = 60.0  # seconds of a chain
SPREAD_FORMER, SPREAD_CALIBRATED, SPREAD_ELSEWHERE = (0.85, 1.3), (0.7, 1.5), (0.7, 3.0)
SHARE_OF_TRAINING = {
    "base": 1.0,
    "sft": 1.0,
    "rl": 0.5,
    "selection": 0.0,
    "evaluation": 0.0,
}  # of a stage's time; else half
_BY_STEPS = ("base", "sft", "rl")  # their progress counts the whole of the stage


@dataclass(frozen=True, slots=True)
class Cost:
    """seconds: with a core for each of its processes. cores: CPU seconds per second. spread: least and most, times that."""

    seconds: float
    cores: float
    spread: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of the stages that are to be made: costs by key, and keys of those of which nothing is known."""

    costs: dict[str, Cost]
    unknown: tuple[str, ...]


# ---------------------------------------------------------------- what is known of each stage


def forecast(
    todo: Sequence[PlannedStage], *, recipe: Recipe, store: Store, is_over: threading.Event | None = None
) -> Forecast:
    """What is known of the stages that are to be made. Takes seconds where the machine has to be calibrated, less when `is_over`."""
    costs = former_costs(todo, runtime=recipe.runtime.model_dump(mode="json"), store=store)
    rest = [spec for spec in todo if spec.key not in costs]
    costs |= _reference_costs(rest, recipe=recipe, is_over=is_over or threading.Event())
    return Forecast(costs, tuple(spec.key for spec in todo if spec.key not in costs))


def former_costs(todo: Sequence[PlannedStage], *, runtime: Mapping[str, Any], store: Store) -> dict[str, Cost]:
    """Of the newest result of each stage with the same settings, made on this kind of machine from beginning to end."""
    manifests = sorted(store.all(), key=lambda manifest: manifest.document["made_at"])
    found = {}
    for spec in todo:
        for manifest in manifests:
            if _is_alike(manifest, spec, runtime=runtime):
                found[spec.key] = _cost_of(manifest)
    return found


def _is_alike(manifest: Manifest, spec: PlannedStage, *, runtime: Mapping[str, Any]) -> bool:
    document = manifest.document
    payload = document["payload"]
    return (
        all(payload[name] == spec.payload[name] for name in ("stage", "arm"))
        and _settings(payload) == _settings(spec.payload)
        and document["status"] == "ran"
        and document["runtime"] == runtime
        and document["hardware"].get("kind") == machine_kind(runtime["device"])
    )


def _settings(payload: Mapping[str, Any]) -> dict[str, Any]:
    """All that a stage's time depends on, which the seed is not."""
    return {name: value for name, value in payload["config"].items() if name != "seed"}


def _cost_of(manifest: Manifest) -> Cost:
    seconds = manifest.document["seconds"]
    return Cost(seconds, manifest.document["timings"].get("cpu_seconds", seconds) / seconds, SPREAD_FORMER)


def _reference_costs(specs: Sequence[PlannedStage], *, recipe: Recipe, is_over: threading.Event) -> dict[str, Cost]:
    """From the figures of the recipe, for the stages that are as it says."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8")).get(recipe.name)
    if figures is None:
        return {}
    published = load_recipe(recipe.name).recipe
    known = {spec.key: _settings(spec.payload) for spec in plan_chain(published) if spec.key in figures["stages"]}
    specs = [spec for spec in specs if known.get(spec.key) == _settings(spec.payload)]
    total = sum(figures["stages"][spec.key]["seconds"] for spec in specs)
    here = calibration(recipe, is_over=is_over) if total > WORTH_CALIBRATING else None
    return {spec.key: _scaled(figures, spec, here) for spec in specs}


def _scaled(figures: Mapping[str, Any], spec: PlannedStage, here: Mapping[str, float] | None) -> Cost:
    entry = figures["stages"][spec.key]
    if here is None:
        return Cost(entry["seconds"], entry["cores"], SPREAD_ELSEWHERE)
    times = {kind: here[kind] / seconds for kind, seconds in figures["step_seconds"].items()}
    share = 1.0 if spec.module == "stages.sft.further" else SHARE_OF_TRAINING.get(spec.stage, 0.5)
    slower = share * times["train"] + (1 - share) * times["decode"]
    return Cost(slower * entry["seconds"], entry["cores"], SPREAD_CALIBRATED)


def calibration(recipe: Recipe, *, is_over: threading.Event) -> dict[str, float] | None:
    """CPU seconds here of a step of training and of decoding; None where they could not be measured, or the chain is over."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "stages.calibration", recipe.base.model.model_dump_json()],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + CALIBRATION_SECONDS
    try:
        while child.poll() is None and time.monotonic() < deadline and not is_over.wait(0.1):
            pass
    finally:
        child.kill()
        said, _ = child.communicate()
    return json.loads(said) if child.returncode == 0 else None


# ---------------------------------------------------------------- the stages laid out in time


def makespan(specs: Sequence[PlannedStage], costs: Mapping[str, Cost], *, places: int, cores: int) -> float:
    """Seconds until the last of the stages with a cost is done.

    A stage begins when what it takes is there and its ranks have places; more busy cores than there are slow all alike.
    """
    left = {spec.key: costs[spec.key].seconds for spec in specs if spec.key in costs}
    waiting = [spec for spec in specs if spec.key in left]
    running: list[PlannedStage] = []
    clock = 0.0
    while left:
        for spec in [spec for spec in waiting if not left.keys() & set(spec.inputs)]:
            if sum(min(one.ranks, places) for one in running) + min(spec.ranks, places) <= places:
                waiting.remove(spec)
                running.append(spec)
        speed = min(1.0, cores / max(1e-9, sum(costs[spec.key].cores for spec in running)))
        step = min(left[spec.key] for spec in running)
        clock += step / speed
        for spec in running:
            left[spec.key] -= step
        for spec in [spec for spec in running if left[spec.key] <= 1e-9]:
            running.remove(spec)
            del left[spec.key]
    return clock


def in_words(known: Forecast, specs: Sequence[PlannedStage], *, places: int) -> str:
    """What is said before a chain runs: how long it takes if nothing else runs, from what to what, and what is not known."""
    seconds, least, most = (
        makespan(specs, _times(known.costs, end), places=places, cores=usable_cores()) for end in (None, 0, 1)
    )
    unknown = ", ".join(key.replace("/", " ") for key in known.unknown)
    if not known.costs:
        return f"no forecast: neither this home folder nor the published figures know {unknown} with these settings"
    more = f"; no forecast for {unknown} with these settings" if unknown else ""
    return f"about {duration(seconds)} ({duration(least)} to {duration(most)}) if little else runs here{more}"


def _times(costs: Mapping[str, Cost], end: int | None) -> dict[str, Cost]:
    factors = {key: 1.0 if end is None else cost.spread[end] for key, cost in costs.items()}
    return {key: replace(cost, seconds=factors[key] * cost.seconds) for key, cost in costs.items()}


def usable_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def duration(seconds: float) -> str:
    """For people: `40 s`, `12 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(slots=True)
class _Pace:
    """A stage that works: when it began, and what its own progress says of the time that is left."""

    began: float
    first: tuple[float, int] | None = None  # when progress was first told, and how much was done
    told: float = 0.0
    left: float | None = None

    def step(self, now: float, *, done: int, total: int) -> None:
        self.first = self.first or (now, done)
        then, before = self.first
        if done > before and now > then:
            self.told, self.left = now, (total - done) * (now - then) / (done - before)

    def seconds_left(self, now: float, foretold: float | None) -> float | None:
        if self.left is not None:
            return max(1.0, self.left - (now - self.told))
        return None if foretold is None else max(1.0, foretold - (now - self.began))


class Countdown:
    """What is left of a chain: from its forecast, from how much slower stages went so far, and from the pace of those that work."""

    def __init__(self, specs: Sequence[PlannedStage], *, places: int) -> None:
        self._specs = list(specs)
        self._places = places
        self._lock = threading.Lock()
        self._known: Forecast | None = None
        self._working: dict[str, _Pace] = {}
        self._ended: set[str] = set()
        self._spent = self._foretold = 0.0  # by the stages that are made

    def expect(self, known: Forecast) -> None:
        """Take a forecast."""
        with self._lock:
            self._known = known

    def begin(self, key: str) -> None:
        """The stage starts to work."""
        with self._lock:
            self._working[key] = _Pace(time.monotonic())

    def progress(self, key: str, *, done: int, total: int, unit: str) -> None:
        """Where the steps of a stage are all of its work, their pace tells what is left of it."""
        with self._lock:
            if key in self._working and unit == "steps" and key.split("/")[0] in _BY_STEPS:
                self._working[key].step(time.monotonic(), done=done, total=total)

    def end(self, key: str) -> None:
        """The stage is done, whether it was made or found."""
        with self._lock:
            pace = self._working.pop(key, None)
            self._ended.add(key)
            if pace and self._known and key in self._known.costs:
                self._spent += time.monotonic() - pace.began
                self._foretold += self._known.costs[key].seconds

    def left(self) -> str:
        """In words: what works, and what is left of the chain; empty before there is a forecast."""
        now = time.monotonic()
        with self._lock:
            if self._known is None:
                return ""
            unknown = [key for key in self._known.unknown if key not in self._ended]
            costs = self._costs_left(now)
            unknown = [key for key in unknown if key not in costs]
            seconds = makespan(self._specs, costs, places=self._places, cores=usable_cores())
        if not costs:
            return ""
        more = f" and {', '.join(key.replace('/', ' ') for key in unknown)}" if unknown else ""
        return f"about {duration(seconds)}{more} left of the chain"

    def _costs_left(self, now: float) -> dict[str, Cost]:
        known = self._known.costs if self._known else {}
        slower = self._spent / self._foretold if self._foretold else 1.0
        costs = {
            key: replace(cost, seconds=slower * cost.seconds) for key, cost in known.items() if key not in self._ended
        }
        for key, pace in self._working.items():
            seconds = pace.seconds_left(now, costs[key].seconds if key in costs else None)
            if seconds is not None:
                costs[key] = replace(costs.get(key, Cost(0.0, 1.0, SPREAD_FORMER)), seconds=seconds)
        return costs
