"""Does a test fail when a line of the source is made wrong? Small seeded edits of each file, and the tests of its folder on each.

    python -m benchmarks source_mutants [PATHS ...] [--seed 0] [--per-file 12] [--fast] [--json] [--least 0.9]

For stages/rl/x.py those of tests/stages/rl: tests/stages/rl/test_x.py first, slow tests last, up to the first that fails. A test that
takes far longer than on the file as it is counts as failed. Everything happens in copies of the tree, two at a time. `--fast` leaves
slow tests out. Prints, by file, how many edits were noticed ("killed") and those that were not. With `--least` the exit code is 1
where a file has a lower share. The kinds of edits are those of `source_edits`; `SAME` lists those that nothing can notice.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from benchmarks.source_edits import Edit, drawn, edits_of

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_PATHS = ("stages/rl", "stages/sampling", "stages/training")
NUM_LANES = 2
BASELINE_SECONDS = 900.0  # a test may take, before anything is known of it
PATIENCE_SECONDS, PATIENCE_FACTOR = 20.0, 4.0  # what a test may take beside, and as a multiple of, what it takes

SAME: dict[str, dict[str, str]] = {
    "stages/rl/probe.py": {
        "deque(sampler.sample(chunks), maxlen=0) -> deque(sampler.sample(chunks), maxlen=1)": "what it keeps is not looked at",
    },
    "stages/rl/prompts.py": {
        "num_correct: int = 0 -> num_correct: int = 1": "a problem without a row was not judged, whatever it solved",
        "if self._orders.get(domain, (-1, []))[0] != pass_: -> if self._orders.get(domain, (-1, []))[1] != pass_:":
            "an order that is drawn again is the same",
    },
    "stages/rl/samples.py": {
        "shutil.rmtree(self.chunk_path(step, 0).parent, ignore_errors=True) -> "
        "shutil.rmtree(self.chunk_path(step, 1).parent, ignore_errors=True)":
            "the chunks of a step lie in one folder",
    },
    "stages/rl/selection.py": {
        "turns = range(max(more, default=0)) -> turns = range((max(more, default=0)) + 1)": "in a turn past the last nobody wants",
        "turns = range(max(more, default=0)) -> turns = range(max(more, default=1))": "there is at least one virtual rank",
    },
    "stages/sampling/asking.py": {"seeds=[0], -> seeds=[1],": "a greedy response takes no random number"},
    "stages/sampling/judging.py": {
        "answers = feather.read_table(chunk.answers, memory_map=False) -> answers = feather.read_table(chunk.answers, memory_map=True)":
            "read once and let go within the call",
    },
    "stages/sampling/workers.py": {
        "multiprocessing.util.Finalize(None, _process.stack.close, exitpriority=100) -> "
        "multiprocessing.util.Finalize(None, _process.stack.close, exitpriority=101)":
            "higher than that of any other",
    },
    "stages/training/schedule.py": {
        "if step <= warmup_steps: -> if step < warmup_steps:": "at the last step of the warm-up both lines give the peak",
        "if step <= optimizer.warmup_steps: -> if step < optimizer.warmup_steps:": "at its last step both lines give the peak",
        "way = (step - warmup_steps) / max(1, num_steps - warmup_steps) -> way = (step - warmup_steps) / max(0, num_steps - warmup_steps)":
            "a step after the warm-up leaves at least one",
        "way = (step - optimizer.warmup_steps) / max(1, num_steps - optimizer.warmup_steps) -> "
        "way = (step - optimizer.warmup_steps) / max(0, num_steps - optimizer.warmup_steps)":
            "a step after the warm-up leaves at least one",
    },
    "stages/training/trainer.py": {
        "if saved is not None and self.writes: -> if saved is not None or self.writes:":
            "a beginning has no steps to tell, and what other ranks tell goes nowhere",
    },
}  # fmt: skip
"""Edits after which a file does the same, as `Edit.shown` tells them, with the reason; they are not drawn."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with one edit."""

    path: Path  # from the root
    text: str  # of the file as it is
    edit: Edit

    @property
    def described(self) -> str:
        """Where it is, and what it changes."""
        return f"{self.path}:{self.edit.line(self.text)}: {self.edit.shown(self.text)}"


