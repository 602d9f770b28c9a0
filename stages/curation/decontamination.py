"""Decontamination (paper 2.3): drop what gives away a problem that a model will be measured on.

Measured are the benchmarks' rows and the recipe's own heldout and probe splits. A heldout row is compared with nothing, a probe row
with benchmarks and heldout, any other row with all three. A puzzle of reasoning-gym is compared with benchmarks alone: those of one
generator share most of their words, come from other random numbers in each split, and the same text is one row already. Benchmarks
are compared with each other, too: those overlaps are reported.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.domains import gym
from data.schema import Problem, problems_from_table, write_table
from stages.config import Decontamination
from stages.curation.contamination import Leak, LeakIndex, MeasuredRow
from stages.curation.embeddings import Meanings, embed
from stages.curation.funnel import Funnel, Step
from stages.curation.likeness import Likeness
from stages.curation.pool import BATCH_ROWS, Drop, Pool, Sifted
from stages.curation.translations import Translations
from stages.sampling.workers import Worker
from stages.stage import Row

NAME = "decontamination"
_HELDOUT, _PROBE = "heldout", "probe"
_BACKGROUND_ROWS = 4096
_OVERLAP_ROWS = 512  # of a benchmark that a process takes at a time
_BY_NGRAMS = {"likeness": 0.0, "masked_numbers": 0.0, "embeddings": ""}
_Measurable = tuple[str, str, str, str, str, bool]
_MEASURED = pa.schema(
    [(name, pa.string()) for name in ("benchmark", "id", "text", "domain", "answer")] + [("is_own", pa.bool_())]
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Where the measured rows and a sample of the pool stand, and when a row leaks one."""

    path: Path
    background: Path | None  # none: rarity is learnt from the measured rows alone
    rule: Decontamination
    vectors: Path | None = None  # embeddings of the measured rows; none: meaning is not asked


def decontaminate(
    pool: Pool, benchmarks: Mapping[str, Sequence[Problem]], rule: Decontamination, funnel: Funnel
) -> tuple[Pool, Step]:
    """Drop leaks; the evidence is the benchmark, the row, the method and the score."""
    if funnel.is_done(NAME, pool):
        return funnel.finish(NAME, pool)
    learns = rule.likeness or rule.masked_numbers or rule.translated
    background = funnel.state / "background.parquet" if learns else None
    vectors = funnel.state / "measured.npy" if rule.embeddings else None
    measured = Measured(funnel.state / "measured.parquet", background, rule, vectors)
    rows = _measured(pool, benchmarks)
    write_table(rows, measured.path)
    if vectors:
        np.save(vectors, embed(rows["text"].to_pylist(), model=rule.embeddings))
    if background:
        write_table(_background(pool), background)
    return funnel.sift(NAME, drop_leaks, pool, measured)


def benchmark_overlaps(benchmarks: Mapping[str, Sequence[Problem]], rule: Decontamination, funnel: Funnel) -> list[Row]:
    """How many rows of each benchmark stand, by their n-grams or translated, in another one: a score on both is no two scores."""
    measured = Measured(funnel.state / "overlaps.parquet", None, rule.model_copy(update=_BY_NGRAMS))
    write_table(_table(_benchmark_rows(benchmarks)), measured.path)
    chunks = [
        (name, tuple(rows[start : start + _OVERLAP_ROWS]), measured)
        for name, rows in benchmarks.items()
        for start in range(0, len(rows), _OVERLAP_ROWS)
    ]
    found = {pair for pairs in funnel.work(_find_overlaps, iter(chunks), inline=len(chunks) < 4) for pair in pairs}
    counts = Counter((name, other) for name, other, _ in found)
    return [{"benchmark": other, "stands in": name, "rows": count} for (name, other), count in sorted(counts.items())]


def _find_overlaps(worker: Worker, task: tuple[str, Sequence[Problem], Measured]) -> list[tuple[str, str, str]]:
    """(benchmark of the rows, another one, its row that one of them gives away)."""
    name, problems, measured = task
    leaks = _index(worker, measured).find_all(problems, without=(name,))
    return [(name, leak.row.benchmark, leak.row.id) for leak in leaks if leak is not None]


