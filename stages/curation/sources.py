"""Load the recipe's sources in order, set benchmarks aside, and give every other row a split.

A generated row has its source's split. Rows of files and data sets whose `split` is one of ours keep it; `train`, `traces` and
unmarked ones are assigned by `CurationConfig.splits` through a stable hash of (seed, id), without a solution only to rl and
probe. `eval` rows of a benchmark that the recipe names are that benchmark; other `eval` rows are dropped.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from data.benchmarks import find_benchmark
from data.schema import Problem, problems_from_table, read_table, table_from_problems, write_table
from data.sources.files import Row, fitted, load_files
from data.sources.gym import draw_problems
from data.sources.hub import load_hub
from data.sources.procedural import Material, generate_problems, num_spare, plant
from stages.config import CurationConfig, FileSource, GymSource, HubSource, ProceduralSource, Source, Split
from stages.curation.funnel import Step, finished, save_batch
from stages.curation.normalisation import stable_hash
from stages.curation.pool import BATCH_ROWS, Candidate, Drop, Pool, Sifted, pool_table, split_batch
from stages.local_files import DATA_DIR, Place, place_of, places
from stages.records.artifact import write_json
from stages.seeds import derive_seed
from stages.stage import StageLog

NAME = "sources"
_SPLITS = get_args(Split)
_UNASSIGNED = ("", "train", "traces")
_NEEDS_SOLUTION = ("base", "sft", "validation")
_SHOWN = 3  # names of files in one line
_LOADED = "loaded.json"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Rows on their way, and benchmarks by name."""

    pool: Pool
    step: Step
    benchmarks: dict[str, list[Problem]]
    num_rows: int  # read or drawn


