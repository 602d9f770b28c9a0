"""The judge's side of the sandbox: starts the fork server at first need and runs one job after another in it.

A job is a program with its stdin, or code with expressions to evaluate in it. Expected outputs never enter a job.
"""

import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from data.sandbox.rungs import LADDER, RUNGS, UNSAFE, Rung
from data.sandbox.server import MAX_PATIENCE

MAX_RESULT_BYTES = 16_000_000
_START_SECONDS, _GRACE_SECONDS, _END_SECONDS = 30.0, 5.0, 2.0
_PROJECT = Path(__file__).resolve().parents[2]
_FLAGS = ("-P", "-s", "-S")  # `-I` but for PYTHONHASHSEED: nothing else is in the environment
_START = """
import sys, types
for name in ("data", "data.sandbox"):  # without what the judge's side imports, so that a fork is small
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [sys.argv[3] + "/" + name.replace(".", "/")]
from data.sandbox.server import main
main(int(sys.argv[1]), sys.argv[2])
"""


class SandboxError(ValueError):
    """Untrusted code cannot be run safely here."""


class NoCompilerError(SandboxError):
    """C++ cannot be compiled here: the judge does not know."""


class SandboxLostError(SandboxError):
    """The sandbox was there and failed: the judge's failure, never the answer's."""


@dataclass(frozen=True)
class Limits:
    """What one run may use."""

    seconds: float = 4.0  # processor time of a program, or of each call
    total_seconds: float = 20.0  # processor time of all calls together; asleep, an answer gets twice that and 1 s
    memory_mb: int = 512  # address space
    output_mb: int = 4  # of stdout, and of results


@dataclass(frozen=True, slots=True)
class Job:
    """What a child runs: `setup` then `code`, or the other way round if `setup` uses its names; then each of `calls`."""

    code: str
    setup: str = ""
    stdin: str = ""
    calls: tuple[str, ...] = ()  # expressions
    function: str = ""  # looked for in a class Solution if it is not at the top
    module: str = "__main__"  # name of the module that the code is in
    values: tuple[str, ...] = ()  # tagged; the list _R in the code's namespace
    language: str = "python"  # or c++: a whole program, without `setup`, `calls` and `values`


