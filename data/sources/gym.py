"""Problems of reasoning-gym (extra `gym`): drawn by name in a process of their own, with what their scorers need.

In: generators with their shares and settings, a seed and a split. Out: `Problem` records of the domain gym whose `tests` hold the entry
and whose `meta` holds where it comes from (generator, version, settings, seed, index). The same arguments give the same rows.

Generators draw problem `index` from the random numbers of `seed + index`. Each split has a range of these to itself (`SEEDS`), so that
what is trained on and what is held out never share one; and no prompt comes twice, nor one of `exclude`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data.domains.gym import MISSING, NAME, TYPE, tests_text
from data.domains.gym_generators import GENERATORS, VERSION, fault_of
from data.sandbox import tagged
from data.schema import Problem
from data.sources.procedural.kind import derive_seed

LICENCE = "Apache-2.0"
_WIDTH = 1 << 30
SEEDS: dict[str, range] = {  # split -> seeds of its problems; below 2**32, which is what NumPy takes
    split: range(number * _WIDTH, (number + 1) * _WIDTH) for number, split in enumerate(("heldout", "probe", "rl"))
}
_PROJECT = Path(__file__).resolve().parents[2]
_START = "import sys; sys.path.insert(0, sys.argv[1]); import runpy; runpy.run_module('data.domains.gym_process', run_name='__main__')"


def draw_problems(
    *,
    name: str,
    split: str,
    num_problems: int,
    generators: Mapping[str, float],
    settings: Mapping[str, Mapping[str, Any]],
    seed: int,
    exclude: Collection[str] = (),
) -> list[Problem]:
    """Draw problems, generator by generator in the order of their names; `settings` are those of a generator's configuration.

    Raises ValueError for a generator that is not used, settings that it refuses, too few new problems, and without the package.
    """
    if fault := "; ".join(filter(None, map(fault_of, generators))):
        raise ValueError(f"source {name!r}: {fault}")
    if find_spec("reasoning_gym") is None:
        raise ValueError(f"source {name!r}: {MISSING}")
    parts = [
        {
            "generator": generator,
            "settings": dict(settings.get(generator, {})),
            "seed": first_seed(name, split, generator, seed),
            "count": count,
        }
        for generator, count in shared_out(num_problems, generators).items()
        if count
    ]
    by_name = {part["generator"]: part for part in parts}
    return [
        _problem(row, by_name[row["generator"]], name=name, split=split) for row in _rows(parts, exclude, where=name)
    ]


def first_seed(name: str, split: str, generator: str, seed: int) -> int:
    """Of a source's problems: in the first half of the split's range, so that all of them are within it."""
    return SEEDS[split].start + derive_seed(NAME, name, generator, seed) % (_WIDTH // 2)


def shared_out(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers that sum to `total`, by largest remainder; by name.

    >>> shared_out(10, {"b": 0.25, "a": 0.75})
    {'a': 8, 'b': 2}
    """
    exact = {name: shares[name] * total for name in sorted(shares)}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _rows(parts: list[dict[str, Any]], exclude: Iterable[str], *, where: str) -> list[dict[str, Any]]:
    modules = sorted({GENERATORS[part["generator"]] for part in parts})
    request = json.dumps({"modules": modules, "parts": parts, "exclude": list(exclude)})
    done = subprocess.run(
        [sys.executable, "-c", _START, str(_PROJECT)],
        input=request,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    failed = next((row["error"] for row in rows if "error" in row), "")
    if failed or done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ValueError(f"source {where!r}: {failed or last}")
    return rows


def _problem(row: Mapping[str, Any], part: Mapping[str, Any], *, name: str, split: str) -> Problem:
    settings = tagged.dumps(part["settings"])
    meta = {"generator": row["generator"], "version": VERSION, "settings": part["settings"], "seed": part["seed"]}
    return Problem(
        id=f"{name}-{row['generator']}-{row['index']:06d}",
        domain=NAME,
        split=split,
        prompt=row["question"],
        answer=row["answer"],
        tests=tests_text(row["generator"], settings=settings, entry=row["entry"]),
        source=f"{TYPE}/{row['generator']}",
        licence=LICENCE,
        meta=json.dumps({**meta, "index": row["index"]}, ensure_ascii=False),
    )
