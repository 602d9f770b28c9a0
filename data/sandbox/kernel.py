"""Linux calls that Python has no function for, through the C library. Numbers are those of x86_64."""

import ctypes
import os
import socket
import struct

NOBODY = 65534  # uid and gid of whoever runs an answer, inside its namespace
_FIRST_USER, _NUM_USERS = 64000, 1000  # outside, where a judge is root: one for each server, as limits count by user

libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_SYS_CAPSET, _CAPABILITY_VERSION = 126, 0x20080522
_SYS_CLOSE_RANGE = 436


class ConfinementError(OSError):
    """A layer could not be put in place."""


def checked(result: int, what: str) -> int:
    """The result of a call. Raises ConfinementError when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise ConfinementError(number, f"{what}: {os.strerror(number)}")
    return result


def drop_root() -> socket.socket | None:
    """Become, when started by root, a user that no other server is while the socket returned is open."""
    if os.geteuid() != 0:
        return None
    user, claim = _free_user()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(user, user, user)
    return claim


def _free_user() -> tuple[int, socket.socket]:
    """A number, and the abstract socket whose name only one can hold."""
    for offset in range(_NUM_USERS):
        user = _FIRST_USER + (os.getpid() + offset) % _NUM_USERS
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0ring-sandbox-user-{user}")
        except OSError:  # another server's
            claim.close()
        else:
            return user, claim
    raise ConfinementError(f"all {_NUM_USERS} users from {_FIRST_USER} are taken by other sandboxes")


def drop_capabilities() -> None:
    """Give up every capability, for good once `no_new_privs` is set."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    checked(libc.syscall(_SYS_CAPSET, header, bytes(24)), "capset")


def close_from(first: int) -> None:
    """Close every file descriptor from this one on, however high."""
    checked(libc.syscall(_SYS_CLOSE_RANGE, first, 0xFFFFFFFF, 0), "close_range")


def set_dumpable(*, dumpable: bool) -> None:
    """Whether others of the same user may look into this process; its files in /proc belong to root where not."""
    libc.prctl(_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends, and hide this process's memory. `parent` is 0 for one outside the namespace."""
    libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    set_dumpable(dumpable=False)
    if os.getppid() != parent:
        os._exit(1)
