"""Whether curation grows linearly: synthetic rows with known copies and leaks, at three sizes, in bounded memory.

    python -m benchmarks curation_scale

`CURATION_SCALE_ROWS` (default "100000,300000,1000000") names the sizes. A row is a problem of the procedural generators inside two
sentences of random words, so that texts are alike in form and differ in substance. Of each set 3 % are copies with other capitals and
spaces, 2 % copies with letters swapped, and 1 % are rows of a benchmark of 1 000 under a wrapper. The rule is that of the recipe
`curate-public`, with two processes. Memory is the sum over the stage's processes, sampled.
"""

import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq
from rich.console import Console

from data.schema import Problem, table_from_problems, write_table
from data.sources.procedural import generate_problems
from flows.tables import rows_table
from stages.recipe import load_recipe

SIZES = tuple(int(size) for size in os.environ.get("CURATION_SCALE_ROWS", "100000,300000,1000000").split(","))
NUM_MEASURED = 1000
SHARES = {"copy": 0.03, "near": 0.02, "leak": 0.01}
FILE_ROWS = 50_000
EXPECTED = {"copy": "duplicate: same text", "near": "duplicate: near", "leak": "contaminated"}
_SYLLABLES = (
    "ra",
    "to",
    "mi",
    "len",
    "sa",
    "vor",
    "ki",
    "pen",
    "dol",
    "ne",
    "gar",
    "thu",
    "bel",
    "os",
    "lin",
    "fe",
    "mar",
)
_RUN = """
import sys
from pathlib import Path
from stages.config import CurationConfig, Runtime
from stages.curation import run
from stages.stage import StageLog
config = CurationConfig.model_validate_json(Path(sys.argv[1]).read_text())
run(config, inputs={"data-dir": Path(sys.argv[2])}, runtime=Runtime(workers=2), out=Path(sys.argv[3]), log=StageLog(None))
"""


def main() -> None:
    """Make, curate and check a set of each size; print one row for each."""
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            make_set(Path(folder) / "in", size)
            before = _cpu_seconds()
            seconds, peak = curate(Path(folder))
            rows.append(
                {
                    "rows": size,
                    "seconds": round(seconds),
                    "CPU seconds": round(_cpu_seconds() - before),
                    "peak MB": round(peak / 1e6),
                }
            )
            rows[-1] |= found(Path(folder) / "out")
            sys.stdout.write(json.dumps(rows[-1]) + "\n")
            sys.stdout.flush()
    Console().print(rows_table(rows, title="curation of synthetic rows"))


# ---------------------------------------------------------------- the set


def make_set(folder: Path, size: int) -> None:
    """Files of rows, in a seeded order, ids `<kind>-<number>`."""
    rng = random.Random(size)
    vocabulary = sorted({"".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4))) for _ in range(6000)})
    measured = [_told(row, vocabulary, rng, kind="m", source="math500") for row in _generated("measured", NUM_MEASURED)]
    rows: list[Problem] = [replace(row, split="eval") for row in measured]
    number = 0
    for row in _rows(size, measured, vocabulary, rng):
        rows.append(row)
        if len(rows) >= FILE_ROWS:
            write_table(table_from_problems(rows), folder / f"{number:03d}.parquet")
            rows, number = [], number + 1
    write_table(table_from_problems(rows), folder / f"{number:03d}.parquet")


