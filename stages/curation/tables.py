"""What curation says about its result: tables for people and the numbers that are tracked."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from data.schema import Problem
from stages.config import CurationConfig, HubSource
from stages.curation.choices import is_converted
from stages.curation.funnel import Step
from stages.curation.pool import Pool, origin
from stages.curation.sources import Loaded
from stages.curation.splits import can_be_judged
from stages.curation.verification import JUDGE_FAILED
from stages.stage import Row


def record_tables(
    config: CurationConfig, loaded: Loaded, steps: Sequence[Step], pool: Pool, planted: Mapping[str, int]
) -> dict[str, list[Row]]:
    """Every table; `conversions`, `leaks` and `benchmarks` only where there are any.

    `planted` are the rows of dirt that each step dropped.
    """
    tables = {
        "funnel": [_funnel_row(step, planted) for step in steps],
        "reasons": [
            {"step": step.name, "reason": reason, "count": count}
            for step in steps
            for reason, count in _sorted(step.reasons)
        ],
        "splits": _split_rows(pool, loaded.benchmarks),
        "sources": _source_rows(config, steps, pool),
    }
    converted = _conversion_rows(steps, pool) if config.choice_questions == "convert" else []
    optional = {"conversions": converted, "benchmarks": _benchmark_rows(loaded.benchmarks), "leaks": _leak_rows(steps)}
    return tables | {name: rows for name, rows in optional.items() if rows}


def _sorted(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def main_reasons(reasons: Counter[str], *, most: int = 3) -> str:
    """`proof (3), image or figure (2)`."""
    return ", ".join(f"{reason} ({count})" for reason, count in _sorted(reasons)[:most])


def _funnel_row(step: Step, planted: Mapping[str, int]) -> Row:
    return {
        "step": step.name,
        "kept": step.num_kept,
        "dropped": step.num_dropped,
        **({"of these planted": planted.get(step.name, 0)} if planted else {}),
        "main reasons": main_reasons(step.reasons),
    }


def _split_rows(pool: Pool, benchmarks: Mapping[str, Sequence[Problem]]) -> list[Row]:
    counts = _count(pool.batches(["split", "domain"]), "split", "domain")
    for rows in benchmarks.values():
        counts.update(("heldout", row.domain) for row in rows if can_be_judged(row))
    totals: Counter[str] = Counter()
    for (split, _), count in counts.items():
        totals[split] += count
    return [
        {"split": split, "domain": domain, "rows": count, "share": count / totals[split]}
        for (split, domain), count in sorted(counts.items())
    ]


def _count(tables: Iterable[pa.Table], *columns: str) -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    for table in tables:
        counts.update(zip(*(table[name].to_pylist() for name in columns), strict=True))
    return counts


def _by_origin(tables: Iterable[pa.Table], *columns: str) -> Counter[tuple[str, ...]]:
    """Rows by where they come from and other columns."""
    counts: Counter[tuple[str, ...]] = Counter()
    for (via, source, generated, *values), count in _count(tables, "via", "source", "generated", *columns).items():
        counts[origin(via, source, generated=bool(generated)), *values] += count
    return counts


def _source_rows(config: CurationConfig, steps: Sequence[Step], pool: Pool) -> list[Row]:
    """Rows in and kept, by origin and licence, without the rows that were set aside as a benchmark."""
    vias = {
        via for table in (pool.batches(["via"]), *(step.dropped() for step in steps)) for (via,) in _count(table, "via")
    }
    revisions = {  # of those that were fetched: for the others a file stood in
        source.name: source.revision
        for source in config.sources
        if isinstance(source, HubSource) and source.name in vias
    }
    left = _by_origin(pool.batches(["via", "source", "generated", "licence"]), "licence")
    read = left.copy()
    gone: dict[tuple[str, str], Counter[str]] = {}
    for step in steps:
        for (name, licence, reason), count in _by_origin(step.dropped(), "licence", "reason").items():
            read[name, licence] += count
            gone.setdefault((name, licence), Counter())[f"{step.name}: {reason}"] += count
    return [
        {
            "source": name,
            "licence": licence,
            "rows in": count,
            "rows kept": left[name, licence],
            "revision": revisions.get(name, ""),
            "main reason": main_reasons(gone.get((name, licence), Counter()), most=1),
        }
        for (name, licence), count in sorted(read.items())
    ]


def _conversion_rows(steps: Sequence[Step], pool: Pool) -> list[Row]:
    """Choice questions that became open ones, and those of them that are left, by origin."""
    kept = _converted(pool.batches(["via", "source", "generated", "meta"]))
    converted = kept + _converted(table for step in steps for table in step.dropped())
    return [{"source": name, "converted": count, "kept": kept[name]} for name, count in sorted(converted.items())]


def _converted(tables: Iterable[pa.Table]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for table in tables:
        columns = (table[name].to_pylist() for name in ("via", "source", "generated", "meta"))
        counts.update(
            origin(via, source, generated=generated)
            for via, source, generated, meta in zip(*columns, strict=True)
            if is_converted(meta)
        )
    return counts


def _benchmark_rows(benchmarks: Mapping[str, Sequence[Problem]]) -> list[Row]:
    return [
        {"benchmark": name, "rows": len(rows), "evaluated": sum(can_be_judged(row) for row in rows)}
        for name, rows in benchmarks.items()
    ]


def _leak_rows(steps: Sequence[Step]) -> list[Row]:
    counts: Counter[tuple[str, ...]] = Counter()
    for step in steps:
        counts.update(_by_origin(step.dropped(), "benchmark"))
    return [
        {"source": source, "benchmark": benchmark, "rows": rows}
        for (source, benchmark), rows in sorted(counts.items())
        if benchmark
    ]


def num_judge_failures(steps: Sequence[Step]) -> int:
    """Rows that were dropped because the judge failed."""
    return sum(count for step in steps for reason, count in step.reasons.items() if reason.startswith(JUDGE_FAILED))


def count_metrics(loaded: Loaded, steps: Sequence[Step], splits: Mapping[str, int]) -> dict[str, float]:
    """`curation/...` numbers."""
    return {
        "curation/rows_in": float(loaded.num_rows),
        "curation/rows_kept": float(steps[-1].num_kept),
        **{f"curation/dropped_by_{step.name}": float(step.num_dropped) for step in steps},
        **{f"curation/{split}_rows": float(count) for split, count in splits.items()},
        "curation/benchmark_rows": float(sum(len(rows) for rows in loaded.benchmarks.values())),
        "curation/responses_judged": float(sum(step.num_judged for step in steps)),
        "curation/judge_failures": float(num_judge_failures(steps)),
    }
