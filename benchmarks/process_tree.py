"""CPU seconds and memory of a process with all that it started, from /proc, and a watch over both while a command makes progress."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

EVERY_SECONDS = 0.02
MEMORY_EVERY = 25  # looks; adding up a process's pages takes the kernel some milliseconds
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Progress:
    """What a watch saw of all processes below this one."""

    seconds: list[float] = field(default_factory=list)  # their CPU seconds when the file got each line
    megabytes: int = 0  # at most, together; a page that several share counts once


@contextmanager
def watched(lines: Path) -> Iterator[Progress]:
    """Look at the processes below this one until the end of the block, and note their CPU seconds at each line that the file gets."""
    progress, over = Progress(), threading.Event()
    thread = threading.Thread(target=_watch, args=(lines, progress, over), daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        over.set()
        thread.join()


def _watch(lines: Path, progress: Progress, over: threading.Event) -> None:
    looks = 0
    while not over.wait(EVERY_SECONDS):
        num_lines = lines.read_bytes().count(b"\n") if lines.exists() else 0
        if num_lines > len(progress.seconds):
            progress.seconds += [cpu_seconds(os.getpid())] * (num_lines - len(progress.seconds))
        if looks % MEMORY_EVERY == 0:
            progress.megabytes = max(progress.megabytes, sum(map(_kilobytes, _below(os.getpid()))) // 1024)
        looks += 1


def cpu_seconds(pid: int) -> float:
    """Of the processes below `pid`, those that ended and were waited for among them."""
    return sum(map(_ticks, _below(pid))) / _TICKS


def _below(pid: int) -> list[int]:
    """Children, their children and so on."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]
    except OSError:  # it ended meanwhile
        return []
    return [*children, *(grandchild for child in children for grandchild in _below(child))]


def _ticks(pid: int) -> int:
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, after_name[11:15]))  # user and system, its own and those of children that ended


def _kilobytes(pid: int) -> int:
    """Its share of the pages that it has."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(rollup.partition("Pss:")[2].split()[0])
