"""Freeze the rows of benchmarks: `python -m benchmarks manifests [NAME ...]`, all that are in the data folder where none is named.

The data folder is `RING_DATA_DIR`, or `../shared/data` beside the project. What differs from the manifest before is told: its change in the
repository is that of the benchmark.
"""

import os
import sys
from pathlib import Path

from data.benchmarks import BENCHMARKS, find_benchmark
from data.benchmarks.loading import HERE, load_benchmark, whereabouts
from data.benchmarks.manifest import freeze, frozen, require_frozen


def main(names: list[str]) -> int:
    """Exit code 2 for a name or a folder that is not there."""
    folder = Path(os.environ.get("RING_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data"))
    try:
        asked = [find_benchmark(name) for name in names] or list(BENCHMARKS.values())
        here = [one.name for one in whereabouts(asked, data_dir=folder) if one.place == HERE]
        for name in names or here:
            print(_frozen_anew(name, folder))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _frozen_anew(name: str, folder: Path) -> str:
    problems = load_benchmark(find_benchmark(name), data_dir=folder, another_version=True)
    told = _difference(name, problems)
    freeze(name, problems)
    return f"{name}: {len(problems)} rows, {told}"


def _difference(name: str, problems: list) -> str:
    before = frozen(name)
    if before is None:
        return "frozen for the first time"
    try:
        require_frozen(name, problems, before)
    except ValueError as error:
        return str(error)
    return "as before"
