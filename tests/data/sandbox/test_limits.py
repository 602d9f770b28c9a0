"""Limits hold for all that an answer starts, whatever it does to them, and one answer costs its neighbours nothing."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from data.sandbox import Job, Limits, Sandbox, SandboxError
from data.sandbox.probes import try_to_escape

SHORT = Limits(seconds=0.3, memory_mb=128, output_mb=1)
BURN = (
    "import ctypes, os, signal, sys, threading, time\ndef burn(s):\n    end = time.thread_time() + s\n"
    "    while time.thread_time() < end: pass\n"
)


@pytest.fixture
def forking(sandbox):
    if not sandbox.rung.namespaces:
        pytest.skip("this rung forks nothing")
    return sandbox


# ---------------------------------------------------------------- processor time

CHAINS = {
    "children one after another": "for _ in range(9):\n    if os.fork() == 0: burn(0.15); os._exit(0)\n    os.wait()",
    "each the child of the last": "for _ in range(9):\n    pid = os.fork()\n    if pid: os.waitpid(pid, 0); os._exit(0)\n    burn(0.15)",
    "children that nobody waits for": "for _ in range(9):\n    if os.fork() == 0: burn(0.15); os._exit(0)\n    time.sleep(0.2)",
    "orphans": (
        "for _ in range(7):\n    if os.fork() == 0:\n        if os.fork() == 0: burn(0.15)\n"
        "        os._exit(0)\n    os.wait(); time.sleep(0.2)"
    ),
    "children that are not reaped": (
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nfor _ in range(60):\n"
        "    if os.fork() == 0: burn(0.02); os._exit(0)\n    try: os.wait()\n    except OSError: pass"
    ),
    "children of the server": (
        "libc = ctypes.CDLL(None)\nfor _ in range(9):\n"
        "    if libc.syscall(56, 0x8000 | 17, 0, 0, 0, 0) == 0: burn(0.15); os._exit(0)\n    time.sleep(0.2)"
    ),
    "many at once": "for _ in range(9):\n    if os.fork() == 0: burn(0.15); os._exit(0)\nfor _ in range(9): os.wait()",
    "sessions of their own": "for _ in range(9):\n    if os.fork() == 0: os.setsid(); burn(0.15); os._exit(0)\n    os.wait()",
}


@pytest.mark.parametrize("chain", CHAINS)
def test_the_limit_of_processor_time_is_one_for_all_processes(forking, chain):
    run = forking.run(Job(f"{BURN}{CHAINS[chain]}\nprint('done')"), SHORT)
    assert (run.status, run.stdout) == ("timeout", b"")
    assert run.cpu_seconds < 2 * SHORT.seconds


def test_what_ends_between_two_looks_is_counted_at_the_end(forking):
    many = (
        "pids = []\nfor _ in range(4):\n    pids.append(os.fork())\n"
        "    if pids[-1] == 0: burn(0.02); os._exit(0)\nfor _ in pids: os.wait()"
    )
    run = forking.run(Job(BURN + many), Limits(seconds=0.06))
    assert run.status == "timeout"
    assert run.cpu_seconds > 0.08


def test_processes_within_the_limit_are_no_offence(forking):
    code = "for _ in range(3):\n    if os.fork() == 0: burn(0.05); os._exit(0)\n    os.wait()\nprint('done')"
    run = forking.run(Job(BURN + code), SHORT)
    assert (run.status, run.stdout) == ("ok", b"done\n")
    assert 0.15 < run.cpu_seconds < 0.3


CPP_CHAIN = """
#include <ctime>
#include <cstdio>
#include <unistd.h>
#include <sys/wait.h>
int main() {
    for (int i = 0; i < 9; i++) {
        if (fork() == 0) { while (clock() < CLOCKS_PER_SEC * 0.15); _exit(0); }
        wait(nullptr);
    }
    puts("done");
}
"""


def test_a_compiled_program_has_one_limit_for_all_its_processes_too(forking):
    forking.require_compiler()
    run = forking.run(Job(CPP_CHAIN, language="c++"), SHORT)
    assert (run.status, run.stdout) == ("timeout", b"")
    assert run.cpu_seconds < 2 * SHORT.seconds


ESCAPES_FROM_A_TIMER = {
    "no trick": "",
    "the timer is off": "signal.setitimer(signal.ITIMER_PROF, 0)",
    "the timer is far": "signal.setitimer(signal.ITIMER_PROF, 99)",
    "its signal is ignored": "signal.signal(signal.SIGPROF, signal.SIG_IGN)",
    "the limit of the kernel is lifted": (
        "import resource\n    try: resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))\n"
        "    except Exception: pass\n    signal.setitimer(signal.ITIMER_PROF, 0)"
    ),
    "the signal that the call began is taken back": (
        "signal.setitimer(signal.ITIMER_PROF, 0)\n    for frame in (sys._getframe(n) for n in range(9)):\n"
        "        byte = frame.f_locals.get('is_calling')\n        if byte: byte[0] = 0; break"
    ),
    "records that are taken back": (
        "signal.setitimer(signal.ITIMER_PROF, 0)\n    for _ in range(4): os.write(3, b'\\n'); burn(0.15)\n"
        "    os.ftruncate(3, 0); os.lseek(3, 0, 0)"
    ),
}


@pytest.mark.parametrize("trick", ESCAPES_FROM_A_TIMER)
def test_a_call_cannot_lift_its_limit(sandbox, trick):
    code = f"{BURN}def f(s):\n    {ESCAPES_FROM_A_TIMER[trick]}\n    burn(s)\n    return 7"
    calls = ("f(0.8)", "f(0)", "f(0)", "f(0)", "f(0)", "f(0)")
    run = sandbox.run(Job(code, calls=calls), SHORT)
    assert run.status == "timeout"


def test_code_before_the_calls_has_a_limit_of_its_own(sandbox):
    run = sandbox.run(Job(f"{BURN}burn(0.2)\ndef f(): burn(0.2); return 7", calls=("f()",) * 3), SHORT)
    assert (run.status, len(run.results)) == ("ok", 3)


# ---------------------------------------------------------------- the clock


def seconds_of(sandbox, code, limits=SHORT, **job):
    started = time.monotonic()
    return sandbox.run(Job(code, **job), limits), time.monotonic() - started


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(9)",
        "while True: burn(0.005); time.sleep(0.05)",
        "threading.Thread(target=time.sleep, args=(9,)).start()",
    ],
    ids=["sleep", "trickle", "a thread that sleeps"],
)
def test_what_sleeps_or_trickles_ends_with_the_clock(sandbox, code):
    run, seconds = seconds_of(sandbox, BURN + code)
    assert run.status == "timeout"
    assert seconds < 3 * (2 * SHORT.seconds + 1)


def test_a_sleeping_call_ends_long_before_the_clock_of_all_calls(sandbox):
    run, seconds = seconds_of(sandbox, "import time\ndef f(): time.sleep(60)", calls=("f()",) * 20)
    assert run.status == "timeout"
    assert seconds < 4


@pytest.mark.parametrize("worker", ["itself", "a child"])
def test_an_answer_that_others_keep_from_running_has_more_time(sandbox, descendants, worker):
    """Eight sessions and the answer share one core: 0.3 s of processor time take over 2 s, beyond the 1.8 s of the clock."""
    if worker == "a child" and not sandbox.rung.namespaces:
        pytest.skip("this rung forks nothing")
    code = "burn(0.3)" if worker == "itself" else "if os.fork() == 0: burn(0.3); os._exit(0)\nos.wait()"
    core = min(os.sched_getaffinity(0))
    with Sandbox(rung=sandbox.rung.name) as starved, _burners(8, core):
        starved.start()
        _pin(starved, core, descendants)
        run, seconds = seconds_of(starved, f"{BURN}{code}\nprint('done')", Limits(seconds=0.4))
    assert run.stdout == b"done\n"
    assert seconds > 1.8


@contextmanager
def _burners(number, core):
    """Processes that want the same core, each in a session of its own."""
    command = [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"]
    burners = [subprocess.Popen(command, start_new_session=True) for _ in range(number)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def _pin(sandbox, core, descendants):
    for pid in {sandbox._process.pid, *descendants(sandbox._process.pid)}:
        os.sched_setaffinity(pid, {core})


# ---------------------------------------------------------------- memory


def test_memory_that_is_only_reserved_is_none(sandbox):
    code = (
        "import mmap, threading\nm = mmap.mmap(-1, 200 << 20)\nthreading.stack_size(200 << 20)\n"
        "t = threading.Thread(target=print, args=(1,))\nt.start(); t.join()"
    )
    assert sandbox.run(Job(code), Limits(memory_mb=128)).stdout == b"1\n"


def test_memory_that_is_used_between_two_looks_is_judged(sandbox):
    run = sandbox.run(Job("x = b'x' * (140 << 20)"), Limits(memory_mb=128))
    assert run.status == "memory"


@pytest.mark.parametrize("bits", [28, 29])
@pytest.mark.parametrize("memory_mb", [256, 512])
def test_a_thread_may_ask_for_as_large_a_stack_as_contest_programs_do(sandbox, bits, memory_mb):
    depth = 20_000 if sys.version_info < (3, 12) else 500  # later ones bound calls through C whatever the stack
    code = (
        f"import sys, threading\nsys.setrecursionlimit(1 << 20)\nthreading.stack_size(1 << {bits})\n"
        f"def f(n): return n and sum(map(f, [n - 1]))\nt = threading.Thread(target=lambda: print(f({depth})))\n"
        f"t.start(); t.join()"
    )
    assert sandbox.run(Job(code), Limits(memory_mb=memory_mb)).stdout == b"0\n"


DEEP = (
    "#include <cstdio>\n"
    "int f(int n) { volatile char b[1000]; b[0] = n; return n ? f(n - 1) + b[0] : 0; }\n"
    'int main() { int n; scanf("%d", &n); printf("%d\\n", f(n) * 0 + n); }'
)


@pytest.mark.parametrize(("depth", "status"), [(150_000, "ok"), (500_000, "error")])
def test_a_compiled_program_may_recurse_down_to_the_limit_of_memory(forking, depth, status):
    forking.require_compiler()
    run = forking.run(Job(DEEP, language="c++", stdin=str(depth)), Limits(memory_mb=256))
    assert run.status == status
    assert status == "error" or run.stdout == f"{depth}\n".encode()


FILL = """
import os, socket, time
def fill():
    pairs = []
    try:
        while len(pairs) < {pairs}: pairs.append(socket.socketpair())
    except OSError: pass
    for end in [end for pair in pairs for end in pair]:
        end.setblocking(False)
        try:
            while True: end.send(bytes(1 << 16))
        except OSError: pass
    time.sleep(9)
