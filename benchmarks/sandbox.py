"""The sandbox: programs per CPU-second on each rung as a ratio to plain `subprocess` without isolation, and a soak.

`python -m benchmarks sandbox` for the ratios, `python -m benchmarks.sandbox soak 20000` for the soak: mixed runs, a tenth of them
hostile, with processes, files, mounts, descriptors and memory counted before and after. CPU seconds are those of this process
and of all its children, so that a busy machine matters little. The plain reference is measured before and after each rung.
"""

import gc
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console

from data.sandbox import LADDER, Job, Limits, Sandbox, SandboxError, require_confinement
from flows.tables import rows_table

PROGRAM = "print(sum(map(int, input().split())))"
TYPICAL = (
    "import heapq\nfrom collections import Counter\nn = int(input())\nxs = [i * 7919 % 10007 for i in range(n)]\n"
    "heapq.heapify(xs)\ncounts = Counter(heapq.heappop(xs) % 97 for _ in range(n))\nprint(max(counts.values()))"
)
FUNCTION = "def f(xs):\n    return sum(x * x for x in xs)"
ROUNDS, PLAIN_RUNS, RUNS = 3, 100, 400
CALLS = tuple(f"f({list(range(k, k + 9))})" for k in range(10))


def main() -> None:
    rows = []
    for rung in LADDER:
        with Sandbox(rung=rung.name) as sandbox:
            try:
                sandbox.start()
            except SandboxError as error:
                rows.append({"rung": rung.name, "what": f"does not start: {error}"})
                continue
            rows += [_programs_row(sandbox, "short program", PROGRAM, "1 2 3\n")]
            rows += [_programs_row(sandbox, "typical program", TYPICAL, "2000\n"), _calls_row(sandbox)]
    Console().print(rows_table(rows, title=f"per CPU-second; load {os.getloadavg()[0]:.1f}"))


def _programs_row(sandbox: Sandbox, what: str, code: str, stdin: str) -> dict[str, object]:
    job = Job(code, stdin=stdin)

    def confined() -> None:
        assert sandbox.run(job).status == "ok"

    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(code)
        script.flush()
        command = [sys._base_executable, "-I", "-S", script.name]

        def plain() -> None:
            subprocess.run(command, input=stdin.encode(), capture_output=True, check=True)

        return _row(sandbox, what, confined, plain, per_run=1)


def _calls_row(sandbox: Sandbox) -> dict[str, object]:
    """Ten call tests of one answer: one child for all, against one plain process for each."""
    job = Job(FUNCTION, calls=CALLS)

    def confined() -> None:
        assert len(sandbox.run(job).results) == len(CALLS)

    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(f"{FUNCTION}\nprint(eval(input()))")
        script.flush()
        command = [sys._base_executable, "-I", "-S", script.name]

        def plain() -> None:
            subprocess.run(command, input=CALLS[0].encode(), capture_output=True, check=True)

        return _row(sandbox, f"{len(CALLS)} calls, one child", confined, plain, per_run=len(CALLS))


