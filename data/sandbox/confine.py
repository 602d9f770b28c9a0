"""What a child of the fork server gives up before it runs an answer: limits, files (Landlock), system calls (seccomp).

Runs inside the server with the standard library alone. A child has no writable folder, no network, no exec, no signals to
others and no new processes; threads are allowed. Each layer was seen to leave holes alone (Landlock: chmod, UDP; seccomp:
reading files), so all of them are required. Only Linux on x86_64 has a table of system calls here.
"""

import ctypes
import fcntl
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534  # uid and gid the server takes when it is started by root
FIRST_FREE_FD = 16  # those below are the child's own
MAX_THREADS = 256  # tasks above those the user had when the server started

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}  # by ABI

_libc = ctypes.CDLL(None, use_errno=True)


class ConfinementError(OSError):
    """A layer could not be put in place."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the server prepares once, for a child to put on with three system calls."""

    landlock_fd: int
    filter: bytes  # seccomp program


def prepare(readable: Iterable[Path]) -> Confinement:
    """Build both layers. Raises ConfinementError where the kernel or the machine lacks one."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ConfinementError(f"no confinement for {sys.platform} on {platform.machine()}, only for linux on x86_64")
    return Confinement(_landlock_ruleset(readable), _seccomp_program())


def confine(confinement: Confinement) -> None:
    """Give up files and system calls, for good."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _checked(_libc.syscall(_SYS_LANDLOCK_RESTRICT, confinement.landlock_fd, 0), "landlock_restrict_self")
    program = ctypes.create_string_buffer(confinement.filter, len(confinement.filter))
    header = struct.pack("=HxxxxxxQ", len(confinement.filter) // 8, ctypes.addressof(program))
    _checked(_libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0), "seccomp filter")


def limit(*, cpu_seconds: int, memory_bytes: int, output_bytes: int, max_tasks: int) -> None:
    """Lower the limits of this process; the hard processor limit is a second later, for those who ignore the signal."""
    hard = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: output_bytes,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: max_tasks,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in hard.items():
        resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))


def drop_root() -> None:
    """Become nobody when started by root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends, and hide this process's memory from others of the same user."""
    _libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def num_tasks() -> int:
    """Threads of this user now: the process limit counts them all."""
    total = 0
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and folder.stat().st_uid == os.getuid():
                total += len(list((folder / "task").iterdir()))
        except OSError:  # the process ended, or hides
            total += 1
    return total


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise ConfinementError(number, f"{what}: {os.strerror(number)}")
    return result


# ---------------------------------------------------------------- Landlock


def _landlock_ruleset(readable: Iterable[Path]) -> int:
    abi = _checked(_libc.syscall(_SYS_LANDLOCK_CREATE, None, 0, 1), "Landlock (needs Linux 5.13 with Landlock on)")
    rights = _FILE_RIGHTS[min(abi, 5)]
    network, scope = 3 if abi >= 4 else 0, 3 if abi >= 6 else 0
    attributes = struct.pack("=QQQ", rights, network, scope)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _checked(_libc.syscall(_SYS_LANDLOCK_CREATE, attributes, len(attributes), 0), "landlock_create_ruleset")
    for path in readable:
        _allow_reading(ruleset, path)
    return fcntl.fcntl(ruleset, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)


def _allow_reading(ruleset: int, path: Path) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # this machine does not have the path
        return
    rights = _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE
    try:
        rule = struct.pack("=Qi", rights, fd)
        _checked(_libc.syscall(_SYS_LANDLOCK_ADD, ruleset, 1, rule, 0), "landlock_add_rule")
    finally:
        os.close(fd)


# ---------------------------------------------------------------- seccomp

_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_AUDIT_ARCH_X86_64, _X32_BIT = 0xC000003E, 0x40000000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in seccomp_data

