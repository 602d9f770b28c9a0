"""What an answer uses: the processes below the server, living and ended, which an answer on a rung with namespaces may fork.

Seen through a folder /proc that was opened outside the server's namespaces; inside there is none. A process that ended is counted
where the kernel counts it: with its parent, or with itself until the server reaps it, which it does after the run.
"""

import contextlib
import os
from dataclasses import dataclass, field

PAGE_BYTES = os.sysconf("SC_PAGESIZE")
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
FREE_FDS = 8  # descriptors of a process that cost it no memory: its first four, and some files
_SLACK_BYTES = 1 << 16  # what a socket takes beyond its buffer


@dataclass(frozen=True, slots=True)
class View:
    """Where the server looks."""

    proc_fd: int
    own: str  # the server's number there
    fd_bytes: int  # that the kernel may hold for a descriptor: the buffer of a socket


@dataclass(slots=True)
class Look:
    """What the family uses now, or has used."""

    memory_bytes: int = (
        0  # resident, beyond what each process inherited; and what the kernel may hold for its descriptors
    )
    cpu_seconds: float = 0.0  # of the living and of the ended
    num_tasks: int = 0  # threads of all processes
    waited: dict[str, int] = field(default_factory=dict)  # nanoseconds that each thread was ready to run and did not


def open_view() -> View:
    """Raises OSError without a /proc that numbers processes as here and tells how long they waited for a core."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    own = os.readlink("self", dir_fd=proc_fd)
    _read(proc_fd, f"{own}/schedstat")
    return View(proc_fd, own, int(_read(proc_fd, "sys/net/core/wmem_default")) + _SLACK_BYTES)


def opened_inside(view: View) -> View:
    """The same view of the process that the caller became, or raises OSError."""
    view = View(view.proc_fd, os.readlink("self", dir_fd=view.proc_fd), view.fd_bytes)
    look(view)
    return view


def look(view: View) -> Look:
    """Raises OSError where the server does not see itself."""
    base = own_bytes(view)
    found, waiting = Look(), _children(view, view.own, _threads(view, view.own))
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):  # it ended meanwhile
            found.cpu_seconds += _cpu_seconds(
                view, pid
            )  # before that of its children, or one that it reaps now counts twice
            threads = _threads(view, pid)
            found.num_tasks += len(threads)
            waiting += _children(view, pid, threads)
            found.memory_bytes += max(0, _resident(view, pid) - base) + _kernel_bytes(view, pid)
            for thread in threads:
                found.waited[thread] = int(_read(view.proc_fd, f"{pid}/task/{thread}/schedstat").split()[1])
    return found


def own_bytes(view: View) -> int:
    """Resident memory of the server, which a process that it forks has as well."""
    return _resident(view, view.own)


def _resident(view: View, pid: str) -> int:
    return int(_read(view.proc_fd, f"{pid}/statm").split()[1]) * PAGE_BYTES


def _kernel_bytes(view: View, pid: str) -> int:
    num_fds = os.stat(f"{pid}/fd", dir_fd=view.proc_fd).st_size  # 0 before Linux 6.2
    return max(0, num_fds - FREE_FDS) * view.fd_bytes


def _cpu_seconds(view: View, pid: str) -> float:
    """User and system time of a process and of the children it reaped."""
    fields = _read(view.proc_fd, f"{pid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * TICK_SECONDS


def _threads(view: View, pid: str) -> list[str]:
    tasks = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=view.proc_fd)
    try:
        return os.listdir(tasks)  # noqa: PTH208  of a descriptor
    finally:
        os.close(tasks)


def _children(view: View, pid: str, threads: list[str]) -> list[str]:
    return [child for thread in threads for child in _read(view.proc_fd, f"{pid}/task/{thread}/children").split()]


def _read(folder_fd: int, path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        return os.read(fd, 1 << 16).decode()
    finally:
        os.close(fd)
