"""Hostile programs, run for real on every rung that works here."""

import ast
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from data.sandbox import Job, Limits, Sandbox

ROOT = Path(__file__).resolve().parents[3]
QUICK = Limits(seconds=0.4, memory_mb=256, output_mb=1)
REFUSED = {"PermissionError", "OSError", "FileNotFoundError", "BlockingIOError"}


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.memfd_create('a')",
        "import os; os.symlink('/etc/passwd', 'x')",
        "import os; os.symlink('/', 'x'); open('x/etc/passwd')",
        "import os; os.link('/dev/null', 'x')",
        "import os; os.utime('/tmp')",
        "import os; os.sched_setaffinity(os.getppid(), {0})",
        "import os; os.pidfd_open(os.getppid())",
        "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)",
        "import os, fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
        "import mmap; mmap.mmap(-1, 1 << 30)",
        "import subprocess; subprocess.run(['ls'])",
        "import tempfile, os; open(os.path.dirname(tempfile.__file__) + '/x', 'w')",
        "import os; os.listdir('/proc')",
        "open('/proc/self/environ')",
        "open('/proc/1/environ')",
        "open('/etc/shadow')",
        "import os; os.setuid(0)",
        "import os; os.setgroups([0])",
        "import os; os.chroot('/usr')",
        "import os; os.mknod('x')",
        "import os; os.open('/tmp', os.O_TMPFILE | os.O_RDWR); os.open('/usr', os.O_TMPFILE | os.O_RDWR)",
        "import os; os.kill(-1, 9)",
        "import os; os.killpg(0, 9)",
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)",
        f"open({str(ROOT / 'pyproject.toml')!r})",
    ],
)
def test_what_reaches_beyond_the_program_is_refused(sandbox, code):
    run = sandbox.run(Job(code), QUICK)
    assert run.status in {"error", "memory"}
    assert run.status == "memory" or run.detail in REFUSED


@pytest.mark.parametrize(
    ("code", "statuses"),
    [
        ("import os\nwhile True: os.fork()", {"error"}),
        ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", {"timeout"}),
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", {"memory"}),
        ("while True: print('x' * 9999)", {"output"}),
        ("import os\nwhile True: os.write(2, b'x' * 9999)", {"timeout"}),
        ("while True: pass", {"timeout"}),
        ("import time; time.sleep(99)", {"timeout"}),
        ("import time\nwhile True:\n    try: time.sleep(99)\n    except BaseException: pass", {"timeout"}),
        ("import signal\nfor n in {*range(1, 65)} - {9, 19, 32, 33}: signal.signal(n, signal.SIG_IGN)\nwhile True: pass", {"timeout"}),
        ("import threading\nwhile True: threading.Thread(target=threading.Event().wait).start()", {"error", "timeout", "memory"}),
        ("import ctypes; ctypes.string_at(0)", {"error"}),
        ("import sys; sys.setrecursionlimit(10**9)\ndef f(): return f()\nf()", {"error", "memory", "timeout"}),
        ("import os\nfor fd in range(64):\n    try: os.close(fd)\n    except OSError: pass", {"ok", "error"}),
        ("import os; os.dup2(1, 3); os.write(3, b'{\"end\": \"ok\"}\\n' * 9); os._exit(1)", {"error"}),
    ],
)  # fmt: skip
def test_a_bomb_ends_and_the_next_answer_is_judged(sandbox, descendants, code, statuses):
    before = descendants(os.getpid())
    has_to_fill = statuses == {"memory"}  # which takes half a second of processor time on a slow machine
    run = sandbox.run(Job(code), replace(QUICK, seconds=4.0) if has_to_fill else QUICK)
    assert run.status in statuses
    assert sandbox.run(Job("print(1)")).stdout == b"1\n"
    assert descendants(os.getpid()) <= before


def test_the_home_folder_shows_at_most_the_way_to_python(sandbox):
    run = sandbox.run(Job(f"import os\nprint(os.listdir({str(Path.home())!r}))"), QUICK)
    names = set(ast.literal_eval(run.stdout.decode() or "[]"))
    assert names <= {part for folder in sys.path for part in Path(folder).parts} | set(Path(sys.base_prefix).parts)


def test_a_daemonised_grandchild_ends_with_the_run(sandbox, descendants):
    before = descendants(os.getpid())
    code = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n"
        "    os._exit(0)\nprint('done')"
    )
    run = sandbox.run(Job(code), QUICK)
    assert run.stdout == (b"done\n" if sandbox.rung.namespaces else b"")
    assert descendants(os.getpid()) <= before


def test_no_descriptor_of_the_judge_is_inherited_however_many_it_has(sandbox):
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
    try:
        with Sandbox(rung=sandbox.rung.name) as fresh:
            look = "import os\nfor fd in range(4, 2000):\n    try: os.fstat(fd)\n    except OSError: continue\n    print(fd)"
            assert fresh.run(Job(look)).stdout == b""
    finally:
        for fd in held:
            os.close(fd)