for _ in range({processes}):
    if os.fork() == 0: fill()
time.sleep(9)
"""


@pytest.mark.parametrize(("processes", "pairs", "memory_mb"), [(12, 30, 64), (6, 10, 16), (20, 30, 64)])
def test_what_the_kernel_holds_for_an_answer_is_memory(forking, processes, pairs, memory_mb):
    run, seconds = seconds_of(forking, FILL.format(processes=processes, pairs=pairs), Limits(memory_mb=memory_mb))
    assert run.status == "memory" or (processes > 16 and run.detail == "BlockingIOError")
    assert seconds < 2


def test_an_answer_may_use_a_local_pair_and_files(sandbox):
    code = (
        "import asyncio, socket\nasyncio.run(asyncio.sleep(0))\na, b = socket.socketpair()\na.send(b'7')\n"
        "fs = [open('/dev/null') for _ in range(12)]\nprint(b.recv(1))"
    )
    assert sandbox.run(Job(code), Limits(memory_mb=64)).stdout == b"b'7'\n"


# ---------------------------------------------------------------- neighbours


def test_an_answer_is_one_session_and_has_few_tasks(sandbox):
    code = (
        "import os, threading\nbefore = os.getsid(0)\nos.setsid()\nprint(os.getsid(0) == before)\n"
        "event, n = threading.Event(), 1\ntry:\n    while True: threading.Thread(target=event.wait).start(); n += 1\n"
        "except RuntimeError: print(n <= 16)\nevent.set()"
    )
    run = sandbox.run(Job(code))
    assert run.stdout == b"True\nTrue\n" or run.status == "memory"


def test_a_few_threads_and_workers_are_enough_for_a_program(sandbox):
    code = (
        "import os\nfrom concurrent.futures import ThreadPoolExecutor as P\n"
        "with P() as p: print(sum(p.map(int, ['1'] * 99)))\nimport asyncio\n"
        "print(asyncio.run(asyncio.to_thread(int, '7')))"
    )
    assert sandbox.run(Job(code)).stdout == b"99\n7\n"


HOG = (
    "import threading, time\ntry:\n"
    "    while True: threading.Thread(target=time.sleep, args=(1,)).start()\n"
    "except RuntimeError: time.sleep(1)"
)


def test_threads_in_one_sandbox_leave_the_neighbours_theirs(sandbox):
    with Sandbox(rung=sandbox.rung.name) as noisy, Sandbox(rung=sandbox.rung.name) as quiet:
        noisy.start()
        quiet.start()
        hog = threading.Thread(target=noisy.run, args=(Job(HOG), Limits(seconds=2.0)))
        hog.start()
        time.sleep(0.3)
        code = (
            "import threading, time\nts = [threading.Thread(target=time.sleep, args=(0.1,)) for _ in range(8)]\n"
            "for t in ts: t.start()\nfor t in ts: t.join()\nprint('done')"
        )
        runs = [quiet.run(Job(code)) for _ in range(3)]
        hog.join()
    assert [run.stdout for run in runs] == [b"done\n"] * 3


@pytest.mark.skipif(os.geteuid() != 0, reason="users are given by root")
def test_each_server_has_a_user_of_its_own():
    with Sandbox(rung="B") as one, Sandbox(rung="B") as other:
        look = Job("import os\nprint(os.getuid())")
        assert one.run(look).stdout != other.run(look).stdout


@pytest.mark.parametrize("family", [2, 10, 16, 17, 38, 40])
def test_a_pair_of_sockets_is_local(sandbox, family):
    code = f"import socket\nsocket.socketpair({family})"
    assert sandbox.run(Job(code)).detail == "PermissionError"


def test_no_lock_is_taken_on_a_file_of_the_host(sandbox):
    code = "import fcntl, os\nfcntl.flock(open(os.__file__), fcntl.LOCK_SH)"
    assert sandbox.run(Job(code)).detail == "PermissionError"


# ---------------------------------------------------------------- input


@pytest.mark.parametrize(
    "read",
    [
        "open('/dev/stdin').read()",
        "open('/dev/fd/0').read()",
        "open('/proc/self/fd/0').read()",
        "open(0).read()",
        "__import__('pathlib').Path('/dev/stdin').read_text()",
        "__import__('os').read(__import__('os').open('/dev/stdin', 0), 99).decode()",
        "__import__('os').read(0, __import__('os').fstat(0).st_size).decode()",
        "''.join(__import__('fileinput').input())",
        "__import__('mmap').mmap(0, 0, prot=1)[:].decode()",
    ],
)
def test_an_input_is_read_by_any_of_its_names(sandbox, read):
    assert sandbox.run(Job(f"print({read}, end='')", stdin="2 3\n")).stdout == b"2 3\n"


def test_an_input_does_not_stay_for_the_next_answer(sandbox):
    sandbox.run(Job("open('/dev/stdin')", stdin="secret"))
    run = sandbox.run(Job("print(open('/dev/' + 'stdin').read())", stdin="own"))
    assert b"secret" not in run.stdout


def test_a_compiled_program_reads_its_input_by_name(forking):
    forking.require_compiler()
    code = '#include <cstdio>\nint main() { int n; freopen("/dev/stdin", "r", stdin); scanf("%d", &n); printf("%d", n + 1); }'
    assert forking.run(Job(code, language="c++", stdin="41")).stdout == b"42"


def test_all_that_an_answer_started_is_gone_when_its_verdict_is_there(forking, descendants):
    before = descendants(os.getpid())
    forking.run(Job("import os, time\nfor _ in range(12):\n    if os.fork() == 0: time.sleep(60); os._exit(0)"), SHORT)
    assert descendants(os.getpid()) <= before


# ---------------------------------------------------------------- packages

NUMPY = "import numpy as np\nprint(np.asarray([float(x) for x in input().split()]).max())"


def test_an_answer_imports_the_packages_that_the_judge_offers_and_no_other(sandbox):
    pytest.importorskip("numpy")
    with Sandbox(rung=sandbox.rung.name, packages=("numpy",)) as offering:
        run = offering.run(Job(NUMPY, stdin="3\n1 2 3\n"))
        assert (run.status, run.stdout) == ("ok", b"3.0\n")
        assert offering.run(Job("import pandas")).detail == "ModuleNotFoundError"
        assert (
            offering.run(Job("import numpy.linalg, numpy.random\nprint(numpy.linalg.det(numpy.eye(99)))")).stdout
            == b"1.0\n"
        )
        assert not [row for row in try_to_escape(offering) if not row.stopped]
    assert sandbox.run(Job(NUMPY, stdin="3\n1 2 3\n")).detail == "ModuleNotFoundError"


def test_a_package_below_tmp_is_offered_and_what_lies_beside_it_is_not(sandbox, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the new root hides /tmp while it is built
        for name in ("offered", "beside"):
            Path(folder, name).mkdir()
            Path(folder, name, "__init__.py").write_text("value = 6\n")
        Path(folder).chmod(0o755)  # the sandbox's user may look, as into an environment
        monkeypatch.syspath_prepend(folder)
        with Sandbox(rung=sandbox.rung.name, packages=("offered",)) as offering:
            assert offering.run(Job("import offered\nprint(offered.value)")).stdout == b"6\n"
            assert offering.run(Job("import beside")).status == "error"
            assert not [row for row in try_to_escape(offering) if not row.stopped]


def test_a_package_that_is_not_installed_is_told():
    with Sandbox(packages=("no_such_package",)) as offering, pytest.raises(SandboxError, match="no_such_package"):
        offering.start()


def test_an_answer_that_starts_too_many_threads_is_out_of_resources(sandbox):
    code = "import threading, time\nfor _ in range(99): threading.Thread(target=time.sleep, args=(0.5,)).start()"
    assert sandbox.run(Job(code)).status == "memory"
