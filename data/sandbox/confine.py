"""What a child of the fork server gives up before it runs an answer: limits, capabilities, files, system calls.

Runs inside the server with the standard library alone. No layer is enough alone (Landlock leaves chmod and UDP open, seccomp
reading files, namespaces the kernel's whole surface), so a rung has at least two. Linux on x86_64 only.
"""

import os
import platform
import resource
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from data.sandbox import kernel, landlock, namespaces, seccomp
from data.sandbox.rungs import Rung

MAX_TASKS = 16  # threads and processes of an answer
SHARED_TASKS = (
    256  # where the limit counts those of other servers as well: the server's looks keep an answer to its own
)
MAX_FDS = {"python": 32, "program": 32, "compiler": 128}
_SPARE_BYTES = 512 << 20  # of address space: what is reserved and not used is no memory

SYSTEM = tuple(map(Path, ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives")))

_PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the server prepares once, for a child to put on with a few system calls."""

    landlock_fd: int | None
    filter: bytes  # seccomp program


def require_platform() -> None:
    """Raises ConfinementError where no table of system calls is known."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise kernel.ConfinementError(
            f"no confinement for {sys.platform} on {platform.machine()}, only for linux on x86_64"
        )


def prepare(rung: Rung, readable: Iterable[Path]) -> dict[str, Confinement]:
    """The layers of a rung for each kind of child. Raises ConfinementError where the kernel or the machine lacks one.

    `python` runs an answer, `program` a compiled one from memory: no file may be executed. `compiler` may execute those of the
    system, in the scratch folder of a rung with namespaces.
    """
    answers = {**dict.fromkeys(readable, landlock.READ), Path("/dev/null"): landlock.READ | landlock.WRITE_FILE}
    if not rung.namespaces:
        return {
            "python": _confinement(rung, answers, ()),
            "program": _confinement(rung, answers, seccomp.EXECUTING),
        }
    answers[namespaces.SCRATCH.parent] = landlock.CHANGE
    system = {**answers, **dict.fromkeys(SYSTEM, landlock.READ | landlock.EXECUTE)}
    calls = (*seccomp.FORKING, *seccomp.FILES)
    return {
        "python": _confinement(rung, answers, calls),
        "program": _confinement(rung, answers, (*calls, *seccomp.EXECUTING)),
        "compiler": _confinement(rung, system, (*calls, *seccomp.EXECUTING, *seccomp.COMPILING)),
    }


def _confinement(rung: Rung, rules: Mapping[Path, int], calls: Collection[int]) -> Confinement:
    return Confinement(landlock.ruleset(rules) if rung.landlock else None, seccomp.program(calls))


def confine(confinement: Confinement) -> None:
    """Give up capabilities, files and system calls, for good."""
    kernel.checked(kernel.libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    kernel.drop_capabilities()
    if confinement.landlock_fd is not None:
        landlock.restrict(confinement.landlock_fd)
    seccomp.restrict(confinement.filter)


def limit(kind: str, *, cpu_seconds: int, memory_bytes: int, output_bytes: int, max_tasks: int) -> None:
    """Lower the limits of this process; the hard processor limit is a second later, for those who ignore the signal.

    Memory is limited by the server's looks. Address space is not memory: the stack of a thread takes its whole size of it, and in
    a compiled program that size is the limit of the main stack.
    """
    num_stacks = MAX_TASKS if kind == "program" else 1
    hard = {
        resource.RLIMIT_AS: (1 + num_stacks) * memory_bytes + _SPARE_BYTES,
        resource.RLIMIT_FSIZE: output_bytes,
        resource.RLIMIT_NOFILE: MAX_FDS[kind],
        resource.RLIMIT_NPROC: max_tasks,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for limit_of, value in hard.items():
        resource.setrlimit(limit_of, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    stack_hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (_at_most(memory_bytes, stack_hard), stack_hard))


def _at_most(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def max_tasks(rung: Rung) -> int:
    """The limit of tasks for a child's user; in a namespace the server and its waiter count as well."""
    if rung.namespaces:
        return MAX_TASKS + 2
    num_tasks = _num_tasks()
    return num_tasks + (MAX_TASKS if rung.seccomp and num_tasks == 1 else SHARED_TASKS)


def _num_tasks() -> int:
    """Threads of this user now."""
    total = 0
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and folder.stat().st_uid == os.getuid():
                total += len(list((folder / "task").iterdir()))
        except OSError:  # the process ended, or hides
            total += 1
    return total
