"""The fork server: one process per judge that forks a confined child for each run, itself in namespaces where there are any.

Started without site packages, so it holds the standard library and this package only; it never sees an answer, an input or an
expected output, because the child reads its job itself from a memory file passed over the socket.

In: a JSON header with the limits, and four file descriptors (job or program, stdin, stdout, result). Out: JSON with the wait status,
the processor time of all processes of the run, and the limit that was passed.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Iterable
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
from data.sandbox.budget import Budget, Records
from data.sandbox.rungs import RUNGS, Rung

NUM_FDS = 4
PRELOADED = (  # what programs import most, so that a child need not; each makes every fork dearer
    "bisect", "collections", "functools", "heapq", "itertools", "math", "operator", "random", "re", "string", "typing",
)  # fmt: skip
_READABLE = tuple(map(Path, ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")))
_SHOWN = (*confine.SYSTEM, Path("/dev/null"))
_STDIN_NAMES = tuple(name.encode() for name in namespaces.STDIN_NAMES)
_PROGRAM_FD = child.RESULT_FD + 1
_LOOK_SECONDS = 0.05  # between two looks at a child


@dataclass(frozen=True, slots=True)
class _Server:
    """What stays the same between runs."""

    channel: socket.socket
    rung: Rung
    confinements: dict[str, confine.Confinement]  # by kind of child; none: unsafe local execution
    null_fd: int
    max_tasks: int
    view: family.View
    is_confined: mmap.mmap  # a byte that a child sets when it may run an answer, which cannot reach it
    is_calling: mmap.mmap  # a byte that a child sets when the first call begins
    claim: socket.socket | None  # of a user of its own


def main(fd: int, rung_name: str, packages: Iterable[str] = (), *, module: tuple[str, str] = ("", "")) -> NoReturn:
    """Serve the socket until it closes; the first message tells that it is ready, or why not.

    `packages` are folders of installed packages that answers may import beside the standard library; `module` is the name and the text
    of code of the judge, run here once.
    """
    rung = RUNGS[rung_name]
    channel = socket.socket(fileno=fd)
    folders = [Path(package) for package in packages]
    try:
        server = _start(channel, rung, folders)
        _preload(folders, module)
    except (OSError, ImportError) as error:
        channel.send(json.dumps({"error": getattr(error, "strerror", None) or str(error)}).encode())
        os._exit(1)
    setattr(os, "cpu_count", lambda: 1)  # noqa: B010  by it a pool chooses the number of its threads
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        channel.send(b'{"ready": true}')
        while True:
            _serve(server)
    except ConnectionError:  # the judge is gone
        os._exit(0)


def _preload(packages: Iterable[Path], module: tuple[str, str]) -> None:
    """Import now what a child then need not: it would start threads of its own, and may not look beside the packages."""
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    os.environ |= one_thread
    found_so_far = list(sys.path)
    sys.path += [str(package.parent) for package in packages]
    _run_module(*module)  # first: it may open one of the packages in its own way
    for name in (*PRELOADED, *(package.name for package in packages)):
        importlib.import_module(name)
    sys.path[:] = found_so_far
    for name in one_thread:
        del os.environ[name]


def _run_module(name: str, text: str) -> None:
    if name:
        module = sys.modules[name] = ModuleType(name)
        exec(compile(text, f"<{name}>", "exec"), module.__dict__)


def _shared_libraries(package: Path) -> Path:
    """Where a wheel keeps those it brings along, if it does."""
    return package.with_name(f"{package.name}.libs")


def _start(channel: socket.socket, rung: Rung, packages: Iterable[Path]) -> _Server:
    parent = os.getppid()
    os.setsid()
    with contextlib.suppress(OSError):  # a container may keep its own
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory ends, an answer goes first
    if rung.seccomp:
        confine.require_platform()
    extra = [path for package in packages for path in (package, _shared_libraries(package))]
    readable, view = [*_READABLE, _library(), *_standard_library(), *extra], family.open_view()
    if rung.namespaces:
        claim = _enter_namespaces(channel, parent, extra)
        confinements = confine.prepare(rung, readable)
    else:
        confinements = confine.prepare(rung, readable) if rung.seccomp else {}  # while root may reach the library
        _import_from_here(_standard_library()[0])
        claim = kernel.drop_root()
        kernel.die_with_parent(parent)
    return _Server(
        channel,
        rung,
        confinements,
        null_fd=os.open("/dev/null", os.O_RDWR),
        max_tasks=confine.max_tasks(rung),
        view=family.opened_inside(view),
        is_confined=mmap.mmap(-1, 1),
        is_calling=mmap.mmap(-1, 1),
        claim=claim,
    )


def _enter_namespaces(channel: socket.socket, parent: int, packages: Iterable[Path]) -> socket.socket | None:
    """Return in the first process of the new namespaces; this one waits for its end."""
    library, modules = _library(), _standard_library()[0]
    os.chdir(library)
    claim = kernel.drop_root()
    namespaces.enter((*_SHOWN, *packages), library=library)
    if pid := os.fork():
        kernel.die_with_parent(parent)
        channel.close()
        os.waitpid(pid, 0)
        os._exit(0)
    kernel.die_with_parent(0)
    sys.path[:] = [str(modules), str(modules / "lib-dynload")]
    return claim


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
    server_pid, before = os.getpid(), resource.getrusage(resource.RUSAGE_CHILDREN)
    server.is_confined[0] = server.is_calling[0] = 0
    pid = os.fork()
    if pid == 0:
        _be_child(server, request, fds, server_pid)
    results = fds.pop() if request["call_seconds"] else None
    for fd in fds:
        os.close(fd)
    reply = _wait(server, pid, request, Records(results))
    if results is not None:
        os.close(results)
    if server.rung.namespaces:
        _end_all_others()
        namespaces.clean_scratch()
    reply["cpu_seconds"] = _cpu_seconds_since(before)
    if reply["cpu_seconds"] > request["cpu_seconds"]:
        reply["stopped"] = reply["stopped"] or "timeout"
    server.channel.send(json.dumps(reply).encode())


def _wait(server: _Server, pid: int, request: dict[str, Any], records: Records) -> dict[str, Any]:
    """Wait for the child; kill it when it goes beyond a limit, or the judge goes away."""
    process = os.pidfd_open(pid)
    stopped = _watch(server, process, request, records)
    if stopped:
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it forked, while its number is still its own
    os.close(process)
    _, status, usage = os.wait4(pid, 0)
    most_bytes = request["limits"]["memory_bytes"]
    if usage.ru_maxrss * 1024 > most_bytes and usage.ru_maxrss * 1024 - family.own_bytes(server.view) > most_bytes:
        stopped = stopped or "memory"  # between two looks
    return {
        "was_confined": bool(server.is_confined[0]),
        "exit": os.waitstatus_to_exitcode(status),
        "stopped": stopped,
    }


def _watch(server: _Server, process: int, request: dict[str, Any], records: Records) -> str:
    """Wait until the child ends; or say what it went beyond: "timeout" or "memory"."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(server.channel, select.POLLRDHUP)
    budget = Budget(
        cpu_seconds=request["cpu_seconds"],
        call_seconds=request["call_seconds"],
        memory_bytes=request["limits"]["memory_bytes"],
        max_tasks=confine.MAX_TASKS if server.rung.seccomp else confine.SHARED_TASKS,
        now=time.monotonic(),
    )
    while not (events := poll.poll(_LOOK_SECONDS * 1000)):
        num_done = server.is_calling[0] + records.count()
        if stopped := budget.beyond(family.look(server.view), num_done=num_done, now=time.monotonic()):
            return stopped
    is_ended = any(fd == process for fd, _ in events)
    return "" if is_ended and records.is_intact() else "timeout"


def _cpu_seconds_since(before: resource.struct_rusage) -> float:
    """Of all children that were reaped, and of those that they reaped."""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


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
        content = _read_all(fds[0])
        if server.rung.namespaces and any(name in content for name in _STDIN_NAMES):
            namespaces.copy_stdin(fds[1])
        job = {} if kind == "program" else json.loads(content)
        _place(fds, server)
        confine.limit(kind, max_tasks=server.max_tasks, **header["limits"])
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
        child.run(job, is_calling=server.is_calling)
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
