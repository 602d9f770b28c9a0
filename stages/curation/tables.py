"""What curation says about its result: tables for people and the numbers that are tracked."""

from collections import Counter
from collections.abc import Mapping, Sequence

from data.schema import Problem
from stages.curation.pool import Candidate, Step
from stages.curation.sources import Loaded
from stages.curation.splits import can_be_judged
from stages.curation.verification import JUDGE_FAILED
from stages.stage import Row

_MAIN_REASONS = 3


def record_tables(
    loaded: Loaded, steps: Sequence[Step], splits: Mapping[str, Sequence[Problem]], kept: Sequence[Candidate]
) -> dict[str, list[Row]]:
    """Every table; `leaks` and `benchmarks` only where there are any."""
    tables = {
        "funnel": [_funnel_row(step) for step in steps],
        "reasons": [
            {"step": step.name, "reason": reason, "count": count}
            for step in steps
            for reason, count in _reasons(step).most_common()
        ],
        "splits": _split_rows(splits),
        "sources": _source_rows(loaded, steps, kept),
    }
    optional = {"benchmarks": _benchmark_rows(loaded.benchmarks), "leaks": _leak_rows(steps)}
    return tables | {name: rows for name, rows in optional.items() if rows}


def _reasons(step: Step) -> Counter[str]:
    return Counter(drop.reason for drop in step.dropped)


def _funnel_row(step: Step) -> Row:
    main = ", ".join(f"{reason} ({count})" for reason, count in _reasons(step).most_common(_MAIN_REASONS))
    return {"step": step.name, "kept": step.num_kept, "dropped": len(step.dropped), "main reasons": main}


def _split_rows(splits: Mapping[str, Sequence[Problem]]) -> list[Row]:
    rows: list[Row] = []
    for split, problems in splits.items():
        counts = Counter(problem.domain for problem in problems)
        rows += [{"split": split, "domain": domain, "rows": count} for domain, count in sorted(counts.items())]
    return rows


def _source_rows(loaded: Loaded, steps: Sequence[Step], kept: Sequence[Candidate]) -> list[Row]:
    """Rows in and kept, by origin and licence, without the rows that were set aside as a benchmark."""
    left = Counter((candidate.origin, candidate.problem.licence) for candidate in kept)
    dropped = [drop.candidate for step in steps for drop in step.dropped]
    read = Counter((candidate.origin, candidate.problem.licence) for candidate in [*kept, *dropped])
    return [
        {
            "source": origin,
            "licence": licence,
            "rows in": count,
            "rows kept": left[origin, licence],
            "revision": loaded.revisions.get(origin, ""),
        }
        for (origin, licence), count in sorted(read.items())
    ]


def _benchmark_rows(benchmarks: Mapping[str, Sequence[Problem]]) -> list[Row]:
    return [
        {"benchmark": name, "rows": len(rows), "evaluated": sum(can_be_judged(row) for row in rows)}
        for name, rows in benchmarks.items()
    ]


def _leak_rows(steps: Sequence[Step]) -> list[Row]:
    counts = Counter((drop.candidate.origin, drop.leaks_to) for step in steps for drop in step.dropped if drop.leaks_to)
    return [
        {"source": source, "benchmark": benchmark, "rows": rows} for (source, benchmark), rows in sorted(counts.items())
    ]


def num_judge_failures(steps: Sequence[Step]) -> int:
    """Rows that were dropped because the judge failed."""
    return sum(drop.reason.startswith(JUDGE_FAILED) for step in steps for drop in step.dropped)


def count_metrics(loaded: Loaded, steps: Sequence[Step], splits: Mapping[str, Sequence[Problem]]) -> dict[str, float]:
    """`curation/...` numbers."""
    return {
        "curation/rows_in": float(loaded.num_rows),
        "curation/rows_kept": float(steps[-1].num_kept),
        **{f"curation/dropped_by_{step.name}": float(len(step.dropped)) for step in steps},
        **{f"curation/{split}_rows": float(len(problems)) for split, problems in splits.items()},
        "curation/benchmark_rows": float(sum(len(rows) for rows in loaded.benchmarks.values())),
        "curation/responses_judged": float(sum(step.num_judged for step in steps)),
        "curation/judge_failures": float(num_judge_failures(steps)),
    }
