"""How much memory the processes below the server use together: each has a limit of its own, but an answer may fork.

Seen through a folder /proc that was opened outside the server's namespaces; inside there is none.
"""

import contextlib
import os

PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def open_proc() -> int:
    """A descriptor of the /proc that numbers processes as here."""
    return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def memory_bytes(proc_fd: int) -> int:
    """Resident memory of all processes below this one, beyond what each inherited from it. Raises OSError without such a /proc."""
    own = os.readlink("self", dir_fd=proc_fd)
    base = _resident(proc_fd, own)
    total, waiting = 0, _children(proc_fd, own)
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):  # it ended meanwhile
            total += max(0, _resident(proc_fd, pid) - base)
            waiting += _children(proc_fd, pid)
    return total


def _resident(proc_fd: int, pid: str) -> int:
    return int(_read(proc_fd, f"{pid}/statm").split()[1]) * PAGE_BYTES


def _children(proc_fd: int, pid: str) -> list[str]:
    tasks = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        names = os.listdir(tasks)  # noqa: PTH208  of a descriptor
        return [child for name in names for child in _read(tasks, f"{name}/children").split()]
    finally:
        os.close(tasks)


def _read(folder_fd: int, path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        return os.read(fd, 1 << 16).decode()
    finally:
        os.close(fd)
