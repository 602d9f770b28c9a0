"""Curation (paper 2.3): load, cleanse, de-duplicate, decontaminate, verify, annotate, split; a reason for every dropped row.

In: the recipe's sources, and the folder `data-dir` if one is given. Out: base, sft, validation, rl, probe and heldout.parquet
(PROBLEM_SCHEMA; heldout also holds the benchmarks' rows that can be judged, whose split is `eval`), benchmarks.parquet with all of their
rows, where there are any, dropped.parquet (DROPPED_SCHEMA) and card.md, the data card. `solution` is what follows an opened `<think>`,
verified, or empty. Tables: those of the card.

Rows pass in batches that stand in files, see `funnel`; a stage that was killed goes on with the first batch that is not done.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data.schema import DROPPED_SCHEMA, Problem, TableWriter
from data.sources.procedural import describe
from stages.config import CurationConfig, Decontamination, ProceduralSource, Runtime
from stages.curation import annotation, decontamination, duplicates, mixture
from stages.curation.card import distribution_tables, example_tables, write_card
from stages.curation.choices import with_open_forms
from stages.curation.cleansing import cleanse
from stages.curation.dirt import dirt_metrics, dirt_note, dirt_rows, fates
from stages.curation.funnel import Funnel, Step
from stages.curation.pool import Pool
from stages.curation.sources import Loaded, load_sources
from stages.curation.splits import write_splits
from stages.curation.tables import count_metrics, main_reasons, num_judge_failures, record_tables
from stages.curation.verification import PART_ROWS, verify
from stages.local_files import DATA_DIR, Place, places
from stages.sampling.workers import WorkThrough, work_through
from stages.stage import STATE, Row, StageLog, StageRecord

_SHOWN = 3  # benchmarks in one line
_Apply = Callable[[Pool], tuple[Pool, Step]]


def run(
    config: CurationConfig,
    *,
    inputs: Mapping[str, Path],
    runtime: Runtime,
    out: Path,
    log: StageLog,
    work_through: WorkThrough = work_through,
) -> StageRecord:
    """Sift the sources step by step and write the splits. `work_through` is where batches are worked on: here, or on a cluster.

    Raises ValueError for a source that cannot be used, and when no row is left.
    """
    started = time.monotonic()
    funnel = Funnel(out / STATE / "curation", runtime, log, work_through)
    loaded = load_sources(config, data_dir=inputs.get(DATA_DIR), state=funnel.state, log=log)
    timings = {loaded.step.name: time.monotonic() - started}
    steps, pool = [loaded.step], loaded.pool
    order = _order(config, loaded, funnel)
    for done, (name, apply) in enumerate(order.items()):
        log.progress(done, len(order), unit="steps", detail=name)
        started = time.monotonic()
        pool, step = apply(pool)
        assert step.num_kept + step.num_dropped == steps[-1].num_kept, f"{name} lost rows"
        steps.append(step)
        timings[name] = time.monotonic() - started
    log.progress(len(order), len(order), unit="steps", detail="writing")
    record = _write(config, loaded, steps, pool, timings, out)
    return _finish(record, _compared_tables(config, loaded, funnel, inputs.get(DATA_DIR)), out)


def _compared_tables(
    config: CurationConfig, loaded: Loaded, funnel: Funnel, data_dir: Path | None
) -> dict[str, list[Row]]:
    """Overlaps among the benchmarks, and the files that were read."""
    measured = {name: rows for name, rows in loaded.benchmarks.items() if rows}
    is_compared = len(measured) > 1 and decontamination.NAME not in config.skip
    return {
        "overlaps": decontamination.benchmark_overlaps(measured, config.decontamination, funnel) if is_compared else [],
        "files": [row for place in places(config, data_dir) for row in _file_rows(place)],
    }


def _file_rows(place: Place) -> list[Row]:
    prefix = "" if place.key == DATA_DIR else f"{place.key.removeprefix('source/')}/"
    readings = place.readings()
    return [
        {
            "file": prefix + name,
            "sha256": digest,
            "read as": "all columns" if readings[name].is_uniform else readings[name].describe(),
        }
        for name, digest in place.digests().items()
    ]


def _order(config: CurationConfig, loaded: Loaded, funnel: Funnel) -> dict[str, _Apply]:
    """The steps after loading, in order, without those that the recipe skips."""
    is_converting = config.choice_questions == "convert"
    compared = with_open_forms(loaded.benchmarks) if is_converting else loaded.benchmarks
    steps: dict[str, _Apply] = {
        "cleansing": lambda pool: funnel.sift("cleansing", cleanse, pool, config),
        duplicates.NAME: lambda pool: duplicates.drop_duplicates(pool, config.duplicates, funnel),
        decontamination.NAME: lambda pool: decontamination.decontaminate(
            pool, compared, config.decontamination, funnel
        ),
        "verification": lambda pool: funnel.sift("verification", verify, pool, config, part_rows=PART_ROWS),
        annotation.NAME: lambda pool: funnel.sift(annotation.NAME, annotation.annotate, pool, config),
        mixture.NAME: lambda pool: funnel.drop(mixture.NAME, pool, mixture.left_out(pool, config)),
    }
    return {name: apply for name, apply in steps.items() if name not in config.skip}


def _write(
    config: CurationConfig, loaded: Loaded, steps: Sequence[Step], pool: Pool, timings: dict[str, float], out: Path
) -> StageRecord:
    """The splits and dropped.parquet; what there is to say about them."""
    splits = write_splits(pool, loaded.benchmarks, out)
    if not sum(splits.values()):
        gone = "; ".join(f"{step.name}: {main_reasons(step.reasons)}" for step in steps if step.num_dropped)
        raise ValueError(f"no row is left of {loaded.num_rows}: {gone or 'the sources hold none'}")
    with TableWriter(out / "dropped.parquet", DROPPED_SCHEMA) as writer:
        for step in steps:
            for dropped in step.dropped():
                writer.write(dropped.select(DROPPED_SCHEMA.names))
    planted = fates(steps, pool)
    tables = record_tables(config, loaded, steps, pool, planted.by_step)
    tables |= distribution_tables(pool) | example_tables(pool, steps) | {"dirt": dirt_rows(planted)}
    if config.mixture:
        tables["mixture"] = mixture.compared(tables["splits"], config.mixture)
    notes = (
        *_recipe_notes(config, tables["sources"]),
        *((dirt_note(planted, steps),) if planted.num_planted else ()),
        *_notes(loaded.benchmarks, steps, tables["sources"]),
        *_model_notes(config.decontamination),
        *_shortages(config, tables["splits"]),
    )
    metrics = count_metrics(loaded, steps, splits)
    if planted.num_planted:
        metrics |= dirt_metrics(planted)
    if config.choice_questions == "convert":
        metrics["curation/choice_questions_converted"] = float(
            sum(row["converted"] for row in tables.get("conversions", []))
        )
    return StageRecord(metrics=metrics, tables=tables, notes=notes, timings=timings)


def _finish(record: StageRecord, more: Mapping[str, list[Row]], out: Path) -> StageRecord:
    """The record with further tables, and the data card beside the files."""
    tables = {name: rows for name, rows in {**record.tables, **more}.items() if rows}
    write_card(tables, record.notes, out / "card.md")
    return replace(record, tables=tables)


def _shortages(config: CurationConfig, splits: Sequence[Row]) -> list[str]:
    kept = {row["domain"]: row["rows"] for row in splits if row["split"] == "rl"}
    return mixture.shortages(kept, config.mixture.rl) if config.mixture else []


def _recipe_notes(config: CurationConfig, sources: Sequence[Row]) -> list[str]:
    """What the recipe says that a reader of the card must know, or that came to nothing."""
    there = {row["source"] for row in sources}
    generated = [source for source in config.sources if isinstance(source, ProceduralSource)]
    kinds = describe(f"procedural/{kind}" for source in generated for kind, share in source.kinds.items() if share)
    return [
        *((kinds,) if kinds else ()),
        *(f"the recipe leaves out the step {name}" for name in config.skip),
        *(
            f"duplicates.source_priority names {name}, of which no row was read"
            for name in config.duplicates.source_priority
            if name not in there
        ),
    ]


def _model_notes(rule: Decontamination) -> tuple[str, ...]:
    if not rule.embeddings:
        return ()  # the card's limits say what is not looked for
    return (
        f"leaks by meaning are found by the model {Path(rule.embeddings).name}, cosine {rule.embedding_cosine:g}; "
        "those in another language only where the model knows both",
    )


def _absent_benchmarks(names: Sequence[str]) -> list[str]:
    """One line, however many a recipe names."""
    if not names:
        return []
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    whose, them, they = ("its", "it", "it is") if len(names) == 1 else ("their", "them", "they are")
    return [
        f"benchmark{'s'[: len(names) > 1]} {shown}: no source holds {whose} rows, so nothing was compared with {them} and {they} not "
        "evaluated; add them to --data-dir with split `eval`"
    ]


def _notes(benchmarks: Mapping[str, list[Problem]], steps: Sequence[Step], sources: Sequence[Row]) -> tuple[str, ...]:
    notes = _absent_benchmarks([name for name, rows in benchmarks.items() if not rows])
    notes += [
        f"source {row['source']} ({row['licence']}): none of its {row['rows in']} rows is left; most went by {row['main reason']}"
        for row in sources
        if not row["rows kept"] and "evaluation row" not in row["main reason"]
    ]
    if failures := num_judge_failures(steps):
        notes.append(f"the judge failed on {failures} rows; they were dropped with its status as the reason")
    return tuple(notes)