@dataclass(frozen=True, slots=True)
class Result:
    """Whether a test noticed."""

    mutant: Mutant
    killed: bool
    by: str  # the test that failed, or in which the process died; empty where none did


# ---------------------------------------------------------------- a copy of the tree


class Lane:
    """A copy of the tree and a process that runs its tests; used as a context, by one thread at a time."""

    def __init__(self, tree: Path, *, arguments: Sequence[str]) -> None:
        self._tree, self._arguments = tree, arguments
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(ROOT / "benchmarks" / "forked_pytest.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tree,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def run(self, source: Path, *, limits: dict[str, float] | None) -> dict[str, Any]:
        """The tests of a file's folder: `code` (None: the process died), `test` (that failed, or was the last) and `seconds` by test."""
        request = {
            "root": str(self._tree),
            "scratch": str(self._tree.with_name(f"{self._tree.name}.scratch")),
            "beside": str(file_of_tests(source)),
            "arguments": [*self._arguments, str(folder_of_tests(source))],
            "limits": limits or {},
            "default_limit": PATIENCE_SECONDS if limits else BASELINE_SECONDS,
            "writes_bytecode": limits is None,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the process that runs the tests has ended; what it said is above")
        return json.loads(answer)

    def judge(self, mutant: Mutant, limits: dict[str, float]) -> Result:
        """Run the tests on a mutant; the file is as it was afterwards, to the time at which it was written."""
        path = self._tree / mutant.path
        times = path.stat()
        try:
            path.write_text(mutant.edit.applied(mutant.text), encoding="utf-8")
            os.utime(path, (times.st_atime, times.st_mtime + 100))  # compiled code goes by seconds and size
            answer = self.run(mutant.path, limits=limits)
        finally:
            path.write_text(mutant.text, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        if answer["code"] == 0:
            return Result(mutant, killed=False, by="")
        return Result(mutant, killed=True, by=answer["test"] + " (died, or took too long)" * (answer["code"] is None))


def folder_of_tests(source: Path) -> Path:
    """The folder of tests of a file's folder."""
    return Path("tests") / source.parent


def file_of_tests(source: Path) -> Path:
    """The tests of a file, which need not exist."""
    return folder_of_tests(source) / f"test_{source.name}"


def copied_tree(folder: Path) -> Path:
    """What git knows or would take up, in a folder of its own."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


# ---------------------------------------------------------------- the run


def sources_of(paths: Sequence[str]) -> list[Path]:
    """The Python files that paths name, from the root."""
    found: list[Path] = []
    for name in paths:
        path = ROOT / name
        if not path.exists():
            raise SystemExit(f"there is no {name} under {ROOT}")
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [path.relative_to(ROOT) for path in dict.fromkeys(found)]


def mutants_of(sources: Sequence[Path], *, per_file: int, seed: int) -> Iterator[Mutant]:
    """So many of each file; those of one file do not depend on the others."""
    for source in sources:
        text = (ROOT / source).read_text(encoding="utf-8")
        edits = [edit for edit in edits_of(text) if edit.shown(text) not in SAME.get(str(source), {})]
        for edit in drawn(edits, number=per_file, seed=f"{seed}/{source}"):
            yield Mutant(source, text, edit)


def baseline(lane: Lane, sources: Sequence[Path]) -> dict[str, float]:
    """How long each test may take. Raises SystemExit where the tests of the tree as it is fail."""
    limits: dict[str, float] = {}
    for source in {folder_of_tests(source): source for source in sources}.values():
        if not (ROOT / folder_of_tests(source)).is_dir():
            raise SystemExit(f"{source} has no tests: there is no folder {folder_of_tests(source)}")
        answer = lane.run(source, limits=None)
        if answer["code"] != 0:
            raise SystemExit(f"{folder_of_tests(source)} fails before anything is changed: {answer['test']}")
        seconds = answer["seconds"]
        _say(f"{folder_of_tests(source)}: {len(seconds)} tests in {sum(seconds.values()):.0f} s")
        limits |= {test: PATIENCE_SECONDS + PATIENCE_FACTOR * spent for test, spent in seconds.items()}
    return limits


def judged(mutants: Sequence[Mutant], *, arguments: Sequence[str]) -> list[Result]:
    """Whether the tests notice each mutant."""
    lanes: SimpleQueue[Lane] = SimpleQueue()

    def judge(mutant: Mutant) -> Result:
        lane = lanes.get()
        try:
            result = lane.judge(mutant, limits)
        finally:
            lanes.put(lane)
        _say(
            f"{'killed  ' if result.killed else 'SURVIVED'} {mutant.described}{f'  [{result.by}]' if result.by else ''}"
        )
        return result

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        first, second = Path(folder) / "one", Path(folder) / "two"
        with Lane(copied_tree(first), arguments=arguments) as lane:
            limits = baseline(lane, [mutant.path for mutant in mutants])
            shutil.copytree(first, second)  # with the compiled code
            with Lane(second, arguments=arguments) as other, ThreadPoolExecutor(NUM_LANES) as pool:
                lanes.put(lane)
                lanes.put(other)
                return list(pool.map(judge, mutants))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


# ---------------------------------------------------------------- what is printed


@dataclass(frozen=True, slots=True)
class Score:
    """Of one file, or of all."""

    killed: int
    total: int

    @classmethod
    def of(cls, results: Sequence[Result]) -> "Score":
        return cls(sum(result.killed for result in results), len(results))

    def __str__(self) -> str:
        return f"killed {self.killed} of {self.total}"


def by_file(sources: Sequence[Path], results: Sequence[Result]) -> dict[Path, list[Result]]:
    """The results of each file, of which there may be none."""
    return {source: [result for result in results if result.mutant.path == source] for source in sources}


def as_lines(files: dict[Path, list[Result]], results: Sequence[Result]) -> Iterator[str]:
    """The report for people."""
    for source, own in files.items():
        yield f"{source}: {Score.of(own)}"
        yield from (f"  {result.mutant.described}" for result in own if not result.killed)
    yield f"mutants {Score.of(results)}"


def as_json(files: dict[Path, list[Result]]) -> str:
    """The report for programs: every mutant of every file."""
    return json.dumps(
        {
            str(source): [
                {"mutant": result.mutant.described, "killed": result.killed, "by": result.by} for result in own
            ]
            for source, own in files.items()
        },
        indent=1,
        ensure_ascii=False,
    )


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks source_mutants", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("paths", nargs="*", default=DEFAULT_PATHS, help="files and folders from the root")
    parser.add_argument("--seed", type=int, default=0, help="another draw of edits")
    parser.add_argument("--per-file", type=int, default=12, help="edits of each file, at most")
    parser.add_argument("--fast", action="store_true", help="leave slow tests out")
    parser.add_argument("--json", action="store_true", help="print every mutant as JSON")
    parser.add_argument("--least", type=float, default=0.0, help="share of each file's edits that must be killed")
    options = parser.parse_args(arguments)
    sources = sources_of(options.paths)
    mutants = list(mutants_of(sources, per_file=options.per_file, seed=options.seed))
    results = judged(mutants, arguments=["-m", "not slow"] if options.fast else [])
    files = by_file(sources, results)
    if options.json:
        print(as_json(files))
    else:
        print("\n".join(as_lines(files, results)))
    scores = [Score.of(own) for own in files.values()]
    return int(any(score.killed < options.least * score.total for score in scores))