def _measured(pool: Pool, benchmarks: Mapping[str, Sequence[Problem]]) -> pa.Table:
    own = (row for split in (_HELDOUT, _PROBE) for row in _own_rows(pool, split))
    return _table([*_benchmark_rows(benchmarks), *own])


def _benchmark_rows(benchmarks: Mapping[str, Sequence[Problem]]) -> list[_Measurable]:
    return [
        (name, row.id, row.prompt, row.domain, row.answer, False) for name, rows in benchmarks.items() for row in rows
    ]


def _table(rows: Sequence[_Measurable]) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in _MEASURED]
    return pa.table(columns, schema=_MEASURED)


def _own_rows(pool: Pool, split: str) -> Iterator[_Measurable]:
    for batch in pool.batches(["split", "id", "prompt", "domain", "answer"]):
        for row in batch.filter(pc.field("split") == split).to_pylist():
            yield split, row["id"], row["prompt"], row["domain"], row["answer"], True


def _background(pool: Pool) -> pa.Table:
    """Prompts spread evenly over the pool: about `_BACKGROUND_ROWS`, the same whatever the number of processes."""
    step = max(1, pool.num_batches * BATCH_ROWS // _BACKGROUND_ROWS)
    prompts = (
        batch["prompt"].to_pylist()[number % step :: step] for number, batch in enumerate(pool.batches(["prompt"]))
    )
    return pa.table({"text": [prompt for chosen in prompts for prompt in chosen]})


def drop_leaks(worker: Worker, task: tuple[pa.Table, Measured]) -> Sifted:
    """The leaks of a batch."""
    batch, measured = task
    index = _index(worker, measured)
    splits = batch["split"].to_pylist()
    problems = problems_from_table(batch)
    drawn = [problem.domain == gym.NAME for problem in problems]
    drops = []
    for without, rows in (
        ((_PROBE,), [row for row, split in enumerate(splits) if split == _PROBE and not drawn[row]]),
        ((), [row for row, split in enumerate(splits) if split not in (_HELDOUT, _PROBE) and not drawn[row]]),
        ((_HELDOUT, _PROBE), [row for row, split in enumerate(splits) if split != _HELDOUT and drawn[row]]),
    ):
        leaks = index.find_all([problems[row] for row in rows], without=without)
        drops += [_drop(row, leak) for row, leak in zip(rows, leaks, strict=True) if leak is not None]
    return Sifted(sorted(drops, key=lambda drop: drop.row))


def _index(worker: Worker, measured: Measured) -> LeakIndex:
    """Made once a process."""
    key = f"{NAME} {measured.path}"
    if key not in worker.kept:
        rows = [MeasuredRow(*row.values()) for row in pq.read_table(measured.path).to_pylist()]
        worker.kept[key] = leak_index(rows, measured.rule, _texts(measured.background), measured.vectors)
    return worker.kept[key]


def _texts(path: Path | None) -> list[str]:
    return pq.read_table(path)["text"].to_pylist() if path else []


def leak_index(
    rows: Sequence[MeasuredRow], rule: Decontamination, background: Sequence[str], vectors: Path | None = None
) -> LeakIndex:
    """The index with the methods that the rule switches on.

    `background` are other texts, from which to learn what is common; `vectors` is a file with the rows' embeddings.
    """
    by_words = bool(rows) and bool(rule.likeness or rule.masked_numbers)
    likeness = Likeness([row.text for row in rows], background) if by_words else None
    translations = Translations([(row.text, row.answer) for row in rows], background) if rule.translated else None
    meanings = Meanings(rule.embeddings, np.load(vectors)) if vectors else None
    return LeakIndex(rows, rule, likeness, translations, meanings)


def _drop(row: int, leak: Leak) -> Drop:
    evidence = f"{leak.row.benchmark}, row {leak.row.id}, {leak.method} {leak.score:.2f}"
    return Drop(row, f"contaminated: {leak.reason}", evidence, leak.method, leak.row.benchmark, leak.row.id, leak.score)
