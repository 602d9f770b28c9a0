"""The fork server: one process per judge that forks a confined child for each run, itself in namespaces where there are any.

Started without site packages, so it holds the standard library and this package only; it never sees an answer, an input or an
expected output, because the child reads its job itself from a memory file passed over the socket.

In: a JSON header with the limits, and four file descriptors (job or program, stdin, stdout, result). Out: JSON with the wait status.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import mmap
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

from data.sandbox import child, compiled, confine, family, kernel, landlock, namespaces
from data.sandbox.rungs import RUNGS, Rung

NUM_FDS = 4
PRELOADED = (  # what programs import most, so that a child need not; each makes every fork dearer
    "bisect", "collections", "functools", "heapq", "itertools", "math", "operator", "random", "re", "string", "typing",
)  # fmt: skip
_READABLE = tuple(map(Path, ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")))
_SHOWN = (*confine.SYSTEM, Path("/dev/null"))
_PROGRAM_FD = child.RESULT_FD + 1
_PROGRESS = 0.05  # share of a core below which a process is asleep, not starved by others
_LOOK_SECONDS = 0.05  # between two looks at a child
MAX_PATIENCE = 5  # times the wall-clock limit that a process which makes progress may take


@dataclass(frozen=True, slots=True)
class _Server:
    """What stays the same between runs."""

    channel: socket.socket
    rung: Rung
    confinements: dict[str, confine.Confinement]  # by kind of child; none: unsafe local execution
    null_fd: int
    max_tasks: int
    proc_fd: int | None  # to watch the memory of an answer that may fork
    is_confined: mmap.mmap  # a byte that a child sets when it may run an answer, which cannot reach it


def main(fd: int, rung_name: str) -> NoReturn:
    """Serve the socket until it closes; the first message tells that it is ready, or why not."""
    rung = RUNGS[rung_name]
    channel = socket.socket(fileno=fd)
    try:
        server = _start(channel, rung)
    except OSError as error:
        channel.send(json.dumps({"error": error.strerror or str(error)}).encode())
        os._exit(1)
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        channel.send(b'{"ready": true}')
        while True:
            _serve(server)
    except ConnectionError:  # the judge is gone
        os._exit(0)


def _start(channel: socket.socket, rung: Rung) -> _Server:
    parent = os.getppid()
    os.setsid()
    with contextlib.suppress(OSError):  # a container may keep its own
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory ends, an answer goes first
    if rung.seccomp:
        confine.require_platform()
    readable, proc_fd = [*_READABLE, _library(), *_standard_library()], None
    if rung.namespaces:
        proc_fd = family.open_proc()
        _enter_namespaces(channel, parent)
        confinements = confine.prepare(rung, readable)
        family.memory_bytes(proc_fd)  # or the rung cannot be used
    else:
        confinements = confine.prepare(rung, readable) if rung.seccomp else {}  # while root may reach the library
        _import_from_here(_standard_library()[0])
        kernel.drop_root()
        kernel.die_with_parent(parent)
    null_fd = os.open("/dev/null", os.O_RDWR)
    return _Server(channel, rung, confinements, null_fd, confine.max_tasks(rung), proc_fd, mmap.mmap(-1, 1))


def _enter_namespaces(channel: socket.socket, parent: int) -> None:
    """Return in the first process of the new namespaces; this one waits for its end."""
    library, modules = _library(), _standard_library()[0]
    os.chdir(library)
    kernel.drop_root()
    namespaces.enter(_SHOWN, library=library)
    if pid := os.fork():
        kernel.die_with_parent(parent)
        channel.close()
        os.waitpid(pid, 0)
        os._exit(0)
    kernel.die_with_parent(0)
    sys.path[:] = [str(modules), str(modules / "lib-dynload")]


def _standard_library() -> list[Path]:
    return [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib"))]


def _library() -> Path:
    """The interpreter's folder `lib`, where its modules look for shared libraries; or the standard library alone."""
    modules = _standard_library()[0]
    return modules.parent if modules.parent.name.startswith("lib") else modules


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
    for module in [module for module in sys.modules.values() if hasattr(module, "__path__")]:
        module.__path__ = [os.path.relpath(path) for path in module.__path__]
    sys.path_importer_cache.clear()


