"""Curation (paper 2.3): load, cleanse, de-duplicate, decontaminate, verify, split; a reason for every dropped row.

In: the recipe's sources, and the folder `data-dir` if one is given. Out: base, sft, validation, rl, probe and heldout.parquet
(PROBLEM_SCHEMA; heldout also holds the benchmarks' rows, whose split is `eval`) and dropped.parquet (DROPPED_SCHEMA). `solution`
is what follows an opened `<think>`, verified, or empty. Tables: `funnel`, `reasons`, `splits`, `sources`, `benchmarks`, `leaks`.

A departure: the paper also compares texts by meaning and has people check answers; we have neither.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data.schema import Problem, table_from_problems, write_table
from stages.config import CurationConfig, Runtime
from stages.curation.cleansing import cleanse
from stages.curation.decontamination import decontaminate
from stages.curation.duplicates import drop_duplicates
from stages.curation.pool import Candidate, Sifted, Step, dropped_table
from stages.curation.sources import DATA_DIR, Loaded, load_sources
from stages.curation.splits import drop_surplus, fill_splits
from stages.curation.tables import count_metrics, num_judge_failures, record_tables
from stages.curation.verification import verify
from stages.stage import StageLog, StageRecord


def run(
    config: CurationConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog
) -> StageRecord:
    """Sift the sources step by step and write the splits. Raises ValueError for a source that cannot be used."""
    started = time.monotonic()
    loaded = load_sources(config, data_dir=inputs.get(DATA_DIR), log=log)
    timings = {"sources": time.monotonic() - started}
    steps = [Step("sources", len(loaded.candidates), loaded.dropped)]
    pool = loaded.candidates
    order = _order(config, loaded, runtime=runtime, log=log)
    for done, (name, sift) in enumerate(order):
        log.progress(done, len(order), unit="steps", detail=name)
        started = time.monotonic()
        sifted = sift(pool)
        assert len(sifted.kept) + len(sifted.dropped) == len(pool), f"{name} lost rows"
        pool = sifted.kept
        steps.append(Step(name, len(pool), sifted.dropped, sifted.num_judged))
        timings[name] = time.monotonic() - started
    log.progress(len(order), len(order), unit="steps", detail="splits")
    splits = fill_splits(pool, loaded.benchmarks)
    for split, problems in splits.items():
        write_table(table_from_problems(problems), out / f"{split}.parquet")
    write_table(dropped_table(steps), out / "dropped.parquet")
    return StageRecord(
        metrics=count_metrics(loaded, steps, splits),
        tables=record_tables(loaded, steps, splits, pool),
        notes=_notes(loaded.benchmarks, steps),
        timings=timings,
    )


def _order(
    config: CurationConfig, loaded: Loaded, *, runtime: Runtime, log: StageLog
) -> tuple[tuple[str, Callable[[list[Candidate]], Sifted]], ...]:
    """The steps after loading, in order."""
    return (
        ("cleansing", lambda pool: cleanse(pool, config)),
        ("de-duplication", drop_duplicates),
        ("decontamination", lambda pool: decontaminate(pool, loaded.benchmarks, config.decontamination)),
        ("verification", lambda pool: verify(pool, config, runtime=runtime, log=log)),
        ("splits", lambda pool: drop_surplus(pool, config)),
    )


def _notes(benchmarks: Mapping[str, list[Problem]], steps: Sequence[Step]) -> tuple[str, ...]:
    notes = [
        f"benchmark {name}: no source holds its rows, so nothing was compared with it and it is not evaluated;"
        " add them to the folder of --data-dir with split `eval`"
        for name, rows in benchmarks.items()
        if not rows
    ]
    if failures := num_judge_failures(steps):
        notes.append(f"the judge failed on {failures} rows; they were dropped with its status as the reason")
    return tuple(notes)
