"""C++, in a confined child: one compiles a program in its scratch folder, another runs the result from memory.

Runs inside the server with the standard library alone. The program is linked statically, so that running it needs no file.
"""

import os
import signal
import sys
from typing import Any, NoReturn

COMPILERS = ("g++", "clang++", "c++")
PATH = "/usr/local/bin:/usr/bin:/bin"
FLAGS = ("-std=gnu++17", "-O2", "-pipe", "-static", "-o", "answer", "answer.cpp")


def compile_program(job: dict[str, Any], *, result_fd: int) -> NoReturn:
    """Write the program to the result; what the compiler says goes to stdout, and its exit status is this process's."""
    import shutil  # a large module, not to be in the server

    compiler = next(filter(None, (shutil.which(name, path=PATH) for name in COMPILERS)), None)
    if compiler is None:
        os.write(1, f"there is no {' or '.join(COMPILERS)} in {PATH}".encode())
        os._exit(1)
    with open("answer.cpp", "w", encoding="utf-8", errors="replace") as source:  # noqa: PTH123  quicker in a fresh child
        source.write(job["code"])
    environment = {"PATH": PATH, "TMPDIR": ".", "LC_ALL": "C"}
    pid = os.posix_spawn(compiler, [compiler, *FLAGS], environment, file_actions=[(os.POSIX_SPAWN_DUP2, 1, 2)])
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 0:
        with open("answer", "rb") as program, open(result_fd, "wb", closefd=False) as result:  # noqa: PTH123
            shutil.copyfileobj(program, result)
    sys.stdout.flush()
    os._exit(min(abs(code), 1))


def run_program(fd: int) -> NoReturn:
    """Become the program in this file descriptor, with the signals that Python ignores: too much output ends it."""
    for number in (signal.SIGXFSZ, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    os.execve(fd, ["answer"], {})
