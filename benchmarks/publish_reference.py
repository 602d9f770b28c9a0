"""Write docs/reference.json: add the finished chain of a home folder (RING_HOME) to the published references.

    python -m benchmarks.publish_reference laptop [KEY=VALUE ...]

`KEY=VALUE` as for `ring run --set`, such as `seed=1`. Every stage must be up to date, and all must come from one kind of machine and
one Runtime. The entry replaces that of the same recipe, seed and kind of machine; those of other machines stay.
"""

import sys

from stages.plan import kept_results, plan_chain
from stages.recipe import load_recipe
from stages.records.artifact import Store, ring_home
from stages.records.reference import PUBLISHED, entry_of, write_reference


def main(recipe_name: str, overrides: list[str]) -> None:
    recipe = load_recipe(recipe_name, overrides=overrides).recipe
    specs = plan_chain(recipe, until="evaluation")
    kept = kept_results(specs, store=Store(ring_home()))
    if missing := [spec.key for spec in specs if spec.key not in kept]:
        raise ValueError(f"{', '.join(missing)} of {recipe_name} are not up to date in {ring_home()}: `ring run` first")
    entry = entry_of(kept, recipe=recipe.name, seed=recipe.seed)
    write_reference(entry)
    sys.stdout.write(f"{PUBLISHED}: {entry.recipe}, seed {entry.seed}, {entry.kind}\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.publish_reference RECIPE [KEY=VALUE ...]")
    try:
        main(sys.argv[1], sys.argv[2:])
    except ValueError as error:
        sys.exit(f"publish_reference: {error}")
