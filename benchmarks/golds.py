"""Every benchmark at hand judged on its own golds: `python -m benchmarks golds [NAME ...]`, as it is evaluated.

A row a benchmark, then every row that is not judged right, with the judge's words. The data folder is `RING_DATA_DIR`, or `../shared/data`
beside the project.
"""

import os
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console

from data.benchmarks import BENCHMARKS, find_benchmark
from data.benchmarks.golds import EXPLAINED, Given, give_back
from data.benchmarks.loading import HERE, load_benchmark, verifier_policy, whereabouts
from data.domains import Judge
from flows.tables import rows_table


def main(names: list[str]) -> int:
    """Exit code 1 where a gold is not judged right and no reason is known, 2 for a name or a folder that is not there."""
    folder = Path(os.environ.get("RING_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data"))
    console = Console(width=140)
    try:
        asked = [find_benchmark(name) for name in names] or list(BENCHMARKS.values())
        here = [one.name for one in whereabouts(asked, data_dir=folder) if one.place == HERE]
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    rows, wrong = [], []
    for name in here:
        row, failed = _benchmark(name, folder)
        rows.append(row)
        wrong += [_told(name, given) for given in failed]
        console.print(" ".join(f"{value}" for value in row.values()), style="dim")
    console.print(rows_table(rows, title="golds given back as answers"))
    if wrong:
        console.print(rows_table(wrong, title="golds that are not judged right"))
    return int(any(not row["explained"] for row in wrong))


def _benchmark(name: str, folder: Path) -> tuple[dict, list[Given]]:
    benchmark = find_benchmark(name)
    problems = load_benchmark(benchmark, data_dir=folder)
    with Judge(requires_thinking=False, policy=verifier_policy(benchmark)) as judge:
        given = give_back(problems, judge)
    failed = [one for one in given if not one.is_right]
    row = {
        "benchmark": name,
        "rows": len(problems),
        "with a gold": len(given),
        "right": len(given) - len(failed),
        "explained": sum(one.problem.id in EXPLAINED for one in failed),
        "not right": ", ".join(
            f"{count} {status}" for status, count in Counter(one.verdict.status for one in failed).items()
        ),
    }
    return row, failed


def _told(name: str, given: Given) -> dict:
    verdict = given.verdict
    return {
        "benchmark": name,
        "row": given.problem.id,
        "status": verdict.status,
        "reason": verdict.reason[:100],
        "explained": EXPLAINED.get(given.problem.id, ""),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
