"""seccomp: the system calls a process may make. An allow list for x86_64: what is not named fails with EPERM."""

import ctypes
import struct
from collections.abc import Collection, Mapping, Sequence

from data.sandbox.kernel import checked, libc

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_NOTHING = 0x00050000  # the call is not made and says that it was
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _JUMP, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
_AUDIT_ARCH_X86_64, _X32_BIT = 0xC000003E, 0x40000000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in seccomp_data

# fmt: off
_ALLOWED = (  # whatever their arguments
    0, 1, 3, 5, 8, 9, 10, 11, 12, 14, 15,        # read write close fstat lseek mmap mprotect munmap brk signals
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
FORKING = (57, 58, 61, 247)                      # fork vfork wait4 waitid: where all that forks dies with the run
FILES = (76, 80, 82, 83, 84, 87, 258, 263, 264, 316)  # truncate chdir rename mkdir rmdir unlink, and by folder
EXECUTING = (59, 322)                            # execve execveat
COMPILING = (90, 91, 95, 99, 268)                # chmod fchmod umask sysinfo fchmodat, of a linker
# fmt: on
_ALLOWED_WITH = {  # number: for each argument that matters, by position, the values allowed
    16: {1: (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)},  # ioctl: TCGETS TIOCGWINSZ FIONBIO FIONCLEX FIOCLEX
    72: {1: (0, 1, 2, 3, 4, 1030, 1032)},  # fcntl: no F_SETOWN, which sends signals
    157: {0: (15, 16)},  # prctl: the thread's name
    53: {
        0: (1,),
        1: (1, 1 | 0o2000000, 1 | 0o4000, 1 | 0o2004000),
    },  # socketpair: local streams, which stay in the family
}
_SETSID, _SIGACTION, _SIGCHLD = 112, 13, 17
_CLONE, _CLONE3, _PRLIMIT, _FORK = 56, 435, 302, 57
_CLONE_THREAD, _CLONE_NEW = 0x10000, 0x7E020000


def program(more: Collection[int] = ()) -> bytes:
    """The filter, with `more` calls allowed. Another architecture is killed."""
    operations = [
        _op(_LOAD, _ARCH),
        _op(_JUMP_EQUAL, _AUDIT_ARCH_X86_64, 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NUMBER),
        _op(_JUMP_AT_LEAST, _X32_BIT, 0, 1),
        _op(_RETURN, _KILL),
    ]
    operations += _search(_ranges({*_ALLOWED, *more}))
    for number, arguments in _ALLOWED_WITH.items():
        operations += _case(number, _allow_values(arguments))
    operations += _case(
        _SETSID, [_op(_RETURN, _NOTHING)]
    )  # a session of its own is a share of the processor of its own
    operations += _case(_SIGACTION, _all_signals_but_of_children())
    operations += _case(_CLONE3, [_op(_RETURN, _ENOSYS)])  # its flags are out of reach; libc then uses clone
    operations += _case(_CLONE, _no_namespaces(forking=_FORK in more))
    operations += _case(_PRLIMIT, _reading_own_limits_only())
    operations.append(_op(_RETURN, _EPERM))
    return b"".join(operations)


def restrict(filter_program: bytes) -> None:
    """Put the filter on, for good; needs `no_new_privs`."""
    code = ctypes.create_string_buffer(filter_program, len(filter_program))
    header = struct.pack("=HxxxxxxQ", len(filter_program) // 8, ctypes.addressof(code))
    checked(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0), "seccomp filter")


def _ranges(numbers: Collection[int]) -> list[tuple[int, int]]:
    """First and last of each row of neighbours."""
    firsts = sorted(number for number in numbers if number - 1 not in numbers)
    lasts = sorted(number for number in numbers if number + 1 not in numbers)
    return list(zip(firsts, lasts, strict=True))


def _search(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Allow a number in these ranges, else go on; by halves, as the kernel tries the program on every number for each child."""
    if len(ranges) == 1:
        ((first, last),) = ranges
        return [_op(_JUMP_AT_LEAST, first, 0, 2), _op(_JUMP_AT_LEAST, last + 1, 1, 0), _op(_RETURN, _ALLOW)]
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    to_high = [_op(_JUMP_AT_LEAST, ranges[middle][0], 0, 1), _op(_JUMP, len(low) + 1)]
    return [*to_high, *low, _op(_JUMP, len(high)), *high]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _case(number: int, body: Sequence[bytes]) -> list[bytes]:
    """`body` ends in a return, so that the accumulator still holds the number for the next case."""
    return [_op(_JUMP_EQUAL, number, 0, len(body)), *body]


def _load_argument(position: int, *, high: bool = False) -> bytes:
    return _op(_LOAD, _ARGUMENTS + 8 * position + 4 * high)


def _allow_values(arguments: Mapping[int, Sequence[int]]) -> list[bytes]:
    operations = []
    for position, values in arguments.items():
        tests = [_op(_JUMP_EQUAL, value, len(values) - place, 0) for place, value in enumerate(values)]
        operations += [_load_argument(position), *tests, _op(_RETURN, _EPERM)]
    return [*operations, _op(_RETURN, _ALLOW)]


def _all_signals_but_of_children() -> list[bytes]:
    """A process that ignores SIGCHLD does not reap its children, and what they used is counted nowhere."""
    return [
        _load_argument(0),
        _op(_JUMP_EQUAL, _SIGCHLD, 0, 1),
        _op(_RETURN, _NOTHING),
        _op(_RETURN, _ALLOW),
    ]


def _no_namespaces(*, forking: bool) -> list[bytes]:
    """Clone for threads, and for processes where forking is allowed."""
    return [
        _load_argument(0),
        _op(_JUMP_ANY_BIT, _CLONE_NEW, 2, 0),
        _op(_JUMP_ANY_BIT, 0xFFFFFFFF if forking else _CLONE_THREAD, 0, 1),
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
