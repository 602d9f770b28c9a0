"""The rows of a benchmark, from a local folder or from the hub, held to the version that was frozen.

A local folder holds rows of `data/schema.py`, which the benchmark owns by their `source` as in curation, or the set in its authors' form:
a file called after the benchmark or one of its sources, or a folder below called after it. What a folder holds is taken in place of the
hub. Local rows must be those of the frozen manifest, where there is one; rows of the hub are those of a pinned commit.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data.benchmarks.catalogue import BENCHMARKS, Benchmark
from data.benchmarks.forms import problem_of
from data.benchmarks.manifest import frozen, require_frozen, require_own_ids
from data.domains.policy import DEFAULT_POLICY, Policy
from data.schema import PROBLEM_COLUMNS, Problem
from data.sources.files import load_files
from data.sources.formats import Columns, kind_of, problem_files, read_batches, read_head, stem_of
from data.sources.hub import load_rows

HERE, HUB, GATED, ABSENT = "here", "hub", "gated", "not available here"
Place = Literal["here", "hub", "gated", "not available here"]


class NotAvailableError(ValueError):
    """A benchmark whose rows are not at hand: a table says `not available here` for it, and never a number."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where the rows of one benchmark are."""

    name: str
    place: Place
    detail: str  # the files, the data set of the hub, or what is missing


@dataclass(frozen=True, slots=True)
class _Folder:
    """What lies in a local folder."""

    path: Path
    sources: Mapping[str, Sequence[Path]]  # `source` of the `eval` rows of our schema -> the files that hold some
    others: tuple[Path, ...]  # files that are not of our schema


@dataclass(frozen=True, slots=True)
class _Files:
    """Files of one local folder that hold a benchmark."""

    ours: tuple[Path, ...]  # rows of our schema
    public: tuple[Path, ...]  # in the form of the set's authors


def verifier_policy(benchmark: Benchmark) -> Policy:
    """How its answers are judged."""
    return replace(DEFAULT_POLICY, **dict(benchmark.policy))


def load_benchmark(
    benchmark: Benchmark, *, data_dir: Path | None = None, revision: str | None = None, another_version: bool = False
) -> list[Problem]:
    """Its rows, in the order of the files or the data set, with split `eval` and the benchmark's name as source.

    `data_dir` is read in place of the hub. `revision` is a commit of the data set other than the pinned one. `another_version` takes local
    rows that are not those of the frozen manifest.

    Raises:
        NotAvailableError: the rows are not in the folder; or the set is on no hub, has no pinned commit, or cannot be reached.
        ValueError: a row that is none of the set's form, or not the one of the frozen manifest; an id that two rows have; a folder
            that cannot be read, or holds the set twice.

    """
    if data_dir is None:
        problems, manifest = _from_hub(benchmark, revision or benchmark.revision), None
    else:
        problems = _local(benchmark, data_dir)
        manifest = None if another_version else frozen(benchmark.name)
    require_own_ids(benchmark.name, problems)
    if manifest is not None:
        require_frozen(benchmark.name, problems, manifest)
    return problems


def whereabouts(
    benchmarks: Iterable[Benchmark] = BENCHMARKS.values(), *, data_dir: Path | None = None
) -> list[Whereabouts]:
    """Where each of them is, without asking the hub. Raises ValueError for a folder that cannot be read."""
    folder = None if data_dir is None else _look_into(data_dir)
    return [_whereabouts(benchmark, folder) for benchmark in benchmarks]


def _whereabouts(benchmark: Benchmark, folder: _Folder | None) -> Whereabouts:
    if folder is not None:
        found = _files(benchmark, folder)
        if names := [path.name for path in (*found.ours, *found.public)]:
            return Whereabouts(benchmark.name, HERE, ", ".join(names))
    missing = _not_on_hub(benchmark, benchmark.revision)
    if benchmark.is_gated:
        return Whereabouts(
            benchmark.name, GATED, f"{benchmark.repo} asks for consent to its terms{'; ' * bool(missing)}{missing}"
        )
    if missing:
        return Whereabouts(benchmark.name, ABSENT, missing)
    return Whereabouts(benchmark.name, HUB, f"{benchmark.repo} at {benchmark.revision}")


# ---------------------------------------------------------------- a local folder


def _local(benchmark: Benchmark, data_dir: Path) -> list[Problem]:
    found = _files(benchmark, _look_into(data_dir))
    if found.ours and found.public:
        raise ValueError(
            f"benchmark {benchmark.name}: {data_dir} holds it twice, as rows of our schema in {found.ours[0].name} and in its own form in"
            f" {found.public[0].name}; take one away"
        )
    if not found.ours and not found.public:
        raise NotAvailableError(
            f"benchmark {benchmark.name}: {data_dir} holds no `eval` row with the source {' or '.join(benchmark.sources)}, and no file"
            f" {benchmark.name}.* in the form of the set; {_way_out(benchmark)}"
        )
    problems = [problem for file in found.ours for problem in _owned(file, benchmark)]
    for file in found.public:
        problems += _converted(_rows_of(file), benchmark, where=file.name)
    if not problems:
        raise NotAvailableError(
            f"benchmark {benchmark.name}: none of the rows in {data_dir} is one of its; {_way_out(benchmark)}"
        )
    return problems


