"""Attempts to get out of the sandbox, made for real: every one must be stopped, and an ordinary program must run.

The judge offers what there is to get: a file, a listening socket, its own process. Without confinement the attempts succeed.
"""

import os
import socket
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data.sandbox.client import Job, Limits, Sandbox, SandboxError
from data.sandbox.rungs import LADDER, RUNGS

ESCAPED = "ESCAPED"  # a probe prints it when it got what it tried for


@dataclass(frozen=True, slots=True)
class Probe:
    """One attempt, or the control."""

    probe: str
    stopped: bool
    detail: str  # how it ended
    rung: str


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What became of one rung on this machine; no probes where it does not start."""

    rung: str
    why_not: str  # empty where it works
    probes: tuple[Probe, ...]

    @property
    def works(self) -> bool:
        """It starts, nothing gets out, and the control runs."""
        return not self.why_not and all(probe.stopped for probe in self.probes)


QUICK_PROBES: dict[str, str] = {
    "read the password file": "open('/etc/passwd').read()",
    "read the password hashes": "open('/etc/shadow').read()",
    "read a file of the judge": "open(SECRET).read()",
    "list a folder of the judge": "os.listdir(FOLDER)",
    "read it through a symbolic link": "os.symlink(SECRET, 'link'); open('link').read()",
    "read it through a hard link": "os.link(SECRET, NEW); open(NEW).read()",
    "change its mode": "os.chmod(SECRET, 0o777)",
    "write beside it": "open(NEW, 'w').close()",
    "write to the system": "open('/var/tmp/ring-probe', 'w').close(); os.unlink('/var/tmp/ring-probe')",
    "fill a disk": "for n in range(64): open(f'{PLACE}/ring-{n}', 'wb').write(bytes(1 << 20))",
    "see other processes": "assert len([name for name in os.listdir('/proc') if name.isdigit()]) > 4",
    "read the environment of the judge": "open(f'/proc/{JUDGE}/environ', 'rb').read()",
    "read the environment of the first process": "open('/proc/1/environ', 'rb').read()",
    "read the memory of the server": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "find the environment of the judge here": "os.environ['PATH']",
    "connect to a port": "socket.create_connection(('127.0.0.1', PORT), timeout=1)",
    "send a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "open a local socket": "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "signal the judge": "os.kill(JUDGE, 0)",
    "signal the server": "os.kill(os.getppid(), 0)",
    "be traced": "must(libc.ptrace(0, 0, 0, 0))",
    "fork without end": "for _ in range(64): os.fork() or (time.sleep(0.5), os._exit(0))",
    "run another program": "os.posix_spawn('/bin/true', ['true'], {})",
    "make a namespace": "must(libc.unshare(0x10000000))",
    "mount": "must(libc.mount(b'tmpfs', b'/scratch/tmp', b'tmpfs', 0, None))",
    "become root": "os.setuid(0)",
    "use an inherited file": "[os.fstat(fd) for fd in range(4, 9)]",
    "take much memory": "x = bytearray(4 << 30)",
    "write without end": "for _ in range(64): sys.stdout.write('x' * (1 << 20))",
}
SLOW_PROBES: dict[str, str] = {
    "compute without end": "while True: pass",
    "sleep without end": "time.sleep(3600)",
}
CONTROL = "an ordinary program runs"
_CONTROL_CODE = "import threading\nt = threading.Thread(target=lambda: print(int(input()) + 1))\nt.start()\nt.join()"


def check(*, confined: bool = True, rung: str | None = None, slow: bool = False) -> list[Probe]:
    """Every probe and the control, in a sandbox of its own. Raises SandboxError where no sandbox can be made."""
    with Sandbox(confined=confined, rung=rung) as sandbox:
        return try_to_escape(sandbox, slow=slow)


def rehearse() -> list[Rehearsal]:
    """What every rung of the ladder does on this machine, the slow probes included."""
    return [_rehearsal(rung.name) for rung in LADDER]


def _rehearsal(rung: str) -> Rehearsal:
    with Sandbox(rung=rung) as sandbox:
        try:
            return Rehearsal(rung, "", tuple(try_to_escape(sandbox, slow=True)))
        except SandboxError as error:
            return Rehearsal(rung, sandbox.refusals.get(rung, str(error)), ())


def try_to_escape(sandbox: Sandbox, *, slow: bool = False) -> list[Probe]:
    """Run every probe in this sandbox; the last row is the control."""
    probes = {**QUICK_PROBES, **SLOW_PROBES} if slow else QUICK_PROBES
    sandbox.start()
    with _bait() as names:
        rows = [_attempt(sandbox, name, names + code) for name, code in probes.items()]
    run = sandbox.run(Job(_CONTROL_CODE, stdin="41\n"))
    return [*rows, Probe(CONTROL, run.stdout == b"42\n", run.status, sandbox.rung.name)]


def require_confinement(sandbox: Sandbox) -> None:
    """Settle on the first rung that nothing gets out of. Raises SandboxError where there is none."""
    if sandbox.rung is RUNGS["unsafe"]:
        return
    while failed := [row for row in try_to_escape(sandbox) if not row.stopped]:
        sandbox.refuse(
            "it did not pass its test of itself: " + "; ".join(f"{row.probe} ({row.detail})" for row in failed)
        )


@contextmanager
def _bait() -> Generator[str]:
    """What there is to get, as code that names it; the folder is open to everybody, so that only the sandbox guards it."""
    with (
        tempfile.TemporaryDirectory(prefix="ring-probe-") as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        secret = Path(folder, "secret")
        secret.write_text("secret")
        secret.chmod(0o666)
        Path(folder).chmod(0o777)
        yield (
            "import ctypes, os, socket, sys, time\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            "def must(result):\n    if result < 0: raise OSError(ctypes.get_errno(), 'refused')\n"
            f"JUDGE, PORT = {os.getpid()}, {listener.getsockname()[1]}\n"
            f"FOLDER, SECRET, NEW = {folder!r}, {str(secret)!r}, {str(Path(folder, 'new'))!r}\n"
            "PLACE = FOLDER if os.path.exists(FOLDER) and os.access(FOLDER, os.W_OK) else '.'\n"
        )


def _attempt(sandbox: Sandbox, name: str, code: str) -> Probe:
    program = f"{code}\nprint({ESCAPED!r})"
    run = sandbox.run(Job(program), Limits(seconds=1.0))
    escaped = ESCAPED.encode() in run.stdout
    detail = "got out" if escaped else run.detail if run.status == "error" else run.status
    return Probe(name, not escaped, detail, sandbox.rung.name)
