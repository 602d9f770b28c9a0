"""A world of its own for the fork server: a root with the system read-only and nothing else, no network, no other processes.

Made with unshare(2) and pivot_root(2), so that no program need be installed; needs namespaces of users, which a container's
profile may refuse. Everything in it dies with its first process.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from data.sandbox import kernel
from data.sandbox.kernel import checked, libc

SCRATCH = Path("/scratch/tmp")  # its parent stands for it in rules: Landlock does not look at what a mount hides
SCRATCH_MB = 16
STDIN_NAMES = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")  # links to a file in the scratch folder, if a run has it
_STDIN = SCRATCH / "stdin"
_ROOT = "/tmp"  # hidden by the new root while that is built

_NEW_NS, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = 1 << 17, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 2, 4, 8, 1 << 12, 1 << 14, 1 << 18
_DETACH = 2
_SYS_PIVOT_ROOT, _SYS_MOUNT_SETATTR = 155, 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID = 1, 2


def enter(shown: Iterable[Path], *, library: Path) -> None:
    """Move this process, which must stand in `library`, into new namespaces; only a child born after it is wholly inside.

    `shown` paths, and `library` although its way there may be closed to this user, keep their names. Raises OSError.
    """
    uid, gid = os.geteuid(), os.getegid()
    kernel.set_dumpable(dumpable=True)  # or the maps would belong to root
    checked(libc.unshare(_NEW_USER | _NEW_NS | _NEW_PID | _NEW_NET | _NEW_IPC | _NEW_UTS), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/gid_map").write_text(f"{kernel.NOBODY} {gid} 1")
    Path("/proc/self/uid_map").write_text(f"{kernel.NOBODY} {uid} 1")
    _mount(None, "/", None, _REC | _PRIVATE)
    opened = [(path, os.open(path, os.O_PATH | os.O_NOFOLLOW)) for path in shown if os.path.lexists(path)]
    _mount("tmpfs", _ROOT, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")  # may hide some of them
    for path, fd in opened:
        _show(path, fd)
        os.close(fd)
    _show_library(library)
    _link_stdin()
    _change_root()
    mount_scratch()
    os.environ["TMPDIR"] = str(SCRATCH)


def mount_scratch() -> None:
    """An empty folder of bounded size at SCRATCH."""
    options = f"size={SCRATCH_MB}m,nr_inodes=1024,mode=700"
    _mount("tmpfs", str(SCRATCH), "tmpfs", _NOSUID | _NODEV | _NOEXEC, options)


def copy_stdin(fd: int) -> None:
    """Make STDIN_NAMES work for an input that fits into the scratch folder."""
    size = os.fstat(fd).st_size
    if size < SCRATCH_MB << 20:
        copy = os.open(_STDIN, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        sent = 0
        while sent < size:
            sent += os.sendfile(copy, fd, sent, size - sent)
        os.close(copy)


def clean_scratch() -> None:
    """Replace the folder if anything was left in it; no process may be using it."""
    usage = os.statvfs(SCRATCH)
    if usage.f_files - usage.f_ffree > 1 or usage.f_blocks != usage.f_bfree:
        checked(libc.umount2(bytes(SCRATCH), _DETACH), "unmounting the scratch folder")
        mount_scratch()


def _show_library(library: Path) -> None:
    target = _target(library)
    if not target.exists():
        target.mkdir(parents=True)
        _mount(".", str(target), None, _BIND | _REC)


def _link_stdin() -> None:
    """There is no /proc but for this one name, and nobody may list it."""
    for name in STDIN_NAMES:
        link = _target(Path(name))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(_STDIN)
    for folder in ("/proc/self/fd", "/proc/self", "/proc"):
        _target(Path(folder)).chmod(0o111)


def _show(path: Path, fd: int) -> None:
    """Bind what is open at `fd` into the new root under its name; links stay links."""
    target = _target(path)
    if os.path.lexists(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = os.fstat(fd).st_mode
    if stat.S_ISLNK(mode):
        target.symlink_to(os.readlink("", dir_fd=fd))
        return
    target.mkdir() if stat.S_ISDIR(mode) else target.touch()
    _mount(f"/proc/self/fd/{fd}", str(target), None, _BIND | _REC)


def _target(path: Path) -> Path:
    return Path(_ROOT, path.relative_to("/"))


def _change_root() -> None:
    scratch, usual = _target(SCRATCH), _target(Path("/tmp"))
    scratch.mkdir(parents=True)
    if not usual.exists():
        usual.symlink_to(SCRATCH)
    os.chdir(_ROOT)
    checked(libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    checked(libc.umount2(b".", _DETACH), "unmounting the old root")
    os.chdir("/")
    attributes = struct.pack("=QQQQ", _ATTR_RDONLY | _ATTR_NOSUID, 0, 0, 0)
    arguments = (_AT_FDCWD, b"/", _AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes)))
    checked(libc.syscall(_SYS_MOUNT_SETATTR, *arguments), "making the root read-only")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    texts = [os.fsencode(text) if text is not None else None for text in (source, target, kind)]
    what = f"mount of {source or target}"
    checked(libc.mount(*texts, ctypes.c_ulong(flags), options.encode()), what)
