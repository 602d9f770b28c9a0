"""The fork server: one process per judge that forks a confined child for each run.

Started without site packages, so it holds the standard library and this package only; it never sees an answer, an input or an
expected output, because the child reads its job itself from a memory file passed over the socket.

In: a JSON header of limits with four file descriptors (job, stdin, stdout, result). Out: a JSON reply with the wait status.
"""

import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import sysconfig
import time
from dataclasses import dataclass
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from data.sandbox import child, confine

NUM_FDS = 4
PRELOADED = (  # what programs import most, so that a child need not
    "array", "bisect", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools", "math",
    "operator", "queue", "random", "re", "statistics", "string", "threading", "typing",
)  # fmt: skip
_SYSTEM_PATHS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/null")


@dataclass(frozen=True, slots=True)
class _Server:
    """What stays the same between runs."""

    channel: socket.socket
    confinement: confine.Confinement | None  # None: unsafe local execution
    null_fd: int
    max_tasks: int


def main(fd: int, *, confined: bool) -> NoReturn:
    """Serve the socket until it closes; an answer to the first question is `ready` or why not."""
    parent = os.getppid()
    channel = socket.socket(fileno=fd)
    try:
        os.setsid()
        readable = _standard_library()
        confinement = confine.prepare([*map(Path, _SYSTEM_PATHS), *readable]) if confined else None
        _import_from_here(readable[0])
        confine.drop_root()
        confine.die_with_parent(parent)
        server = _Server(
            channel, confinement, os.open("/dev/null", os.O_RDWR), confine.num_tasks() + confine.MAX_THREADS
        )
    except OSError as error:
        channel.send(json.dumps({"error": str(error)}).encode())
        os._exit(1)
    for name in PRELOADED:
        importlib.import_module(name)
    channel.send(b'{"ready": true}')
    gc.collect()
    gc.disable()
    gc.freeze()
    while True:
        _serve(server)


def _standard_library() -> list[Path]:
    return [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib"))]


class _RelativeExtensionLoader(ExtensionFileLoader):
    """Loads a shared library by the path it was found at, not by the absolute one."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        spec.origin = self.path
        return super().create_module(spec)


def _finder(path: str) -> FileFinder:
    """A path hook that, unlike the standard one, keeps a relative path relative."""
    finder = FileFinder(
        path,
        (_RelativeExtensionLoader, EXTENSION_SUFFIXES),
        (SourceFileLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )
    finder.path = path
    return finder


def _import_from_here(standard_library: Path) -> None:
    """Import by paths relative to the standard library.

    The interpreter may live in a home that only root can enter. A process that stands in a folder may open what is in it
    whatever lies above, so the server stays there and imports by relative paths.
    """
    os.chdir(standard_library)
    sys.path[:] = ["./", "./lib-dynload/"]
    sys.path_hooks[:] = [_finder]
    sys.path_importer_cache.clear()


def _serve(server: _Server) -> None:
    header, fds, _, _ = socket.recv_fds(server.channel, 4096, NUM_FDS)
    if not header:
        os._exit(0)
    limits = json.loads(header)
    server_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_child(server, limits, fds, server_pid)
    for fd in fds:
        os.close(fd)
    server.channel.send(json.dumps(_wait(server, pid, limits["wall_seconds"])).encode())


def _wait(server: _Server, pid: int, wall_seconds: float) -> dict[str, Any]:
    """Wait for the child, kill it at its deadline or when the judge goes away."""
    deadline = time.monotonic() + wall_seconds
    process = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(server.channel, select.POLLRDHUP)
    events = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    ended = any(fd == process for fd, _ in events)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    os.close(process)
    _, status, usage = os.wait4(pid, 0)
    return {
        "exit": os.waitstatus_to_exitcode(status),
        "timed_out": not ended,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }


def _be_child(server: _Server, limits: dict[str, Any], fds: list[int], parent: int) -> NoReturn:
    try:
        confine.die_with_parent(parent)
        os.setsid()
        job = json.loads(_read_all(fds[0]))
        _place(fds[1:], server)
        confine.limit(
            cpu_seconds=limits["cpu_seconds"],
            memory_bytes=limits["memory_bytes"],
            output_bytes=limits["output_bytes"],
            max_tasks=server.max_tasks,
        )
        if server.confinement is not None:
            confine.confine(server.confinement)
    except BaseException:
        os._exit(SETUP_FAILED)
    os.closerange(child.RESULT_FD + 1, 64)
    try:
        child.run(job)
    finally:  # whatever an answer does to the interpreter, it must not come back into the server's loop
        os._exit(1)


SETUP_FAILED = 87  # exit status of a child that could not be confined: the judge's failure


def _read_all(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _place(fds: list[int], server: _Server) -> None:
    """stdin, stdout, /dev/null as stderr, and the file for results become 0, 1, 2 and 3."""
    stdin, stdout, result = fds
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, confine.FIRST_FREE_FD) for fd in (stdin, stdout, server.null_fd, result)]
    for target, fd in enumerate(high):
        os.dup2(fd, target)


if __name__ == "__main__":
    main(int(sys.argv[1]), confined=sys.argv[2] == "confined")