def _row(sandbox: Sandbox, what: str, confined, plain, *, per_run: int) -> dict[str, object]:
    rates = [(_rate(sandbox, confined, RUNS) * per_run, _rate(sandbox, plain, PLAIN_RUNS)) for _ in range(ROUNDS)]
    ours, theirs = (sorted(column)[ROUNDS // 2] for column in zip(*rates, strict=True))
    ratio = sorted(rate / reference for rate, reference in rates)[ROUNDS // 2]
    return {
        "rung": sandbox.rung.name,
        "what": what,
        "per s": round(ours),
        "plain": round(theirs),
        "ratio": round(ratio, 2),
        "server MB": round(_server_kilobytes(sandbox) / 1024, 1),
    }


def _rate(sandbox: Sandbox, run, count: int) -> float:
    before = _cpu_seconds(sandbox)
    for _ in range(count):
        run()
    return count / (_cpu_seconds(sandbox) - before)


def _cpu_seconds(sandbox: Sandbox) -> float:
    """Of this process, its finished children, and the server with its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    total = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    tick = os.sysconf("SC_CLK_TCK")
    for pid in _servers(sandbox):
        total += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15])) / tick
    return total


def _servers(sandbox: Sandbox) -> list[int]:
    """The started process and, on a rung with namespaces, the server below it."""
    assert sandbox._process is not None
    first = sandbox._process.pid
    return [first, *_children(first)]


def _children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def _server_kilobytes(sandbox: Sandbox, *, field: str = "Pss") -> int:
    lines = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in _servers(sandbox)).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


# ---------------------------------------------------------------- soak

ORDINARY = (
    Job(PROGRAM, stdin="1 2 3\n"),
    Job(TYPICAL, stdin="500\n"),
    Job(FUNCTION, calls=CALLS),
    Job("raise ValueError"),
    Job("import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()"),
)
HOSTILE = (
    "import os\nwhile True: os.fork()",
    "import os, time\nif os.fork() == 0:\n    os.setsid()\n    os.fork()\n    time.sleep(60)",
    "x = []\nwhile True: x.append(bytearray(1 << 22))",
    "while True: print('x' * 65536)",
    "for n in range(9999): open(str(n), 'wb').write(b'x' * 65536)",
    "import os\nos.mkdir('a')\nos.chdir('a')\nos.mkdir('b')\nopen('b/c', 'w')",
    "import os\nos.kill(os.getppid(), 9)",
    "import os\nfor fd in range(64):\n    try: os.close(fd)\n    except OSError: pass",
    "import os\nos.write(3, b'x' * 100000)\nos._exit(0)",
    "import ctypes\nctypes.string_at(0)",
    "import socket\nsocket.create_connection(('127.0.0.1', 22))",
    "import os, time\nfor _ in range(99):\n    if os.fork() == 0:\n        end = time.thread_time() + 0.05\n"
    "        while time.thread_time() < end: pass\n        os._exit(0)\n    os.wait()",
    "import os, socket\npairs = [socket.socketpair() for _ in range(12)]\nfor end in sum(pairs, ()): end.setblocking(False)\n"
    "for _ in range(4): os.fork()\nfor end in sum(pairs, ()):\n    try:\n"
    "        while True: end.send(bytes(1 << 16))\n    except OSError: pass",
    "open('/dev/stdin').read()\nopen('left', 'w').close()",
)
RARE = ("while True: pass", "import time\ntime.sleep(60)")  # they cost a second each: one run in a hundred
TIGHT = Limits(seconds=0.2, memory_mb=128, output_mb=1)


def soak(num_runs: int, *, rung: str | None = None, seed: int = 0) -> dict[str, tuple[int, int]]:
    """Run the mixture; (before, after) of everything that could be left behind or grow."""
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            return _soak(num_runs, rung=rung, seed=seed)
        finally:
            tempfile.tempdir = None


def _soak(num_runs: int, *, rung: str | None, seed: int) -> dict[str, tuple[int, int]]:
    with Sandbox(rung=rung) as warm:  # what Python itself keeps after a first use is not growth
        require_confinement(warm)
        _mixture(warm, 99, random.Random(1))
    before = _left_behind()
    with Sandbox(rung=rung) as sandbox:
        require_confinement(sandbox)
        _mixture(sandbox, 99, random.Random(2))
        first, started = _memory_of(sandbox), sandbox._process
        _mixture(sandbox, num_runs, random.Random(seed))
        assert sandbox._process is started, "the server was lost"
        last = _memory_of(sandbox)
    after = _left_behind()
    return {
        name: (then, now[name]) for then_all, now in ((before, after), (first, last)) for name, then in then_all.items()
    }


def _mixture(sandbox: Sandbox, num_runs: int, generator: random.Random) -> Counter[str]:
    statuses: Counter[str] = Counter()
    for number in range(num_runs):
        hostile = RARE if number % 100 == 99 else HOSTILE if number % 10 == 9 else None
        job = Job(generator.choice(hostile)) if hostile else generator.choice(ORDINARY)
        statuses[sandbox.run(job, TIGHT).status] += 1
    return statuses


def _left_behind() -> dict[str, int]:
    """What exists now: servers and what they started, mounts, files in the temporary folder, descriptors."""
    gc.collect()
    return {
        "processes": _num_processes(),
        "mounts": len(Path("/proc/self/mounts").read_text().splitlines()),
        "temporary files": len(list(Path(tempfile.gettempdir()).rglob("*"))),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }


def _num_processes() -> int:
    """Processes that are children of this one, or servers (and what they forked) whose parent is gone."""
    return sum(_is_ours(folder) for folder in Path("/proc").iterdir() if folder.name.isdigit())


def _is_ours(folder: Path) -> bool:
    try:
        parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        is_server = b"data.sandbox.server" in (folder / "cmdline").read_bytes()
    except OSError:  # it ended meanwhile
        return False
    return parent == os.getpid() or (parent == 1 and is_server)


def _memory_of(sandbox: Sandbox) -> dict[str, int]:
    gc.collect()
    own = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024
    descriptors = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in _servers(sandbox))
    return {
        "judge KB": own,
        "server KB": _server_kilobytes(sandbox, field="Pss_Anon"),  # its own: other processes share the rest, and end
        "server descriptors": descriptors,
        "server processes": sum(1 + len(_children(pid)) for pid in _servers(sandbox)[-1:]),
    }


if __name__ == "__main__":
    if sys.argv[1:2] != ["soak"] or not "".join(sys.argv[2:]).isdecimal():
        sys.exit("usage: python -m benchmarks.sandbox soak NUM_RUNS")
    started = time.monotonic()
    found = soak(int(sys.argv[2]))
    rows = [{"what": name, "before": first, "after": last} for name, (first, last) in found.items()]
    Console().print(rows_table(rows, title=f"{int(sys.argv[2]):,} runs in {time.monotonic() - started:.0f} s"))
