"""The ledger of runs: a line before anything runs and a line when it ends, of every run in a home folder, also those that failed.

`runs.jsonl` is only ever appended to. Each line holds the sha256 of the line before it, so a line that is changed, removed or moved is
found; the last lines of a ledger can be cut off without a trace unless its `head` is kept elsewhere. A run that was killed has no second
line: nobody holds its lock any more.
"""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.records.artifact import canonical_json, held, is_held

LEDGER = "runs.jsonl"
_NOTHING = "0" * 64  # stands before the first line
START, END = "start", "end"
FINISHED, FAILED, STOPPED, KILLED, GOING_ON = "finished", "failed", "stopped", "killed", "going on"
NO_END = "no end by then"  # of a run that had not ended at an earlier time: killed, or going on beside


class LedgerError(ValueError):
    """A ledger that is not what was written."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One run. `outcome` is one of finished, failed, stopped, killed, going on, or of an earlier time `NO_END`.

    `tries` counts the runs of the same digest up to it.
    """

    run: str
    start: Mapping[str, Any]
    end: Mapping[str, Any] | None
    outcome: str
    tries: int


def plan_digest(fingerprints: Mapping[str, str]) -> str:
    """sha256 over what a run will make: stage key -> fingerprint, which covers configuration, code and inputs."""
    return hashlib.sha256(canonical_json(dict(fingerprints)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Standing:
    """A ledger at the time when a run began."""

    line: int  # number of the line that says so, from 1
    head: str  # its sha256
    runs: tuple[RecordedRun, ...]  # oldest first, the run itself last


@dataclass(frozen=True, slots=True)
class RunLedger:
    """The ledger of one home folder."""

    home: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.home / LEDGER

    def start(self, run: str, *, recipe: str, fingerprints: Mapping[str, str], **said: Any) -> None:  # noqa: ANN401 - JSON
        """Write what is about to run, before it does."""
        self._append({"event": START, "run": run, "recipe": recipe, "digest": plan_digest(fingerprints), **said})

    def end(self, run: str, *, outcome: str, **said: Any) -> None:  # noqa: ANN401 - JSON
        """Write how it ended."""
        self._append({"event": END, "run": run, "outcome": outcome, **said})

    @contextlib.contextmanager
    def going_on(self, run: str) -> Generator[None]:
        """While a run goes on; the kernel lets go where the process dies."""
        lock = self._lock(run)
        try:
            with held(lock):
                yield
        finally:
            lock.unlink(missing_ok=True)

    def runs(self) -> list[RecordedRun]:
        """Every run, oldest first. Raises LedgerError for a ledger with a line that is not what was written."""
        return [*_recorded(self.entries(), unended=lambda run: GOING_ON if is_held(self._lock(run)) else KILLED)]

    def as_of(self, run: str) -> "Standing | None":
        """What it said when a run began; no later line changes that. None for a run that it does not name. Raises LedgerError."""
        entries = self.entries()
        starts = (number for number, one in enumerate(entries, start=1) if (one["event"], one["run"]) == (START, run))
        if (line := next(starts, None)) is None:
            return None
        before = [*_recorded(entries[:line], unended=lambda one: GOING_ON if one == run else NO_END)]
        return Standing(line, _digest(self._lines()[line - 1]), tuple(before))

    def entries(self) -> list[dict[str, Any]]:
        """Every line. Raises LedgerError with the number of the first that does not follow from the one before it."""
        found, before = [], _NOTHING
        for number, line in enumerate(self._lines(), start=1):
            entry = _read(line)
            if entry is None or entry.get("before") != before:
                raise LedgerError(
                    f"{self.path}, line {number}: this line or the one before it was changed, moved or removed since it was written"
                )
            found.append(entry)
            before = _digest(line)
        return found

    def named_runs(self) -> set[str]:
        """Ids of the runs that any line names, also of a ledger with a line that is not what was written."""
        return {entry["run"] for line in self._lines() if (entry := _read(line)) and "run" in entry}

    def head(self) -> str:
        """sha256 of the last line: kept elsewhere, it shows that none was cut off."""
        lines = self._lines()
        return _digest(lines[-1]) if lines else _NOTHING

    def _append(self, entry: Mapping[str, Any]) -> None:
        """One whole line, on the disk when this returns."""
        with held(self.home / "locks" / "runs"):
            at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            line = canonical_json({**entry, "at": at, "before": self.head()}).encode() + b"\n"
            with self.path.open("ab") as stream:
                stream.truncate(sum(len(kept) + 1 for kept in self._lines()))  # what a dying machine left of a line
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())

    def _lines(self) -> list[bytes]:
        """The whole lines. One without its end was never acknowledged to anybody."""
        return self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []

    def _lock(self, run: str) -> Path:
        return self.home / "locks" / f"run-{run}"


def tries_in_words(runs: Sequence[RecordedRun], run: str) -> str:
    """How many runs stand behind one: of the same chain, and of the recipe in any form. Empty for a run that is not there."""
    this = next((one for one in runs if one.run == run), None)
    if this is None:
        return ""
    recipe = this.start["recipe"]
    of_recipe = sum(one.start["recipe"] == recipe for one in runs)
    said = f"{this.tries} of exactly this chain"
    return said if of_recipe == this.tries else f"{said}, {of_recipe} of {recipe} in any form"


def run_row(run: RecordedRun) -> dict[str, Any]:
    """A run as a row for people."""
    return {
        "began (UTC)": run.start["at"].replace("T", " ")[:16],
        "recipe": run.start["recipe"],
        "chain": run.start["digest"][:8],
        "try": run.tries,
        "outcome": run.outcome,
        "stages that ran": (run.end or {}).get("ran"),
        "code": f"{(run.start['commit'] or '-')[:8]}{'+' if run.start['dirty'] else ''}",
    }


def _recorded(entries: Sequence[Mapping[str, Any]], *, unended: Callable[[str], str]) -> Iterator[RecordedRun]:
    """The runs of some lines. `unended` says what became of one without a second line."""
    ends = {entry["run"]: entry for entry in entries if entry["event"] == END}
    tries: Counter[str] = Counter()
    for start in (entry for entry in entries if entry["event"] == START):
        tries[start["digest"]] += 1
        run, end = start["run"], ends.get(start["run"])
        yield RecordedRun(run, start, end, end["outcome"] if end else unended(run), tries[start["digest"]])


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