def _rows(size: int, measured: list[Problem], vocabulary: list[str], rng: random.Random) -> Iterator[Problem]:
    """Plain rows; after some of them a copy of an earlier one, or a leak."""
    planted = {kind: round(size * share) for kind, share in SHARES.items()}
    plain = size - sum(planted.values())
    chances = {kind: count / plain for kind, count in planted.items()}
    recent: list[Problem] = []
    for row in _generated("plain", plain):
        told = _told(row, vocabulary, rng, kind="p", source="synthetic")
        yield told
        if len(recent) < 1000:
            recent.append(told)
        else:
            recent[rng.randrange(1000)] = told
        number = told.id.rpartition("-")[2]
        if rng.random() < chances["copy"]:
            earlier = rng.choice(recent)
            yield replace(earlier, id=f"z-copy-{number}", prompt=earlier.prompt.upper().replace(" ", "  "))
        if rng.random() < chances["near"]:
            earlier = rng.choice(recent)
            yield replace(earlier, id=f"z-near-{number}", prompt=_swapped(earlier.prompt, rng))
        if rng.random() < chances["leak"]:
            given = rng.choice(measured)
            wrapped = (
                f"Question {rng.randint(2, 99)}. Solve this. {given.prompt} Explain each step, then give the result."
            )
            yield replace(given, id=f"z-leak-{number}", prompt=wrapped, source="synthetic", split="train")


def _generated(name: str, count: int) -> Iterator[Problem]:
    """Problems of mathematics, in pieces: the generators keep what they drew to tell repetitions."""
    for start in range(0, count, FILE_ROWS):
        piece = min(FILE_ROWS, count - start)
        kinds, levels = {"chain": 0.6, "lin": 0.4}, {3: 0.5, 4: 0.5}
        yield from generate_problems(
            name=f"{name}-{start}", split="rl", num_problems=piece, kinds=kinds, levels=levels, seed=start
        )


def _told(row: Problem, vocabulary: list[str], rng: random.Random, *, kind: str, source: str) -> Problem:
    before, after = (" ".join(rng.choices(vocabulary, k=rng.randint(7, 12))) for _ in range(2))
    text = f"{before.capitalize()}: {row.prompt}. {after.capitalize()}, what is the result?"
    return replace(
        row, id=f"{kind}-{row.id}", prompt=text, source=source, split="train", solution="", licence="Apache-2.0"
    )


def _swapped(text: str, rng: random.Random) -> str:
    """Two pairs of letters swapped."""
    signs = list(text)
    for place in rng.sample([n for n in range(len(signs) - 1) if signs[n].isalpha() and signs[n + 1].isalpha()], 2):
        signs[place], signs[place + 1] = signs[place + 1], signs[place]
    return "".join(signs)


# ---------------------------------------------------------------- the run


def curate(folder: Path) -> tuple[float, int]:
    """Seconds, and the largest sum of memory over the processes, bytes."""
    config = load_recipe("curate-public").recipe.curation.model_copy(
        update={
            "sources": (),
            "benchmarks": ("math500",),
            "splits": {"sft": 0.0, "rl": 0.999, "probe": 0.001, "validation": 0.0},
        }
    )
    (folder / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-c", _RUN, str(folder / "config.json"), str(folder / "in"), str(folder / "out")]
    started, peak = time.monotonic(), 0
    with subprocess.Popen(command) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _memory(watched))
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"curation ended with code {process.returncode}")
    return time.monotonic() - started, peak


def _cpu_seconds() -> float:
    """Of processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _memory(process: psutil.Process) -> int:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):  # one ended since it was listed; the next look comes soon
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    return total


def found(out: Path) -> dict[str, float]:
    """Recall of what was planted, and the share of plain rows that were dropped as copies or leaks."""
    dropped = pq.read_table(out / "dropped.parquet", columns=["id", "reason"]).to_pylist()
    reasons = Counter(
        (row["id"].split("-")[1], next((r for r in EXPECTED.values() if row["reason"].startswith(r)), ""))
        for row in dropped
    )
    kept = Counter(name.split("-")[1] for name in pq.read_table(out / "rl.parquet", columns=["id"])["id"].to_pylist())
    kept.update(name.split("-")[1] for name in pq.read_table(out / "probe.parquet", columns=["id"])["id"].to_pylist())
    gone = Counter(row["id"].split("-")[1] for row in dropped)
    recall = {kind: round(gone[kind] / max(1, gone[kind] + kept[kind]), 4) for kind in EXPECTED}
    plain = sum(count for (kind, reason), count in reasons.items() if kind == "plain" and reason)
    return {**recall, "plain rows dropped as copies or leaks": plain}


if __name__ == "__main__":
    main()
