"""The funnel: steps applied to the pool one after the other, over processes, each finished batch kept in the resume state.

Under `state/<step>/`: `kept/NNNNN.parquet`, `dropped/NNNNN.parquet` and, written last, `done/NNNNN.json` with the counts. What has
its JSON is not done again, so a stage that was killed goes on where it stopped.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.domains import Judge
from data.schema import write_table
from stages.config import Runtime
from stages.curation.pool import Drop, Pool, Sifted, batch_path, split_batch
from stages.sampling.workers import Worker, WorkThrough, work_through
from stages.stage import StageLog

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
    work_through: WorkThrough = work_through

    def sift(
        self,
        name: str,
        function: Function,
        pool: Pool,
        settings: object = None,
        *,
        part_rows: int | None = None,
    ) -> tuple[Pool, Step]:
        """Apply `function` (worker, (rows, settings)) -> Sifted to every batch, in parts of `part_rows` rows where the work is heavy.

        On a cluster a part is a whole batch: a task costs more there than a message between two processes.
        """
        for number, sifted in self._sifted(name, function, pool, settings, part_rows):
            kept, dropped = split_batch(pool.read(number), sifted, step=name)
            save_batch(self.state / name, number, kept, dropped, num_judged=sifted.num_judged)
        return self.finish(name, pool)

    def _sifted(
        self,
        name: str,
        function: Function,
        pool: Pool,
        settings: object,
        part_rows: int | None,
    ) -> Iterator[tuple[int, Sifted]]:
        """Batches that are not done yet, as they are finished."""
        missing = [n for n in range(pool.num_batches) if not _done_path(self.state / name, n).exists()]
        if missing and len(missing) < pool.num_batches:
            self.log.resumed(f"{name} goes on after {pool.num_batches - len(missing)} of {pool.num_batches} batches")
        open_batches: dict[int, _OpenBatch] = {}
        places: list[tuple[int, int]] = []  # position of a part -> its batch and its number in it
        part_rows = None if self.runtime.dask_address else part_rows

        def tasks() -> Iterator[_Task]:
            for number in missing:
                parts = _parts(pool.path(number), part_rows)
                open_batches[number] = _OpenBatch([None] * len(parts), [part.start for part in parts])
                places.extend((number, piece) for piece in range(len(parts)))
                yield from ((function, part, settings) for part in parts)

        num_done = pool.num_batches - len(missing)
        inline = len(missing) <= 1 and all(len(_parts(pool.path(number), part_rows)) <= 1 for number in missing)
        for position, sifted in self._through(_apply, tasks(), inline=inline):
            number, piece = places[position]
            current = open_batches[number]
            current.found[piece] = sifted
            if all(found is not None for found in current.found):
                del open_batches[number]
                yield number, current.merged()
                num_done += 1
                self.log.progress(num_done, pool.num_batches, unit="batches", detail=name)

    def derive(self, name: str, function: Function, pool: Pool, settings: object = None) -> Iterator[pa.Table]:
        """`function` (worker, (rows, settings)) -> table of every batch, in order; nothing is dropped."""
        folder = self.state / name
        missing = [number for number in range(pool.num_batches) if not batch_path(folder, number).exists()]
        tasks = ((function, _parts(pool.path(number))[0], settings) for number in missing)
        num_done = pool.num_batches - len(missing)
        for position, table in self._through(_apply, tasks, inline=len(missing) <= 1):
            write_table(table, batch_path(folder, missing[position]))
            num_done += 1
            self.log.progress(num_done, pool.num_batches, unit="batches", detail=name)
        for number in range(pool.num_batches):
            yield pq.read_table(batch_path(folder, number))

    def work(self, function: Function, chunks: Iterator[Any], *, inline: bool) -> Iterator[Any]:
        """Results of `function` (worker, chunk) in the order of the chunks; not kept."""
        early: dict[int, Any] = {}
        due = 0
        for position, result in self._through(function, chunks, inline=inline):
            early[position] = result
            while due in early:
                yield early.pop(due)
                due += 1

    def _through(self, function: Function, tasks: Iterator[Any], *, inline: bool) -> Iterator[tuple[int, Any]]:
        """A single task is not worth a process."""
        if not inline:
            yield from self.work_through(function, tasks, runtime=self.runtime)
            return
        with Judge(unsafe_local_execution=self.runtime.unsafe_local_execution) as judge:
            worker = Worker(self.runtime, judge)
            yield from ((position, function(worker, task)) for position, task in enumerate(tasks))

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

    found: list[Sifted | None]
    starts: list[int]

    def merged(self) -> Sifted:
        parts = [found for found in self.found if found is not None]
        drops = [_moved(drop, start) for start, found in zip(self.starts, parts, strict=True) for drop in found.drops]
        names = parts[0].changed if parts else {}
        changed = {name: [value for found in parts for value in found.changed[name]] for name in names}
        return Sifted(drops, changed, num_judged=sum(found.num_judged for found in parts))


def _moved(drop: Drop, by: int) -> Drop:
    return replace(drop, row=drop.row + by)


# ---------------------------------------------------------------- in the process that does the work


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a batch by the file that holds them: whoever works on them reads it."""

    path: Path
    start: int
    num_rows: int


_Task = tuple[Function, Part, Any]  # what is done, the rows, and what the step wants to know
_LAST_BATCH = "last batch"


def _parts(path: Path, rows: int | None = None) -> list[Part]:
    total = max(pq.read_metadata(path).num_rows, 1)
    return [Part(path, start, rows or total) for start in range(0, total, rows or total)]


def _apply(worker: Worker, task: _Task) -> Any:  # noqa: ANN401 - what the function makes of the rows
    function, part, settings = task
    return function(worker, (_rows(worker, part), settings))


def _rows(worker: Worker, part: Part) -> pa.Table:
    """The rows of a part; parts of one batch follow each other, so the batch is kept until another one is read."""
    path, batch = worker.kept.get(_LAST_BATCH, (None, None))
    if path != part.path:
        batch = pq.read_table(part.path)
        worker.kept[_LAST_BATCH] = (part.path, batch)
    return batch.slice(part.start, part.num_rows)


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
