"""The funnel: steps applied to the pool one after the other, over processes, each finished batch kept in the resume state.

Under `state/<step>/`: `kept/NNNNN.parquet`, `dropped/NNNNN.parquet` and, written last, `done/NNNNN.json` with the counts. What has
its JSON is not done again, so a stage that was killed goes on where it stopped.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.domains import Judge
from data.schema import write_table
from stages.config import Runtime
from stages.curation.pool import Drop, Pool, Sifted, batch_path, split_batch
from stages.stage import StageLog
from stages.workers import Worker, work_through

Task = tuple[pa.Table, Any]  # rows, and what the step wants to know
Function = Callable[[Worker, Any], Any]  # any: a task of the step's own, and what it makes of it


@dataclass(frozen=True, slots=True)
class Step:
    """A finished step of the funnel."""

    name: str
    folder: Path
    num_batches: int
    num_kept: int
    num_dropped: int
    num_judged: int
    reasons: Counter[str] = field(default_factory=Counter)

    def dropped(self) -> Iterator[pa.Table]:
        """The dropped rows of each batch that lost some, in order."""
        for number in range(self.num_batches):
            path = batch_path(self.folder / "dropped", number)
            if path.exists():
                yield pq.read_table(path)


@dataclass(slots=True)
class Funnel:
    """Where the steps of one curation are done."""

    state: Path
    runtime: Runtime
    log: StageLog

    def sift(
        self,
        name: str,
        function: Function,
        pool: Pool,
        settings: object = None,
        *,
        part_rows: int | None = None,
    ) -> tuple[Pool, Step]:
        """Apply `function` (worker, (rows, settings)) -> Sifted to every batch, in parts of `part_rows` rows where the work is heavy."""
        for number, batch, sifted in self._sifted(name, function, pool, settings, part_rows):
            kept, dropped = split_batch(batch, sifted, step=name)
            save_batch(self.state / name, number, kept, dropped, num_judged=sifted.num_judged)
        return self.finish(name, pool)

    def _sifted(
        self,
        name: str,
        function: Function,
        pool: Pool,
        settings: object,
        part_rows: int | None,
    ) -> Iterator[tuple[int, pa.Table, Sifted]]:
        """Batches that are not done yet, as they are finished."""
        missing = [n for n in range(pool.num_batches) if not _done_path(self.state / name, n).exists()]
        if missing and len(missing) < pool.num_batches:
            self.log.resumed(f"{name} goes on after {pool.num_batches - len(missing)} of {pool.num_batches} batches")
        open_batches: dict[int, _OpenBatch] = {}
        places: list[tuple[int, int]] = []  # position of a part -> its batch and its number in it

        def parts() -> Iterator[Task]:
            for number in missing:
                batch = pool.read(number)
                pieces = _slices(batch, part_rows or len(batch))
                open_batches[number] = _OpenBatch(batch, [None] * len(pieces), part_rows or len(batch))
                places.extend((number, piece) for piece in range(len(pieces)))
                yield from ((piece, settings) for piece in pieces)

        inline = len(missing) <= 1 and part_rows is None
        for position, sifted in _through(function, parts(), runtime=self.runtime, inline=inline):
            number, piece = places[position]
            current = open_batches[number]
            current.found[piece] = sifted
            if all(found is not None for found in current.found):
                del open_batches[number]
                yield number, current.batch, current.merged()
                self.log.progress(number + 1, pool.num_batches, unit="batches", detail=name)

    def derive(self, name: str, function: Function, pool: Pool, settings: object = None) -> Iterator[pa.Table]:
        """`function` (worker, (rows, settings)) -> table of every batch, in order; nothing is dropped."""
        folder = self.state / name
        missing = [number for number in range(pool.num_batches) if not batch_path(folder, number).exists()]
        parts = ((pool.read(number), settings) for number in missing)
        for position, table in _through(function, parts, runtime=self.runtime, inline=len(missing) <= 1):
            write_table(table, batch_path(folder, missing[position]))
            self.log.progress(missing[position] + 1, pool.num_batches, unit="batches", detail=name)
        for number in range(pool.num_batches):
            yield pq.read_table(batch_path(folder, number))

    def work(self, function: Function, chunks: Iterator[Any], *, inline: bool) -> Iterator[Any]:
        """Results of `function` (worker, chunk) in the order of the chunks; not kept."""
        early: dict[int, Any] = {}
        due = 0
        for position, result in _through(function, chunks, runtime=self.runtime, inline=inline):
            early[position] = result
            while due in early:
                yield early.pop(due)
                due += 1

    def is_done(self, name: str, pool: Pool) -> bool:
        """Whether every batch has been through the step."""
        return all(_done_path(self.state / name, number).exists() for number in range(pool.num_batches))

    def finish(self, name: str, pool: Pool) -> tuple[Pool, Step]:
        """What a step left that is done; the rows before it are removed."""
        shutil.rmtree(pool.folder, ignore_errors=True)
        return finished(name, self.state / name, pool.num_batches)

    def drop(self, name: str, pool: Pool, drops: Iterable[Sequence[Drop]]) -> tuple[Pool, Step]:
        """Drop the rows that are named for each batch."""
        if not self.is_done(name, pool):
            for number, gone in enumerate(drops):
                save_batch(self.state / name, number, *split_batch(pool.read(number), Sifted(gone), step=name))
        return self.finish(name, pool)


@dataclass(slots=True)
class _OpenBatch:
    """A batch of which some parts are still at work."""

    batch: pa.Table
    found: list[Sifted | None]
    part_rows: int

    def merged(self) -> Sifted:
        parts = [found for found in self.found if found is not None]
        drops = [_moved(drop, number * self.part_rows) for number, found in enumerate(parts) for drop in found.drops]
        names = parts[0].changed if parts else {}
        changed = {name: [value for found in parts for value in found.changed[name]] for name in names}
        return Sifted(drops, changed, num_judged=sum(found.num_judged for found in parts))


def _moved(drop: Drop, by: int) -> Drop:
    return Drop(drop.row + by, drop.reason, drop.evidence, drop.method, drop.benchmark, drop.against, drop.score)


def _slices(batch: pa.Table, rows: int) -> list[pa.Table]:
    return [batch.slice(start, rows) for start in range(0, len(batch), max(rows, 1))] or [batch]


def _through(function: Function, parts: Iterator[Task], *, runtime: Runtime, inline: bool) -> Iterator[tuple[int, Any]]:
    """A single batch is not worth a process."""
    if not inline:
        yield from work_through(function, parts, runtime=runtime)
        return
    with Judge(unsafe_local_execution=runtime.unsafe_local_execution) as judge:
        worker = Worker(runtime, judge)
        yield from ((position, function(worker, part)) for position, part in enumerate(parts))


# ---------------------------------------------------------------- files of a step


def save_batch(folder: Path, number: int, kept: pa.Table, dropped: pa.Table, *, num_judged: int = 0) -> None:
    """The batch's files; the one that says it is done comes last."""
    write_table(kept, batch_path(folder / "kept", number))
    if len(dropped):
        write_table(dropped, batch_path(folder / "dropped", number))
    reasons = Counter(dropped["reason"].to_pylist())
    counts = {
        "kept": len(kept),
        "dropped": len(dropped),
        "judged": num_judged,
        "reasons": dict(sorted(reasons.items())),
    }
    done = _done_path(folder, number)
    done.parent.mkdir(parents=True, exist_ok=True)
    beside = done.with_suffix(".new")
    beside.write_text(json.dumps(counts), encoding="utf-8")
    beside.replace(done)


def _done_path(folder: Path, number: int) -> Path:
    return folder / "done" / f"{number:05d}.json"


def finished(name: str, folder: Path, num_batches: int) -> tuple[Pool, Step]:
    """What a step left, from its files."""
    counts = [json.loads(_done_path(folder, number).read_text(encoding="utf-8")) for number in range(num_batches)]
    reasons: Counter[str] = Counter()
    for count in counts:
        reasons.update(count["reasons"])
    step = Step(
        name,
        folder,
        num_batches,
        num_kept=sum(count["kept"] for count in counts),
        num_dropped=sum(count["dropped"] for count in counts),
        num_judged=sum(count["judged"] for count in counts),
        reasons=reasons,
    )
    return Pool(folder / "kept", num_batches), step
