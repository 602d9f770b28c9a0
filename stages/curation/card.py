"""The data card of a curated set: Markdown for people, made of the stage's tables, with examples of what was kept and dropped."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.schema import DROPPED_SCHEMA
from stages.curation.annotation import read_annotations
from stages.curation.funnel import Step
from stages.curation.pool import Pool
from stages.markdown import plain, table
from stages.stage import Row

_EXAMPLES = 2  # a reason, and a split
_SHOWN = 200  # characters of a prompt
_QUANTILES = (0.05, 0.5, 0.95)
_TITLES = {
    "funnel": "What each step kept",
    "sources": "Sources",
    "files": "Files",
    "splits": "Splits",
    "mixture": "The mixture, asked and reached",
    "conversions": "Choice questions that became open ones",
    "reasons": "Why rows were dropped",
    "dirt": "Rows that were planted, wrong on purpose",
    "leaks": "Benchmark rows that training sets gave away (dropped)",
    "overlaps": "Rows of a benchmark that stand in another one (kept)",
    "benchmarks": "Benchmarks",
    "distribution": "What is left",
    "lengths": "Lengths of prompts, characters",
    "kept examples": "Examples of kept rows",
    "dropped examples": "Examples of dropped rows",
}
_LIMITS = (
    "Of translations only those between English and Chinese are looked for, where `translated` is on, by numbers, formulas and answer. "
    "That misses rows of few or common numbers, and any whose answer is written otherwise. Copies in other languages stay.",
    "Leaks by meaning are looked for only where `decontamination.embeddings` names a model, which the notes then name.",
    "A paraphrase with other words and other numbers stays. `python -m benchmarks contamination_challenge` measures what is found.",
    "Whether an answer is right is the judge's word, see the step `verification`; no person has checked rows.",
    "Licences are as the sources state them; statements of competitions may belong to others than the repository that holds them.",
)


def write_card(tables: Mapping[str, list[Row]], notes: Iterable[str], path: Path) -> None:
    """Write the card; the same tables give the same bytes."""
    lines = ["# Data card", ""]
    for name, title in _TITLES.items():
        if rows := tables.get(name):
            lines += [f"## {title}", "", *table(rows, digits=".3f"), ""]
    lines += [
        "## Notes",
        "",
        *(f"- {plain(note)}" for note in notes),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in _LIMITS),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"


# ---------------------------------------------------------------- examples


def example_tables(pool: Pool, steps: Sequence[Step]) -> dict[str, list[Row]]:
    """The first rows of each split, and of each reason."""
    kept: dict[str, list[Row]] = {}
    for batch in pool.batches(["id", "split", "source", "prompt", "answer"]):
        for row in batch.to_pylist():
            _keep(
                kept, row["split"], {name: _short(row[name]) for name in ("split", "id", "source", "prompt", "answer")}
            )
    dropped: dict[str, list[Row]] = {}
    for step in steps:
        for rows in step.dropped():
            for row in rows.select(DROPPED_SCHEMA.names).to_pylist():
                shown = {name: _short(row[name]) for name in ("step", "reason", "id", "evidence", "prompt")}
                _keep(dropped, f"{step.name}: {row['reason']}", shown)
    return {"kept examples": _flat(kept), "dropped examples": _flat(dropped)}


def _keep(found: dict[str, list[Row]], key: str, row: Row) -> None:
    rows = found.setdefault(key, [])
    if len(rows) < _EXAMPLES:
        rows.append(row)


def _flat(found: Mapping[str, list[Row]]) -> list[Row]:
    return [row for key in sorted(found) for row in found[key]]


# ---------------------------------------------------------------- distributions


def distribution_tables(pool: Pool) -> dict[str, list[Row]]:
    """Rows by split and subject, level and language; quantiles of the lengths of prompts."""
    counts: Counter[tuple[str, str, str]] = Counter()
    lengths: dict[tuple[str, str], list[int]] = {}
    for batch in pool.batches(["split", "domain", "prompt", "meta"]):
        splits, domains, prompts, metas = (column.to_pylist() for column in batch.columns)
        for split, domain, prompt, notes in zip(splits, domains, prompts, read_annotations(metas), strict=True):
            lengths.setdefault((split, domain), []).append(len(prompt))
            counts.update((split, kind, notes[kind]) for kind in ("subject", "level", "language") if notes.get(kind))
    return {
        "distribution": [
            {"split": split, "what": kind, "value": value, "rows": count}
            for (split, kind, value), count in sorted(counts.items())
        ],
        "lengths": [_quantiles(split, domain, values) for (split, domain), values in sorted(lengths.items())],
    }


def _quantiles(split: str, domain: str, values: Sequence[int]) -> Row:
    ordered = sorted(values)
    at = {f"{share:.0%}": ordered[int(share * (len(ordered) - 1))] for share in _QUANTILES}
    return {"split": split, "domain": domain, "rows": len(ordered), **at, "longest": ordered[-1]}
