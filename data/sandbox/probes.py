"""Attempts to get out of the sandbox: every probe must be stopped, and an ordinary program must run."""

from dataclasses import dataclass

from data.sandbox.client import Job, Limits, Sandbox, SandboxError

ESCAPED = "ESCAPED"  # a probe prints it when it got what it tried for


@dataclass(frozen=True, slots=True)
class Probe:
    """One attempt, or the control."""

    probe: str
    stopped: bool
    detail: str  # how it ended


PROBES: dict[str, str] = {
    "read a system file": "open('/etc/passwd').read()",
    "list the top folder": "import os; os.listdir('/')",
    "read the environment of the server": "import os; open(f'/proc/{os.getppid()}/environ', 'rb').read()",
    "read the memory of the server": "import os; open(f'/proc/{os.getppid()}/mem', 'rb')",
    "write to the temporary folder": "import os; open('/tmp/ring-probe', 'w').close(); os.unlink('/tmp/ring-probe')",
    "write to the working folder": "import os; open('ring-probe', 'w').close(); os.unlink('ring-probe')",
    "change the mode of a file": "import os; os.chmod('/tmp', 0o1777)",
    "open a network socket": "import socket; socket.socket()",
    "open a datagram socket": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "open a local socket": "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "signal the server": "import os; os.kill(os.getppid(), 0)",
    "trace a process": "import ctypes; assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0",
    "fork": "import os; os.fork() or os._exit(0)",
    "run another program": "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "make a namespace": "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "stay or become root": "import os; os.setuid(0)",
    "use an inherited file": "import os; [os.fstat(fd) for fd in range(4, 9)]",
    "take much memory": "x = bytearray(4 << 30)",
    "write without end": "import sys\nfor _ in range(64): sys.stdout.write('x' * (1 << 20))",
}
CONTROL = "an ordinary program runs"


def check(*, confined: bool = True) -> list[Probe]:
    """Every probe and the control, in a sandbox of its own. Raises SandboxError where no sandbox can be made."""
    with Sandbox(confined=confined) as sandbox:
        return try_to_escape(sandbox)


def try_to_escape(sandbox: Sandbox) -> list[Probe]:
    """Run every probe in this sandbox; the last row is the control."""
    rows = [_attempt(sandbox, name, code) for name, code in PROBES.items()]
    run = sandbox.run(Job("print(int(input()) + 1)", stdin="41\n"))
    return [*rows, Probe(CONTROL, run.stdout == b"42\n", run.status)]


def require_confinement(sandbox: Sandbox) -> None:
    """Raises SandboxError when a probe gets through."""
    failed = [row for row in try_to_escape(sandbox) if not row.stopped]
    if failed:
        sandbox.close()
        what = "; ".join(f"{row.probe} ({row.detail})" for row in failed)
        raise SandboxError(
            f"not running untrusted code: the sandbox did not pass its test of itself: {what}. Use another machine, or set "
            "runtime.unsafe_local_execution = true to run answers without protection"
        )


def _attempt(sandbox: Sandbox, name: str, code: str) -> Probe:
    indented = "\n".join(f"    {line}" for line in code.split("\n"))
    program = f"try:\n{indented}\nexcept OSError as error:\n    raise SystemExit(3)\nprint({ESCAPED!r})"
    run = sandbox.run(Job(program), Limits(seconds=2.0))
    escaped = ESCAPED.encode() in run.stdout
    return Probe(name, not escaped, "got through" if escaped else f"{run.status} {run.detail}".strip())