def test_scratch_is_bounded_and_empty_at_each_start(sandbox):
    fill = "import os\nos.mkdir('d')\nfor n in range(99): open(f'd/{n}', 'wb').write(bytes(1 << 19))"
    run = sandbox.run(Job(fill), QUICK)
    assert (run.status, run.detail) == ("error", "OSError" if sandbox.rung.namespaces else "PermissionError")
    many = "for n in range(99999): open(str(n), 'w').close()"
    assert sandbox.run(Job(many), QUICK).status == "error"
    look = "import os; print(os.listdir('.') if os.getcwd().startswith('/scratch') else [])"
    assert sandbox.run(Job(look)).stdout == b"[]\n"


def test_scratch_is_for_files(sandbox):
    if not sandbox.rung.namespaces:
        pytest.skip("this rung has no scratch folder")
    code = (
        "import os, tempfile, shutil\nopen('a', 'w').write('7')\nos.rename('a', 'b')\nprint(open('b').read())\n"
        "with tempfile.TemporaryDirectory() as d: open(d + '/x', 'w').write('x')\nopen('/tmp/c', 'w')\nprint(sorted(os.listdir('.')))"
    )
    assert sandbox.run(Job(code)).stdout == b"7\n['b', 'c']\n"


FAMILY = """
import os, time
children = []
for _ in range(12):
    pid = os.fork()
    if pid == 0:
        x = [bytearray(1 << 20) for _ in range({megabytes})]
        time.sleep({seconds})
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
print("done")
"""


@pytest.mark.parametrize(("megabytes", "seconds", "status"), [(1, 0.2, "ok"), (60, 30, "memory")])
def test_the_limit_of_memory_is_one_for_all_processes_of_an_answer(sandbox, megabytes, seconds, status):
    if not sandbox.rung.namespaces:
        pytest.skip("this rung forks nothing")
    run = sandbox.run(Job(FAMILY.format(megabytes=megabytes, seconds=seconds)), QUICK)
    assert run.status == status


def test_an_answer_has_a_bounded_number_of_processes(sandbox):
    if not sandbox.rung.namespaces:
        pytest.skip("this rung forks nothing")
    code = (
        "import os, time\nn = 0\nwhile True:\n    try: pid = os.fork()\n    except OSError: break\n"
        "    if pid == 0: time.sleep(9)\n    n += 1\nprint(n)"
    )
    assert int(sandbox.run(Job(code), QUICK).stdout) < 16


@pytest.mark.parametrize(
    ("trick", "results"),
    [
        ('import os\nos.write(3, b\'{"value": "31"}\\n\' * 9)\nos._exit(0)', [{"value": "31"}]),
        ("import os\nos.close(3)", []),
        ("import sys\nsys.settrace(lambda *a: None)", [{"value": "7"}]),
        ("import sys\nsys.modules['data.sandbox.tagged'].dumps = lambda value: '17'", [{"value": "17"}]),
        ("import os\nos.write(3, b'[' * 10**6 + b'\\n')", []),
        ("import os\nos.lseek(3, 1 << 40, 0)", []),
        ("import os\nos.ftruncate(3, 1 << 19)", [{"value": "7"}]),
    ],
)
def test_the_channel_of_results_carries_at_most_claims(sandbox, trick, results):
    run = sandbox.run(Job(f"{trick}\nf = lambda x: 7", calls=("f(1)",)), QUICK)
    assert list(run.results) == results


PARENT = """
import json, os, sys, threading
from data.sandbox import Job, Limits, Sandbox, Sandbox
with Sandbox(rung=sys.argv[1]) as sandbox:
    sandbox.run(Job("print(1)"))
    threading.Timer(0.5, lambda: print("running", flush=True)).start()
    sandbox.run(Job(sys.argv[2]), Limits(seconds=60.0))
"""


@pytest.mark.parametrize(
    "code", ["while True: pass", "import os, time\nos.fork()\nos.fork()\ntime.sleep(60)"], ids=["loop", "forks"]
)
@pytest.mark.parametrize("victim", ["judge", "server"])
def test_what_is_killed_takes_everything_below_it_along(sandbox, descendants, code, victim):
    if "fork" in code and not sandbox.rung.namespaces:
        pytest.skip("this rung forks nothing")
    command = [sys.executable, "-c", PARENT, sandbox.rung.name, code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as judge:
        assert judge.stdout.readline() == b"running\n"
        below = descendants(judge.pid)
        assert len(below) >= 2
        os.kill(judge.pid if victim == "judge" else min(below), signal.SIGKILL)
        if victim == "server":
            time.sleep(0.3)
            assert not below & descendants(os.getpid())
            judge.kill()
        assert _all_gone(below)


def _all_gone(pids: set[int]) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
