"""Load the recipe's sources in order, set benchmarks aside, and give every other row a split.

A generated row has its source's split. Rows of files and data sets whose `split` is one of ours keep it; `train`, `traces` and
unmarked ones are assigned by `CurationConfig.splits` through a stable hash of (seed, id), without a solution only to rl and
probe. `eval` rows of a benchmark that the recipe names are that benchmark; other `eval` rows are dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from data.benchmarks import find_benchmark
from data.schema import Problem
from data.sources.hub import load_hub
from data.sources.parquet import load_folder
from data.sources.procedural import generate_problems
from stages.config import CurationConfig, HubSource, ParquetSource, ProceduralSource, Source, Split
from stages.curation.pool import Candidate, Drop
from stages.seeds import derive_seed
from stages.stage import StageLog

DATA_DIR = "data-dir"
_SPLITS = get_args(Split)
_UNASSIGNED = ("", "train", "traces")
_NEEDS_SOLUTION = ("sft", "validation")


@dataclass(slots=True)
class Loaded:
    """Rows on their way, benchmarks by name, and what was dropped at the door."""

    candidates: list[Candidate] = field(default_factory=list)
    benchmarks: dict[str, list[Problem]] = field(default_factory=dict)
    dropped: list[Drop] = field(default_factory=list)
    revisions: dict[str, str] = field(default_factory=dict)  # by source

    @property
    def num_rows(self) -> int:
        """Rows read or drawn."""
        return len(self.candidates) + len(self.dropped) + sum(len(rows) for rows in self.benchmarks.values())


def load_sources(config: CurationConfig, *, data_dir: Path | None, log: StageLog) -> Loaded:
    """Every source in order of priority; `data_dir` is one even where the recipe has no parquet source.

    Raises ValueError for an unknown benchmark and for a source that cannot be read.
    """
    loaded = Loaded(benchmarks={find_benchmark(name).name: [] for name in config.benchmarks})
    taken: dict[str, str] = {}  # id -> prompt
    sources = _with_data_dir(config.sources, data_dir)
    for done, source in enumerate(sources, start=1):
        for problem in _read(source, config, loaded, data_dir=data_dir):
            _place(_with_own_id(problem, taken), source, config, loaded)
        if isinstance(source, HubSource):
            loaded.revisions[source.name] = source.revision
        log.progress(done, len(sources), unit="sources", detail=source.name)
    return loaded


def _with_data_dir(sources: Sequence[Source], data_dir: Path | None) -> list[Source]:
    uses_it = any(isinstance(source, ParquetSource) and source.folder == DATA_DIR for source in sources)
    if data_dir is None or uses_it:
        return list(sources)
    names = {source.name for source in sources}
    name = next(name for name in ("local", DATA_DIR, "local data-dir") if name not in names)
    return [*sources, ParquetSource(kind="parquet", name=name, folder=DATA_DIR)]


def _read(source: Source, config: CurationConfig, loaded: Loaded, *, data_dir: Path | None) -> Iterable[Problem]:
    match source:
        case ProceduralSource():
            return generate_problems(
                name=source.name,
                split=source.split,
                num_problems=source.num_problems,
                kinds=source.kinds,
                levels=source.levels,
                seed=config.seed,
                exclude={candidate.problem.prompt for candidate in loaded.candidates},
            )
        case ParquetSource():
            if source.folder == DATA_DIR and data_dir is None:
                raise ValueError(
                    f"source {source.name!r} reads the folder of --data-dir, and none was given: add --data-dir DIR"
                )
            return load_folder(data_dir if source.folder == DATA_DIR and data_dir else Path(source.folder))
        case HubSource():
            return load_hub(
                source.repo,
                revision=source.revision,
                split=source.split,
                name=source.name,
                domain=source.domain,
                columns=source.columns,
                licence=source.licence,
            )


def _with_own_id(problem: Problem, taken: dict[str, str]) -> Problem:
    """The problem, under another id if a different problem has this one: files are numbered independently of each other."""
    number, own = 1, problem.id
    while taken.setdefault(own, problem.prompt) != problem.prompt:
        own = f"{problem.source}/{problem.id}" if number == 1 else f"{problem.source}/{problem.id}/{number}"
        number += 1
    return problem if own == problem.id else replace(problem, id=own)


# ---------------------------------------------------------------- where a row goes


def _place(problem: Problem, source: Source, config: CurationConfig, loaded: Loaded) -> None:
    if isinstance(source, ProceduralSource):
        loaded.candidates.append(Candidate(problem, source.name, generated=True))
    elif problem.split == "eval":
        _set_aside(problem, source, loaded)
    else:
        _assign(problem, source, config, loaded)


def _set_aside(problem: Problem, source: Source, loaded: Loaded) -> None:
    for name, rows in loaded.benchmarks.items():
        if problem.source in find_benchmark(name).sources:
            rows.append(replace(problem, source=name))
            return
    candidate = Candidate(problem, source.name, generated=False)
    loaded.dropped.append(Drop(candidate, "evaluation row", f"{problem.source} is no benchmark of the recipe"))


def _assign(problem: Problem, source: Source, config: CurationConfig, loaded: Loaded) -> None:
    candidate = Candidate(problem, source.name, generated=False)
    if problem.split in _SPLITS:
        loaded.candidates.append(candidate)
    elif problem.split not in _UNASSIGNED:
        known = ", ".join((*_SPLITS, "train", "traces", "eval"))
        loaded.dropped.append(Drop(candidate, "unknown split", f"{problem.split!r} is none of {known}"))
    elif split := assigned_split(problem, config):
        loaded.candidates.append(replace(candidate, problem=replace(problem, split=split)))
    else:
        loaded.dropped.append(Drop(candidate, "no split for a row without solution", f"shares are {config.splits}"))


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
