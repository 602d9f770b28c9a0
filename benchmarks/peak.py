"""Peak memory: of this process since it started its program, and of all that it started."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

EVERY_SECONDS = 0.5


def peak_megabytes() -> int:
    """MiB resident at most so far, mapped files included. (`ru_maxrss` would still know the process that forked this one.)"""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


class PeakOfTree:
    """MiB of all processes below this one together, pages that several share counted once, looked at now and then; used as a context."""

    def __init__(self) -> None:
        self.megabytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self.megabytes = max(self.megabytes, sum(map(_kilobytes, _below(os.getpid()))) // 1024)


def _below(pid: int) -> list[int]:
    """Children, their children and so on."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it ended meanwhile
        return []
    return [*children, *(grandchild for child in children for grandchild in _below(child))]


def _kilobytes(pid: int) -> int:
    """Its proportional share of the pages that it has; 0 where it ended meanwhile."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(rollup.partition("Pss:")[2].split()[0])