COMPILER_LIMITS = Limits(seconds=10.0, memory_mb=1024, output_mb=14)  # of a program with all headers: 1 s and 400 MB
_PROGRAM_THAT_IS_RIGHT = "#include <iostream>\nint main() { std::cout << 42; }\n"
_JOB_FIELDS = tuple(field.name for field in fields(Job))


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended, and what the answer claims."""

    status: str  # ok, error, timeout, memory, output
    detail: str  # name of the exception, or the exit status
    stdout: bytes
    cpu_seconds: float
    results: tuple[dict[str, str], ...]  # of the calls, in order: a tagged `value` or an `error`


class Sandbox:
    """A fork server on the best rung that works here, started at the first run and closed with the block.

    `confined=False` runs code without protection; `rung` asks for one of `rungs.RUNGS` and no other.
    """

    def __init__(self, *, confined: bool = True, rung: str | None = None) -> None:
        self._rungs = list(LADDER) if confined else [UNSAFE]
        if rung is not None:
            self._rungs = [RUNGS[rung]]
        self.refusals: dict[str, str] = {}  # rungs given up, and why
        self._compiled: tuple[str, bytes | Run] = (
            "",
            b"",
        )  # the last source, and its program or how compiling it ended
        self._compiler_is_tested = False
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def rung(self) -> Rung:
        """The rung in use. Raises SandboxError where none is left."""
        if not self._rungs:
            raise SandboxError(_refusal(self.refusals))
        return self._rungs[0]

    def refuse(self, why: str) -> None:
        """Give up the rung in use for the next one."""
        self.refusals[self._rungs.pop(0).name] = why
        self.close()

    def close(self) -> None:
        """End the server; a later run starts another."""
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            _end(self._process)
        self._channel = self._process = None

    def run(self, job: Job, limits: Limits | None = None) -> Run:
        """Run one job.

        Raises:
            SandboxError: the server cannot start on any rung.
            SandboxLostError: it was lost twice.
            NoCompilerError: the job is C++, and that cannot be compiled here.

        """
        limits = limits or Limits()
        if job.language == "python":
            return self._run("python", job, limits).run
        program = self._compile(job.code)
        return program if isinstance(program, Run) else self._run("program", job, limits, program=program).run

    def _run(self, kind: str, job: Job, limits: Limits, *, program: bytes | None = None) -> "_Finished":
        for _ in range(2):
            fds = _memory_files(job, limits, program)
            try:
                reply = self._ask(_header(kind, job, limits), fds)
                if reply is not None:
                    return _finished(reply, job, limits, stdout=fds[2], result=fds[3])
            finally:
                for fd in fds:
                    os.close(fd)
            self.close()
        raise SandboxLostError("the sandbox's server was lost twice while running the same answer")

    def _compile(self, source: str) -> bytes | Run:
        """The program, or how compiling it failed."""
        if self._compiled[0] != source:
            self.require_compiler()
            self._compiled = (source, self._compile_now(source))
        return self._compiled[1]

    def _compile_now(self, source: str) -> bytes | Run:
        done = self._run("compiler", Job(source), COMPILER_LIMITS)
        if done.run.status == "ok":
            return done.result
        detail = "does not compile" if done.run.status == "error" else done.run.detail
        return replace(done.run, detail=detail)

    def require_compiler(self) -> None:
        """Raises NoCompilerError unless a program that is right compiles and runs."""
        if self._compiler_is_tested:
            return
        self.start()
        if not self.rung.namespaces:
            raise NoCompilerError(
                f"C++ is compiled in the scratch folder of a rung with namespaces, not on rung {self.rung.name}"
            )
        program = self._compile_now(_PROGRAM_THAT_IS_RIGHT)
        run = program if isinstance(program, Run) else self._run("program", Job(""), Limits(), program=program).run
        if run.stdout != b"42":
            raise NoCompilerError(
                f"no C++ compiler that works here: {run.stdout.decode(errors='replace').strip()[:200]}"
            )
        self._compiler_is_tested = True

    def start(self) -> None:
        """Start the server if it is not running, on the first rung where it starts. Raises SandboxError where it does on none."""
        while self._process is None:
            self._launch(self.rung)
            reply = self._receive(_START_SECONDS) or {}
            if "ready" not in reply:
                self.refuse(reply.get("error", "its server did not start"))

    def _launch(self, rung: Rung) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys._base_executable, *_FLAGS, "-c", _START, str(theirs.fileno()), rung.name, str(_PROJECT)],  # ty: ignore[missing-attribute]
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={"PYTHONHASHSEED": "0"},  # sets of strings in the same order each time
            )
        self._channel = ours

    def _ask(self, header: dict[str, Any], fds: Sequence[int]) -> dict[str, Any] | None:
        self.start()
        assert self._channel is not None
        try:
            socket.send_fds(self._channel, [json.dumps(header).encode()], list(fds))
        except OSError:  # the server is gone
            return None
        return self._receive(MAX_PATIENCE * header["wall_seconds"] + _GRACE_SECONDS)

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        """The server's next message; None when it is gone or late."""
        assert self._channel is not None
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
        message = self._channel.recv(4096)
        return json.loads(message) if message else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """A server whose channel is closed ends by itself, after what it started; one that does not is killed."""
    try:
        process.wait(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _refusal(refusals: Mapping[str, str]) -> str:
    reasons = "; ".join(f"rung {name}: {why}" for name, why in refusals.items())
    return (
        f"not running untrusted code: no rung of the sandbox works here ({reasons}). It needs Linux 5.13 or newer on x86_64 with "
        "namespaces of users or Landlock, see docs/sandbox.md; on a throw-away machine, runtime.unsafe_local_execution = true or "
        "--unsafe-local-execution runs answers without protection"
    )


def _memory_files(job: Job, limits: Limits, program: bytes | None) -> tuple[int, int, int, int]:
    """Job or program, stdin, stdout and result, each a fresh file in memory."""
    content = {name: getattr(job, name) for name in _JOB_FIELDS}
    text = json.dumps({**content, "stdin": "", "seconds": limits.seconds}).encode()
    what = _memory_file(text) if program is None else _read_only(_memory_file(program))
    stdin = _memory_file(job.stdin.encode("utf-8", "surrogatepass"))
    return what, stdin, _memory_file(b""), _memory_file(b"")


def _memory_file(content: bytes) -> int:
    fd = os.memfd_create("run", os.MFD_CLOEXEC)
    if content:
        os.truncate(fd, len(content))
        os.pwrite(fd, content, 0)
    return fd


def _read_only(fd: int) -> int:
    """The same file; what is open for writing cannot be executed."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)


def _header(kind: str, job: Job, limits: Limits) -> dict[str, Any]:
    cpu = _cpu_seconds(job, limits)
    bounds = {
        "cpu_seconds": math.ceil(cpu),
        "memory_bytes": limits.memory_mb << 20,
        "output_bytes": limits.output_mb << 20,
    }
    return {"kind": kind, "wall_seconds": 2 * cpu + 1, "limits": bounds}


def _cpu_seconds(job: Job, limits: Limits) -> float:
    return min(limits.seconds * len(job.calls), limits.total_seconds) if job.calls else limits.seconds


@dataclass(frozen=True, slots=True)
class _Finished:
    """A run, and the file of results as it was left."""

    run: Run
    result: bytes


def _finished(reply: dict[str, Any], job: Job, limits: Limits, *, stdout: int, result: int) -> _Finished:
    if not reply["was_confined"]:
        raise SandboxLostError("a child of the sandbox could not be confined")
    output = os.pread(stdout, (limits.output_mb << 20) + 1, 0)
    content = os.pread(result, MAX_RESULT_BYTES, 0)
    records = _records(content, most=len(job.calls) + 1)
    end = next((record["end"] for record in records if "end" in record), None)
    reply["out_of_cpu_seconds"] = reply["cpu_seconds"] >= math.ceil(_cpu_seconds(job, limits))
    status, detail = _status(reply, end, output_is_full=len(output) >= limits.output_mb << 20)
    calls = tuple(record for record in records if "end" not in record)[: len(job.calls)]
    return _Finished(Run(status, detail, output, reply["cpu_seconds"], calls), content)


def _records(content: bytes, *, most: int) -> list[dict[str, str]]:
    """Lines the child wrote, up to the first that is not one: the answer may write there too."""
    records = []
    for line in content.split(b"\n", most)[:most]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not (isinstance(record, dict) and all(isinstance(value, str) for value in record.values())):
            break
        records.append(record)
    return records


def _status(reply: dict[str, Any], end: str | None, *, output_is_full: bool) -> tuple[str, str]:
    """(status, detail) of a run; the detail depends on nothing that varies between runs."""
    code = reply["exit"]
    is_killed = -code == signal.SIGKILL  # by the hard limit of processor time, or for want of memory
    if reply["stopped"]:
        return reply["stopped"], ""
    if -code in (signal.SIGXCPU, signal.SIGPROF) or (is_killed and reply["out_of_cpu_seconds"]):
        return "timeout", ""
    if output_is_full:
        return "output", ""
    if end == "MemoryError" or is_killed:
        return "memory", ""
    if code != 0:
        return "error", end or (f"signal {-code}" if code < 0 else f"exit status {code}")
    return "ok", end or "exit"
