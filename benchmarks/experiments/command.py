"""`python -m benchmarks experiment NAME`: run the recipe for every seed, and write its page."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.experiments.chains import require_alike, run_chain
from benchmarks.experiments.page import write_page
from benchmarks.experiments.plots import start_charts, step_charts, write_plots
from benchmarks.experiments.scores import METRICS
from benchmarks.experiments.sections import Experiment, generated_lines
from benchmarks.experiments.starts import differ, starts_of
from stages.recipe import load_recipe

_PAGES = Path("docs/experiments")


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, or 1 where a chain fails or 2 where the user is wrong; the reason is on the terminal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks experiment", description=__doc__)
    parser.add_argument("recipe", metavar="NAME", help="name or path of a recipe")
    parser.add_argument("--seeds", type=_seeds, default=(0, 1, 2), help="as 0,1,2")
    parser.add_argument("--page", type=Path, help=f"Markdown file; {_PAGES}/NAME.md")
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="as for ring run"
    )
    found = parser.parse_args(arguments)
    try:
        page = run_experiment(found.recipe, seeds=found.seeds, page=found.page, changes=found.changes)
    except subprocess.CalledProcessError as error:
        return error.returncode
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{page}\n")
    return 0


def _seeds(text: str) -> tuple[int, ...]:
    seeds = tuple(int(part) for part in text.split(","))
    if len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text} names a seed twice, which would count its problems twice")
    return seeds


def run_experiment(recipe: str, *, seeds: Sequence[int], page: Path | None, changes: Sequence[str]) -> Path:
    """Run, read and write; returns the page. Raises RecipeError for a recipe that cannot be used."""
    resolved = load_recipe(recipe, overrides=changes)
    chains = [run_chain(recipe, seed=seed, changes=changes) for seed in seeds]
    require_alike(chains)
    experiment = Experiment.of(resolved, changes, chains)
    path = page or _PAGES / f"{resolved.recipe.name}.md"
    plots = write_plots(charts_of(experiment), page=path)
    write_page(path, generated_lines(experiment, plots=plots), title=f"Experiment: {resolved.recipe.name}")
    return path


def charts_of(experiment: Experiment) -> dict[str, str]:
    """Plots by name."""
    of_chains = [starts_of(chain) for chain in experiment.chains]
    charts = dict(step_charts(experiment.steps))
    if not any(map(differ, of_chains)):
        return charts
    of_arms = list(zip(*of_chains, strict=True))
    finals = {
        metric: [fmean(one.mean(arm, metric) for one in experiment.scores) for arm in experiment.steps]
        for metric in METRICS
    }
    entropies = [fmean(start.probe["entropy"] for start in arm) for arm in of_arms]
    shares = [fmean(start.ledger["further / sft"] for start in arm) for arm in of_arms]
    return charts | start_charts(entropies, shares, finals)