@dataclass(slots=True)
class _Loading:
    """What is being read: ids that are taken, the benchmarks so far, and the batch that is not full yet."""

    folder: Path
    config: CurationConfig
    benchmarks: dict[str, list[Problem]]
    taken: dict[int, int] = field(default_factory=dict)  # hash of an id -> hash of its prompt
    shared: Counter[str] = field(default_factory=Counter)  # how often an id was taken already
    prompts: set[str] = field(default_factory=set)  # that a later generator must not draw
    heldout: list[Problem] = field(default_factory=list)  # generated, for dirt to leak
    soiled: dict[str, list[Problem]] = field(default_factory=dict)  # the rows of sources that dirt is planted behind
    rows: list[Candidate] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    num_batches: int = 0

    def add(self, candidate: Candidate, fault: tuple[str, str] | None) -> None:
        """One row more, and the reason and evidence for which it stays at the door."""
        if fault is not None:
            self.drops.append(Drop(len(self.rows), *fault))
        self.rows.append(candidate)
        if len(self.rows) == BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the batch."""
        if self.rows:
            parts = split_batch(pool_table(self.rows), Sifted(self.drops), step=NAME)
            save_batch(self.folder, self.num_batches, *parts)
            self.num_batches += 1
            self.rows, self.drops = [], []


def load_sources(config: CurationConfig, *, data_dir: Path | None, state: Path, log: StageLog) -> Loaded:
    """Every source in order of priority; `data_dir` is one even where the recipe has no source of files.

    Raises ValueError for an unknown benchmark and for a source that cannot be read.
    """
    folder = state / NAME
    if not (folder / _LOADED).exists():
        _load(config, data_dir=data_dir, folder=folder, log=log)
    num_batches = json.loads((folder / _LOADED).read_text(encoding="utf-8"))["batches"]
    pool, step = finished(NAME, folder, num_batches)
    benchmarks: dict[str, list[Problem]] = {name: [] for name in config.benchmarks}
    for problem in problems_from_table(read_table(folder / "benchmarks.parquet")):
        benchmarks[problem.source].append(problem)
    return Loaded(pool, step, benchmarks, step.num_kept + step.num_dropped + sum(map(len, benchmarks.values())))


def _load(config: CurationConfig, *, data_dir: Path | None, folder: Path, log: StageLog) -> None:
    loading = _Loading(folder, config, {find_benchmark(name).name: [] for name in config.benchmarks})
    sources = _with_data_dir(config.sources, data_dir, log)
    for line in reading_lines(places(config, data_dir)):
        log.message(line)
    generators = [number for number, source in enumerate(sources) if isinstance(source, ProceduralSource | GymSource)]
    soiled = [source for source in sources if isinstance(source, ProceduralSource) and source.dirt]
    last_generator = len(sources) if soiled else max(generators, default=-1)
    for number, source in enumerate(sources):
        for row in _read(source, loading, data_dir=data_dir):
            problem = _with_own_id(row.problem, loading)
            if number < last_generator:
                loading.prompts.add(problem.prompt)
            _place(replace(row, problem=problem), source, loading)
        log.progress(number + 1, len(sources), unit="sources", detail=source.name)
    for source in soiled:
        for problem in _dirt(source, loading):
            _place(Row(problem), source, loading)
    loading.flush()
    rows = [problem for problems in loading.benchmarks.values() for problem in problems]
    write_table(table_from_problems(rows), folder / "benchmarks.parquet")
    write_json(folder / _LOADED, {"batches": loading.num_batches})


def _with_data_dir(sources: Sequence[Source], data_dir: Path | None, log: StageLog) -> Sequence[Source]:
    """A data folder is a source even where the recipe has none, and is read in place of all sets of the hub."""
    if data_dir is None:
        return sources
    if replaced := [source.name for source in sources if isinstance(source, HubSource)]:
        log.message(f"--data-dir is read in place of the hub sources {', '.join(replaced)}")
    sources = [source for source in sources if not isinstance(source, HubSource)]
    if any(isinstance(source, FileSource) and source.folder == DATA_DIR for source in sources):
        return sources
    names = {source.name for source in sources}
    name = next(name for name in ("local", DATA_DIR, "local data-dir") if name not in names)
    return [*sources, FileSource(kind="files", name=name, folder=DATA_DIR)]


def reading_lines(found: Iterable[Place]) -> list[str]:
    """A line for each way in which files are read, but for those that have all our columns."""
    files: dict[str, list[str]] = {}
    for place in found:
        for name, reading in place.readings().items():
            if not reading.is_uniform:
                files.setdefault(reading.describe(), []).append(name)
    return [f"{_some(names)}: {line}" for line, names in files.items()]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _read(source: Source, loading: _Loading, *, data_dir: Path | None) -> Iterator[Row]:
    match source:
        case ProceduralSource():
            yield from map(Row, _drawn(source, loading))
        case GymSource():
            yield from map(Row, _from_gym(source, loading))
        case FileSource():
            place = place_of(source, loading.config, data_dir)
            limit = loading.config.max_row_bytes
            yield from load_files(place.path, columns=place.columns, max_row_bytes=limit, max_rows=source.max_rows)
        case HubSource():
            limit = loading.config.max_row_bytes
            yield from (fitted(problem, limit, where=source.name) for problem in _hub_problems(source))


def _drawn(source: ProceduralSource, loading: _Loading) -> list[Problem]:
    problems = generate_problems(
        name=source.name,
        split=source.split,
        num_problems=source.num_problems,
        kinds=source.kinds,
        levels=source.levels,
        seed=loading.config.seed,
        exclude=loading.prompts,
    )
    if source.split == "heldout":
        loading.heldout.extend(problems)
    if source.dirt:
        loading.soiled[source.name] = problems
    return problems


def _from_gym(source: GymSource, loading: _Loading) -> list[Problem]:
    return draw_problems(
        name=source.name,
        split=source.split,
        num_problems=source.num_problems,
        generators=source.generators,
        settings=source.settings,
        seed=loading.config.seed,
        exclude=loading.prompts,
    )


def _dirt(source: ProceduralSource, loading: _Loading) -> list[Problem]:
    """Planted when all sources are read, so that every other row is the same with and without it."""
    shares = source.dirt.model_dump() if source.dirt else {}
    clean, seed = loading.soiled.get(source.name, []), loading.config.seed
    spare = generate_problems(
        name=f"{source.name}-dirt",
        split=source.split,
        num_problems=num_spare(shares, len(clean)),
        kinds=source.kinds,
        levels=source.levels,
        seed=seed,
        exclude=loading.prompts,
    )
    loading.prompts.update(problem.prompt for problem in spare)
    material = Material(clean, spare, loading.heldout)
    return plant(source.name, material, shares=shares, split=source.split, seed=seed)


def _hub_problems(source: HubSource) -> Iterable[Problem]:
    problems = load_hub(
        source.repo,
        revision=source.revision,
        subset=source.subset,
        split=source.split,
        name=source.name,
        domain=source.domain,
        columns=source.columns,
        licence=source.licence,
    )
    if not source.benchmark:
        return problems
    measured = find_benchmark(source.benchmark).name
    return (replace(problem, split="eval", source=measured) for problem in problems)


def _with_own_id(problem: Problem, loading: _Loading) -> Problem:
    """The problem, under another id if a different problem has this one: files are numbered independently of each other."""
    own, prompt = problem.id, stable_hash(problem.prompt)
    named = f"{problem.source}/{problem.id}"
    while loading.taken.setdefault(stable_hash(own), prompt) != prompt:
        loading.shared[named] += 1
        number = loading.shared[named]
        own = named if number == 1 else f"{named}/{number}"
    return problem if own == problem.id else replace(problem, id=own)


# ---------------------------------------------------------------- where a row goes


def _place(row: Row, source: Source, loading: _Loading) -> None:
    problem = row.problem
    candidate = Candidate(problem, source.name, generated=isinstance(source, ProceduralSource | GymSource))
    if row.fault:
        loading.add(candidate, (row.fault, row.evidence))
    elif candidate.generated:
        loading.add(candidate, None)
    elif problem.split == "eval":
        _set_aside(candidate, loading)
    else:
        _assign(candidate, loading)


def _set_aside(candidate: Candidate, loading: _Loading) -> None:
    for name, rows in loading.benchmarks.items():
        if find_benchmark(name).owns(candidate.problem.source, candidate.problem.metadata):
            rows.append(replace(candidate.problem, source=name))
            return
    loading.add(candidate, ("evaluation row", f"{candidate.problem.source} is no benchmark of the recipe"))


def _assign(candidate: Candidate, loading: _Loading) -> None:
    problem = candidate.problem
    if problem.split in _SPLITS:
        loading.add(candidate, None)
    elif problem.split not in _UNASSIGNED:
        known = ", ".join((*_SPLITS, "train", "traces", "eval"))
        loading.add(candidate, ("unknown split", f"{problem.split!r} is none of {known}"))
    elif split := assigned_split(problem, loading.config):
        loading.add(replace(candidate, problem=replace(problem, split=split)), None)
    else:
        loading.add(candidate, ("no split for a row without solution", f"shares are {loading.config.splits}"))


def assigned_split(problem: Problem, config: CurationConfig) -> str | None:
    """The split of an unmarked row by a stable hash of (seed, id); None where no share takes it."""
    open_to = {
        split: share
        for split, share in sorted(config.splits.items())
        if share > 0 and (problem.solution.strip() or split not in _NEEDS_SOLUTION)
    }
    point = derive_seed(config.seed, "curation", "split", problem.id) / 2**63 * sum(open_to.values())
    for split, share in open_to.items():
        point -= share
        if point < 0:
            return split
    return next(reversed(open_to), None)