# fmt: off
_ALLOWED = (  # system calls of x86_64 allowed whatever their arguments
    0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15,    # read write close fstat lseek mmap mprotect munmap brk signals
    202, 228, 257, 262, 318, 332, 231, 60,       # futex clock_gettime openat newfstatat getrandom statx exit_group exit
    2, 4, 6, 7, 17, 18, 19, 20, 21, 22, 23, 24,  # open stat lstat poll pread.. writev access pipe select sched_yield
    25, 26, 27, 28, 32, 33, 34, 35, 36, 37, 38,  # mremap msync mincore madvise dup dup2 pause nanosleep timers
    39, 63, 74, 77, 78, 79, 89, 96, 97, 98, 99, 100,  # getpid uname fsync ftruncate getdents getcwd readlink .. times
    102, 104, 107, 108, 110, 111, 115, 118, 120, 124,  # the getters of ids
    131, 143, 145, 146, 147, 158, 186, 204, 217, 218, 219, 221,  # sigaltstack sched_* arch_prctl gettid getdents64
    229, 230, 232, 233, 267, 269, 270, 271, 273, 274, 281,  # clock_* epoll_* readlinkat faccessat pselect ppoll robust_list
    290, 291, 292, 293, 295, 296, 309, 324, 334, 436, 439,  # eventfd2 epoll_create1 dup3 pipe2 preadv pwritev rseq close_range
    44, 45, 48, 51, 52, 55,                      # send, recv, shutdown, names and options of a socketpair, all asyncio needs
)
# fmt: on
_ALLOWED_WITH = {  # number: (position of the argument, values allowed)
    16: (1, (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)),  # ioctl: TCGETS TIOCGWINSZ FIONBIO FIONCLEX FIOCLEX
    72: (1, (0, 1, 2, 3, 4, 1030, 1032)),  # fcntl: no F_SETOWN, which sends signals
    157: (0, (15, 16)),  # prctl: the thread's name
    53: (1, (1, 1 | 0o2000000, 1 | 0o4000, 1 | 0o2004000)),  # socketpair: streams, which cannot be sent elsewhere
}
_CLONE, _CLONE3, _PRLIMIT = 56, 435, 302
_CLONE_THREAD, _CLONE_NEW = 0x10000, 0x7E020000


def _seccomp_program() -> bytes:
    """An allow list: what is not named gets EPERM; another architecture is killed."""
    program = [
        _op(_LOAD, _ARCH),
        _op(_JUMP_EQUAL, _AUDIT_ARCH_X86_64, 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NUMBER),
        _op(_JUMP_AT_LEAST, _X32_BIT, 0, 1),
        _op(_RETURN, _KILL),
    ]
    for number in _ALLOWED:
        program += _case(number, [_op(_RETURN, _ALLOW)])
    for number, (position, values) in _ALLOWED_WITH.items():
        program += _case(number, _allow_values(position, values))
    program += _case(_CLONE3, [_op(_RETURN, _ENOSYS)])  # its flags are out of reach; libc then uses clone
    program += _case(_CLONE, _threads_only())
    program += _case(_PRLIMIT, _reading_own_limits_only())
    program.append(_op(_RETURN, _EPERM))
    return b"".join(program)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _case(number: int, body: Sequence[bytes]) -> list[bytes]:
    """`body` ends in a return, so that the accumulator still holds the number for the next case."""
    return [_op(_JUMP_EQUAL, number, 0, len(body)), *body]


def _load_argument(position: int, *, high: bool = False) -> bytes:
    return _op(_LOAD, _ARGUMENTS + 8 * position + 4 * high)


def _allow_values(position: int, values: Sequence[int]) -> list[bytes]:
    tests = [op for value in values for op in (_op(_JUMP_EQUAL, value, 0, 1), _op(_RETURN, _ALLOW))]
    return [_load_argument(position), *tests, _op(_RETURN, _EPERM)]


def _threads_only() -> list[bytes]:
    return [
        _load_argument(0),
        _op(_JUMP_ANY_BIT, _CLONE_NEW, 2, 0),
        _op(_JUMP_ANY_BIT, _CLONE_THREAD, 0, 1),
        _op(_RETURN, _ALLOW),
        _op(_RETURN, _EPERM),
    ]


def _reading_own_limits_only() -> list[bytes]:
    return [
        _load_argument(0),
        _op(_JUMP_EQUAL, 0, 0, 5),
        _load_argument(2),
        _op(_JUMP_EQUAL, 0, 0, 3),
        _load_argument(2, high=True),
        _op(_JUMP_EQUAL, 0, 0, 1),
        _op(_RETURN, _ALLOW),
        _op(_RETURN, _EPERM),
    ]
