"""What this process is doing, for whoever must find out which of many ranks hangs.

A rank notes what it begins, and whether it only waits for others then. `Heartbeat.written_to` keeps a small file of it up to date from a
thread of its own: a file that grows old says that the process stands still, a note that grows old that its work does.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

BEAT_SECONDS = 1.0


class Heartbeat:
    """The notes of one process."""

    def __init__(self) -> None:
        self._doing, self._waits, self._since = "starting", False, time.monotonic()

    def note(self, doing: str, *, waits: bool = False) -> None:
        """Something begins: work of this rank's own, or waiting for others."""
        self._doing, self._waits, self._since = doing, waits, time.monotonic()

    @contextmanager
    def waiting(self, what: str) -> Generator[None]:
        """Within it this rank waits for others, however long."""
        self.note(what, waits=True)
        try:
            yield
        finally:
            self.note(f"after {what}")

    @contextmanager
    def written_to(self, path: Path) -> Generator[None]:
        """Within it the file is kept up to date; it goes at the end."""
        path.parent.mkdir(parents=True, exist_ok=True)
        ended = threading.Event()
        thread = threading.Thread(target=self._write, args=(path, ended), name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            path.unlink(missing_ok=True)

    def _write(self, path: Path, ended: threading.Event) -> None:
        beside = path.with_name(path.name + ".writing")
        while True:
            beat = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "doing": self._doing,
                "waits": self._waits,
                "for_seconds": time.monotonic() - self._since,
            }
            with suppress(OSError):  # a file system that stumbles once must not look like a process that stands still
                beside.write_text(json.dumps(beat), encoding="utf-8")
                beside.rename(path)
            if ended.wait(BEAT_SECONDS):
                return


HEARTBEAT = Heartbeat()
"""This process's."""