def _way_out(benchmark: Benchmark) -> str:
    if benchmark.repo and benchmark.form:
        return f"put {benchmark.repo} of the hub there, or leave the folder out"
    return "give a folder that holds it (docs/own-data.md)"


def _look_into(data_dir: Path) -> _Folder:
    sources: dict[str, list[Path]] = {}
    others = []
    for file in _files_of(data_dir):
        if not set(PROBLEM_COLUMNS) <= set(read_head(file, enough=PROBLEM_COLUMNS).columns):
            others.append(file)
            continue
        batches = read_batches(file, ("split", "source"))
        for source in sorted({source for batch in batches for source in _evaluated(batch)}):
            sources.setdefault(source, []).append(file)
    return _Folder(data_dir, sources, tuple(others))


def _files_of(data_dir: Path) -> list[Path]:
    """The folder's own files; it needs none where folders below it are called after benchmarks."""
    if data_dir.is_dir() and any((data_dir / name).is_dir() for name in BENCHMARKS):
        return [path for path in sorted(data_dir.iterdir()) if path.is_file() and kind_of(path) is not None]
    return problem_files(data_dir, what="data folder")


def _evaluated(batch: Columns) -> Iterator[str]:
    for split, source in zip(batch["split"], batch["source"], strict=True):
        if _decoded(split) == "eval":
            yield _decoded(source)


def _decoded(cell: Any) -> str:  # noqa: ANN401 - a cell of any type
    return cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)


def _files(benchmark: Benchmark, folder: _Folder) -> _Files:
    ours = tuple(dict.fromkeys(path for source in benchmark.sources for path in folder.sources.get(source, ())))
    if not benchmark.form:
        return _Files(ours, ())
    below = folder.path / benchmark.name
    own = problem_files(below, what=f"benchmark {benchmark.name}") if below.is_dir() else []
    return _Files(ours, (*(path for path in folder.others if stem_of(path) in benchmark.sources), *own))


def _owned(file: Path, benchmark: Benchmark) -> Iterator[Problem]:
    for row in load_files(file, columns={}, max_row_bytes=sys.maxsize):
        problem = row.problem
        if problem.split == "eval" and benchmark.owns(problem.source, problem.metadata):
            if row.fault:
                raise ValueError(
                    f"benchmark {benchmark.name}: row {problem.id} of {file.name} has {row.fault}: {row.evidence}"
                )
            yield replace(problem, source=benchmark.name)


def _rows_of(file: Path) -> Iterator[dict[str, Any]]:
    for batch in read_batches(file):
        for values in zip(*batch.values(), strict=True):
            yield {name: _text_of(value) for name, value in zip(batch, values, strict=True)}


def _text_of(value: Any) -> Any:  # noqa: ANN401 - a cell of any type
    """CSV gives bytes, and nothing for an empty cell."""
    if isinstance(value, bytes):
        return value.decode() or None
    return value


# ---------------------------------------------------------------- the form of the set's authors


def _converted(rows: Iterable[Mapping[str, Any]], benchmark: Benchmark, *, where: str) -> list[Problem]:
    """The rows that the benchmark's filter keeps, as problems. Raises ValueError that names the row."""
    problems, number = [], 0
    for number, row in enumerate(rows, start=1):
        try:
            if benchmark.rows is None or benchmark.rows.keeps(row):
                problems.append(problem_of(row, benchmark, number - 1))
        except ValueError as error:
            raise ValueError(f"benchmark {benchmark.name}: {where}, row {number}: {error}") from error
    if not problems:
        raise ValueError(f"benchmark {benchmark.name}: {where}: none of {number} rows belongs to it ({benchmark.rows})")
    return problems


# ---------------------------------------------------------------- the hub


def _not_on_hub(benchmark: Benchmark, revision: str | None) -> str:
    """Why it cannot be loaded from there; empty where it can."""
    if not benchmark.repo:
        return "on no hub"
    if not benchmark.form:
        return f"no loader for the form of {benchmark.repo}"
    return "" if revision else f"no commit of {benchmark.repo} is pinned"


def _from_hub(benchmark: Benchmark, revision: str | None) -> list[Problem]:
    missing = _not_on_hub(benchmark, revision)
    if missing or revision is None:
        way_out = "give one as `revision`, or a" if benchmark.repo and benchmark.form else "give a"
        raise NotAvailableError(
            f"benchmark {benchmark.name}: {missing}; {way_out} folder that holds the set (data_dir)"
        )
    return [problem for subset in benchmark.subsets for problem in _subset(benchmark, subset, revision)]


def _subset(benchmark: Benchmark, subset: str, revision: str) -> list[Problem]:
    where = f"benchmark {benchmark.name}"
    try:
        rows = load_rows(
            benchmark.repo, revision=revision, subset=subset, split=benchmark.split, files=benchmark.files, where=where
        )
    except ValueError as error:
        raise NotAvailableError(str(error)) from error
    problems = _converted(rows, benchmark, where=" ".join(filter(None, (benchmark.repo, subset))))
    if len(benchmark.subsets) == 1:
        return problems
    start = len(benchmark.name)
    return [replace(problem, id=f"{benchmark.name}/{subset}{problem.id[start:]}") for problem in problems]
