"""What each stage of a recipe costs, and what a step costs on the same machine: the figures behind the forecast of `ring run`.

    python -m benchmarks.stage_seconds HOME RECIPE

HOME is a home folder in which the recipe's chain was run on this machine, with little else running. Rewrites the recipe's entry in
flows/stage_seconds.json; run it anew when kernels or recipes change.
"""

import json
import os
import sys
import threading
from pathlib import Path

from flows.forecast import FIGURES, calibration, former_costs
from stages.plan import plan_chain
from stages.recipe import load_recipe
from stages.records.artifact import Store
from stages.records.machine import machine_kind


def main(home: Path, name: str) -> None:
    recipe = load_recipe(name).recipe
    specs = plan_chain(recipe)
    costs = former_costs(specs, runtime=recipe.runtime.model_dump(mode="json"), store=Store(home))
    if missing := [spec.title for spec in specs if spec.key not in costs]:
        raise SystemExit(
            f"{home} holds no result of {', '.join(missing)} as {name} says, made here from beginning to end"
        )
    steps = calibration(recipe, is_over=threading.Event())
    if steps is None:
        raise SystemExit("`python -m stages.calibration` fails here; run it by hand to see why")
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    figures[name] = {
        "made": f"{machine_kind('cpu')}, {os.cpu_count()} cores",
        "step_seconds": {kind: round(seconds, 5) for kind, seconds in steps.items()},
        "stages": {
            key: {"seconds": round(cost.seconds, 1), "cores": round(cost.cores, 2)} for key, cost in costs.items()
        },
    }
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
