"""`ring status`: what `ring run` would find of a recipe's chain, by the same check."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.console import plain_console, program, waiting
from flows.request import column_overrides
from flows.tables import rows_table
from stages.plan import PlannedStage, damage_of, kept_results, outdated, plan_chain
from stages.recipe import load_recipe
from stages.records.artifact import Store, open_store
from stages.records.machine import elsewhere_line, machine_kind, made_elsewhere

_out = plain_console()


def status(
    recipe: str,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    data_dir: Path | None = None,
    columns: str | None = None,
) -> int:
    """Say for each stage of a recipe whether its result is there, damaged or out of date; every file is hashed.

    Parameters
    ----------
    recipe
        Name or path.
    set_
        KEY=VALUE, as for `ring run`.
    data_dir
        As for `ring run`.
    columns
        As for `ring run`.

    """
    store = open_store()
    overrides = [*column_overrides(columns), *(set_ or [])]
    with waiting("reading the recipe, and the code that its stages run"):
        loaded = load_recipe(recipe, overrides=overrides).recipe
        specs = plan_chain(loaded, data_dir=data_dir)
    stale = outdated(specs, store=store)
    rows = [
        {
            "stage": spec.title,
            "fingerprint": spec.fingerprint[:12],
            "state": _state(spec, store=store, is_stale=spec.key in stale),
        }
        for spec in specs
    ]
    _out.print(rows_table(rows, title=recipe), end="")
    here = machine_kind(loaded.runtime.device)
    kept = {key: one.document for key, one in kept_results(specs, store=store).items()}
    if elsewhere := made_elsewhere(kept, here=here):
        _out.print(elsewhere_line(elsewhere, here=here), highlight=False, soft_wrap=True)
    return 0


def _state(spec: PlannedStage, *, store: Store, is_stale: bool) -> str:
    if damage := damage_of(spec, store=store, reads_all=True):
        return f"damaged, is built again by `{program()} run`: {damage}"
    if not is_stale:
        return "up to date"
    if store.find(spec.stage, spec.fingerprint):
        return "out of date: what it was made from is to be made, or has other bytes now"
    if store.partial(spec.stage, spec.fingerprint).exists():
        return "half made: goes on from its last checkpoint"
    return "to be made"
