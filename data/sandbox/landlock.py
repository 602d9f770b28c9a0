"""Landlock: the files a process may open, whatever its user may. Numbers are those of every architecture."""

import fcntl
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from data.sandbox.kernel import checked, libc

FIRST_FREE_FD = 16  # those below are the child's own

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
READ = READ_FILE | READ_DIR
CHANGE = (
    READ | WRITE_FILE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13 | 1 << 14
)  # remove, make folders and files, move, cut

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14  # rights that a rule about a file may name
_KNOWN_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}  # by ABI


def ruleset(rules: Mapping[Path, int]) -> int:
    """A file descriptor of the rules: rights to what is at or below each path. Raises ConfinementError without Landlock.

    Where the kernel knows them, TCP (ABI 4), and signals and abstract sockets to the outside (6), are refused as well.
    """
    abi = checked(libc.syscall(_CREATE, None, 0, 1), "Landlock (needs Linux 5.13 with Landlock on)")
    known = _KNOWN_RIGHTS[min(abi, 5)]
    network, scope = 3 if abi >= 4 else 0, 3 if abi >= 6 else 0
    attributes = struct.pack("=QQQ", known, network, scope)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    fd = checked(libc.syscall(_CREATE, attributes, len(attributes), 0), "landlock_create_ruleset")
    for path, rights in rules.items():
        _allow(fd, path, rights & known)
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)


def restrict(ruleset_fd: int) -> None:
    """Put the rules on, for good."""
    checked(libc.syscall(_RESTRICT, ruleset_fd, 0), "landlock_restrict_self")


def _allow(ruleset_fd: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # this machine does not have the path
        return
    try:
        rule = struct.pack("=Qi", rights if path.is_dir() else rights & _OF_FILES, fd)
        checked(libc.syscall(_ADD, ruleset_fd, 1, rule, 0), "landlock_add_rule")
    finally:
        os.close(fd)
