"""`python -m benchmarks experiment` over a chain that is there: its page against what the chain says of itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from stages.records.artifact import read_manifest
from tests.flows.conftest import ROOT, by_key

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(smoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experiment") / "smoke.md"
    command = [sys.executable, "-m", "benchmarks", "experiment", "smoke", "--seeds", "0", "--page", str(path)]
    done = subprocess.run(command, env=smoke.ring.environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}\n"
    return path


def lines_of(page: Path, *first: str) -> list[list[str]]:
    """The cells behind the first ones, of every line of a table that starts so."""
    start = f"| {' | '.join(first)} | "
    lines = [line for line in page.read_text().splitlines() if line.startswith(start)]
    return [line.removeprefix(start).removesuffix(" |").split(" | ") for line in lines]


def test_fingerprints_of_every_stage_are_there(smoke, page: Path) -> None:
    for key, entry in by_key(smoke.document).items():
        if key != "report":
            assert [f"`{entry['fingerprint'][:12]}`"] in lines_of(page, key)


def test_scores_and_paired_differences_are_those_of_the_evaluation(smoke, page: Path) -> None:
    tables = read_manifest(Path(by_key(smoke.document)["evaluation"]["artifact"])).tables()
    shown = [
        row
        for row in (*tables["results"], *tables["comparisons"])
        if row["group"] == "all" and row["metric"] != "pass@2"
    ]
    assert len(shown) == 4 * 2 + 6 * 2
    for row in shown:
        name = f"{row['model']} - {row['against']}" if "against" in row else row["model"]
        value = f"{row['difference']:+.3f}" if "against" in row else f"{row['value']:.3f}"
        of_all, *_ = lines_of(page, name, row["metric"])
        assert of_all[0].split(" ")[0] == value


def test_costs_and_steps_are_those_of_the_arms(smoke, page: Path) -> None:
    metrics = by_key(smoke.document)["rl/mixed"]["metrics"]
    costs, steps = (line for line in lines_of(page, "mixed") if line[0][0].isdigit() and "[" not in line[1])
    assert costs[:2] == ["5", f"{metrics['tokens/trained']:,.0f}"]
    assert float(costs[3]) == pytest.approx(metrics["compute/total_flops"], rel=5e-3)
    assert steps[0].startswith("400 ")
    assert float(steps[-1].split(" ")[0]) > 0


def test_its_plots_lie_beside_it(page: Path) -> None:
    named = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text())
    assert len(named) == 6
    assert all((page.parent / name).read_text().startswith("<svg xmlns=") for name in named)


def test_arms_that_start_alike_have_no_section_of_starts(page: Path) -> None:
    assert "## Starts" not in page.read_text()
