"""What orchestration and tracking cost: a share of the laptop chain's time.

The reference is the chain itself. A second run of the same chain answers every stage from the cache: all of its time is Prefect,
MLflow, hashing and reading. Beside it stands the time in which the first run had no stage process at work.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from flows.tables import rows_table
from stages.records.artifact import read_manifest

RECIPE = "laptop"


def main() -> None:
    """Run the chain (from the cache where it is there), then again; print the shares."""
    first, _ = _run()
    _, cached_seconds = _run()
    manifests = [read_manifest(Path(entry["artifact"])).document for entry in first["stages"]]
    busy = sum(document["seconds"] for document in manifests)
    working = sum(document["timings"]["wall_seconds"] for document in manifests)
    starting = sum(document["timings"]["import_seconds"] for document in manifests)
    rows = [
        {"what": "stages, from start to seal (summed)", "seconds": round(busy, 1), "share": 1.0},
        {
            "what": "a chain answered from the cache: Prefect, MLflow, hashing",
            "seconds": round(cached_seconds, 1),
            "share": cached_seconds / busy,
        },
        {
            "what": "launching, tracking and sealing within stages",
            "seconds": round(busy - working, 1),
            "share": (busy - working) / busy,
        },
        {"what": "imports within stages", "seconds": round(starting, 1), "share": starting / busy},
    ]
    Console().print(rows_table(rows, title=f"orchestration of {RECIPE}"))


def _run() -> tuple[dict, float]:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", RECIPE, "--json"], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout), time.monotonic() - started
