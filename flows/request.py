"""What a person asks of a chain, and the plan that answers it; a request that cannot be met is told before anything starts."""

import contextlib
import difflib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from data.benchmarks import find_benchmark
from stages.config import EvaluationConfig, StageName
from stages.plan import PlannedStage, plan_chain
from stages.recipe import ResolvedRecipe, load_recipe


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks of a chain."""

    recipe: str
    until: StageName | None = None
    rerun: StageName | None = None
    arm: str | None = None
    overrides: tuple[str, ...] = ()
    data_dir: Path | None = None


def column_pairs(columns: str | None) -> dict[str, str]:
    """`prompt=question,answer=result`: our column -> theirs. Raises ValueError for what is no list of pairs, and for one told twice."""
    pairs = [item.partition("=") for item in (columns or "").split(",") if item.strip()]
    if wrong := next((ours for ours, sign, theirs in pairs if not (ours.strip() and sign and theirs.strip())), None):
        raise ValueError(f"--columns {columns}: {wrong!r} is no pair; write for example prompt=question,answer=result")
    named = [(ours.strip(), theirs.strip()) for ours, _, theirs in pairs]
    if double := [ours for ours, count in Counter(ours for ours, _ in named).items() if count > 1]:
        raise ValueError(f"--columns {columns}: {double[0]!r} stands there twice; leave one out")
    return dict(named)


def column_overrides(columns: str | None) -> tuple[str, ...]:
    """The same as changes of the recipe."""
    return tuple(f"curation.columns.{ours}={json.dumps(theirs)}" for ours, theirs in column_pairs(columns).items())


@dataclass(frozen=True, slots=True)
class Plan:
    """A request, its recipe, and the stages in order."""

    request: Request
    resolved: ResolvedRecipe
    specs: list[PlannedStage]


def plan_request(request: Request) -> Plan:
    """Raises ValueError for a mistake in the recipe, the data folder, its rows of benchmarks, or what is to be rerun."""
    resolved = load_recipe(request.recipe, overrides=request.overrides)
    specs = plan_chain(resolved.recipe, until=request.until, data_dir=request.data_dir)
    _check_rerun(request, specs)
    _check_arm(request, specs)
    for spec in specs:
        if isinstance(spec.config, EvaluationConfig) and request.data_dir is not None:
            _check_rows(spec.config, request.data_dir)
    return Plan(request=request, resolved=resolved, specs=specs)


def _check_rows(config: EvaluationConfig, data_dir: Path) -> None:
    """Rows that are not those of a frozen manifest are told before hours of training, not after them; those of other sources later."""
    from data.benchmarks.loading import NotAvailableError, load_benchmark  # imports the judge's mathematics

    for name in config.benchmarks:
        with contextlib.suppress(NotAvailableError):
            load_benchmark(find_benchmark(name), data_dir=data_dir, another_version=config.another_version)


def _check_rerun(request: Request, specs: list[PlannedStage]) -> None:
    stages = list(dict.fromkeys(spec.stage for spec in specs))
    if request.rerun is not None and request.rerun not in stages:
        raise ValueError(
            f"--rerun {request.rerun}: the chain ends with {stages[-1]}; "
            f"rerun one of {', '.join(stages)}, or let it go until {request.rerun}"
        )


def _check_arm(request: Request, specs: list[PlannedStage]) -> None:
    if request.arm is None:
        return
    if request.rerun != "rl":
        raise ValueError(
            f"--arm {request.arm}: an arm is chosen among those of --rerun rl; add that, or leave --arm out"
        )
    arms = [spec.arm for spec in specs if spec.arm]
    if request.arm not in arms:
        near = difflib.get_close_matches(request.arm, arms, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"--arm {request.arm}: no such arm{hint} The arms are {', '.join(arms)}")
