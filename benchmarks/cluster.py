"""The cluster on paper: what a step of GRPO, C3PO and C3PO++ costs on 256 GPUs, and how much of it is waiting, by simulation.

    python -m benchmarks cluster [--page docs/experiments/cluster.md] [--steps 50] [--seed 0]

Nothing is measured on a cluster: lengths are drawn, times are arithmetic (`cluster_costs`), sampling goes from end to end of responses
(`cluster_rollout`), and what is trained and where is decided by the project's own code (`cluster_methods`). The same seed gives the same
page. Prints the tables; `--page` writes them with what they say, and two plots beside the page. About two minutes on one core.
"""

import argparse
import gc
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.cluster_methods import World
from benchmarks.cluster_page import page, plots, sections
from benchmarks.cluster_runs import FILLING_STEPS, Results, simulate
from flows.tables import rows_table


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cluster", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--page", type=Path, help="Markdown file to write; plots lie beside it")
    parser.add_argument("--steps", type=int, default=50, help="updates of each run")
    parser.add_argument("--seed", type=int, default=0, help="another draw of lengths")
    options = parser.parse_args(arguments)
    if options.steps <= FILLING_STEPS:
        parser.error(f"--steps {options.steps} must be above {FILLING_STEPS}, in which a pool fills")
    results = _simulated(World(seed=options.seed), num_steps=options.steps)
    console = Console()
    for section in sections(results):
        console.print(rows_table(section.rows, title=section.title))
    if options.page:
        write(results, options.page)
    return 0


def _simulated(world: World, *, num_steps: int) -> Results:
    """Without the search for cycles, of which there are none and which takes a third of the time."""
    gc.disable()
    try:
        return simulate(world, num_steps=num_steps)
    finally:
        gc.enable()


def write(results: Results, path: Path) -> None:
    """The page and its plots."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = {}
    for name, drawing in plots(results).items():
        names[name] = f"{path.stem}-{name}.svg"
        (path.parent / names[name]).write_text(drawing, encoding="utf-8")
    path.write_text(page(results, plots=names), encoding="utf-8")