def _serve(server: _Server) -> None:
    header, fds, _, _ = socket.recv_fds(server.channel, 4096, NUM_FDS)
    if not header:
        os._exit(0)
    request = json.loads(header)
    server_pid = os.getpid()
    server.is_confined[0] = 0
    pid = os.fork()
    if pid == 0:
        _be_child(server, request, fds, server_pid)
    for fd in fds:
        os.close(fd)
    reply = _wait(server, pid, request)
    if server.rung.namespaces:
        _end_all_others()
        namespaces.clean_scratch()
    server.channel.send(json.dumps(reply).encode())


def _wait(server: _Server, pid: int, request: dict[str, Any]) -> dict[str, Any]:
    """Wait for the child; kill it when it goes beyond a limit, or the judge goes away."""
    process = os.pidfd_open(pid)
    stopped = _watch(server, process, pid, request)
    if stopped:
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it forked, while its number is still its own
    os.close(process)
    _, status, usage = os.wait4(pid, 0)
    return {
        "was_confined": bool(server.is_confined[0]),
        "exit": os.waitstatus_to_exitcode(status),
        "stopped": stopped,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }


def _watch(server: _Server, process: int, pid: int, request: dict[str, Any]) -> str:
    """Wait until the child ends; or say what it went beyond: "timeout" or "memory".

    A child that waits for a core gets more time, as its processor time is what is limited; one that sleeps gets none.
    """
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(server.channel, select.POLLRDHUP)
    wall, used, looked = request["wall_seconds"], 0.0, time.monotonic()
    last = looked + MAX_PATIENCE * wall
    while not (events := poll.poll(_LOOK_SECONDS * 1000)):
        if server.proc_fd is not None and family.memory_bytes(server.proc_fd) > request["limits"]["memory_bytes"]:
            return "memory"
        if (now := time.monotonic()) > looked + wall:
            before, used, looked = used, _cpu_seconds(pid), now
            if now > last or used - before < _PROGRESS * wall:
                return "timeout"
    return "" if any(fd == process for fd, _ in events) else "timeout"


def _cpu_seconds(pid: int) -> float:
    return time.clock_gettime(~pid << 3 | 2)  # the clock of a process, as clock_getcpuclockid(3) numbers it


def _end_all_others() -> None:
    """Kill and reap whatever an answer left behind: this is the first process of the namespace."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def _be_child(server: _Server, header: dict[str, Any], fds: list[int], parent: int) -> NoReturn:
    kind = header["kind"]
    try:
        kernel.die_with_parent(parent)
        os.setsid()
        if server.rung.namespaces:
            os.chdir(namespaces.SCRATCH)
        job = {} if kind == "program" else json.loads(_read_all(fds[0]))
        _place(fds, server)
        confine.limit(max_tasks=server.max_tasks, **header["limits"])
        if server.confinements:
            confine.confine(server.confinements[kind])
        kernel.close_from(_PROGRAM_FD + (kind == "program"))
        server.is_confined[0] = 1
        server.is_confined.close()
    except BaseException:
        os._exit(1)
    try:
        if kind == "program":
            compiled.run_program(_PROGRAM_FD)
        elif kind == "compiler":
            compiled.compile_program(job, result_fd=child.RESULT_FD)
        child.run(job)
    finally:  # whatever an answer does to the interpreter, it must not come back into the server's loop
        os._exit(1)


def _read_all(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _place(fds: list[int], server: _Server) -> None:
    """stdin, stdout, /dev/null as stderr, and the file for results become 0, 1, 2 and 3; the job or program 4, until it ran."""
    program, stdin, stdout, result = fds
    wanted = (stdin, stdout, server.null_fd, result, program)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, landlock.FIRST_FREE_FD) for fd in wanted]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=target != _PROGRAM_FD)
