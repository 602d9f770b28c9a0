"""The judge's side of the sandbox: starts the fork server at first need and runs one job after another in it.

A job is a program with its stdin, or code with expressions to evaluate in it. Expected outputs never enter a job.
"""

import importlib.util
import json
import math
import os
import re
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

from data.sandbox.budget import MAX_PATIENCE, clock_seconds
from data.sandbox.rungs import LADDER, RUNGS, UNSAFE, Rung

MAX_RESULT_BYTES = 16_000_000
_NAME = re.compile(r"[A-Za-z_0-9 .]{1,80}", re.ASCII)
_START_SECONDS, _GRACE_SECONDS, _END_SECONDS = 30.0, 5.0, 2.0
_LOADING_SECONDS = 120.0  # to start with packages, on a machine that is busy
_PROJECT = Path(__file__).resolve().parents[2]
_FLAGS = ("-P", "-s", "-S")  # `-I` but for PYTHONHASHSEED: nothing else is in the environment
_START = """
import sys, types
for name in ("data", "data.sandbox"):  # without what the judge's side imports, so that a fork is small
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [sys.argv[3] + "/" + name.replace(".", "/")]
from data.sandbox.server import main
main(int(sys.argv[1]), sys.argv[2], sys.argv[6:], module=(sys.argv[4], sys.argv[5]))
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
    language: str = "python"  # or c++: a whole program, without `setup` and `calls`
    preamble: bool = False  # the names of data/sandbox/preamble.py stand behind the answer's own
    names: tuple[str, ...] = ()  # that the code must define, of calls; that tests use
    role: str = ""  # of two jobs that are connected: answer or tests
    operators: tuple[str, ...] = ()  # of tests: classes of the answer whose operators may decide
    collect: tuple[str, ...] = ()  # of tests: functions and classes to be run as pytest and unittest run them
    num_tests: int = 1  # that its time is for, where there are no calls


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

    `confined=False` runs code without protection; `rung` asks for one of `rungs.RUNGS` and no other. `packages` that are installed
    here, numpy say, may be imported by answers; without any there is the standard library. `module`, a name and the text of code of
    ours, is run once in the server, so that runs may import it at no cost.
    """

    def __init__(
        self,
        *,
        confined: bool = True,
        rung: str | None = None,
        packages: Sequence[str] = (),
        module: tuple[str, str] = ("", ""),
    ) -> None:
        self._packages, self._module = packages, module
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

    def stay_on(self, rung: Rung) -> None:
        """Use this rung and no other."""
        self._rungs = [rung]

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

    def run_connected(self, tests: "Sandbox", jobs: tuple[Job, Job], limits: Limits) -> tuple[Run, Run]:
        """Run an answer here and its tests in another sandbox at the same time, with a connection between them.

        Raises:
            SandboxError: a server cannot start on any rung.
            SandboxLostError: one was lost twice.

        """
        for _ in range(2):
            runs = self._run_connected(tests, jobs, limits)
            if runs is not None:
                return runs
            self.close()
            tests.close()
        raise SandboxLostError("the sandbox's server was lost twice while running the same answer")

    def _run_connected(self, tests: "Sandbox", jobs: tuple[Job, Job], limits: Limits) -> tuple[Run, Run] | None:
        ends = socket.socketpair()
        sides = [
            (sandbox, job, _memory_files(job, limits, None, result=os.dup(end.fileno())))
            for sandbox, job, end in zip((self, tests), jobs, ends, strict=True)
        ]
        for end in ends:
            end.close()
        headers = [_header("python", job, limits) for job in jobs]
        headers[1]["cpu_seconds"] *= MAX_PATIENCE  # tests sleep while the answer works; RLIMIT_CPU is theirs alone
        try:
            is_sent = [sandbox._send(header, fds) for header, (sandbox, _, fds) in zip(headers, sides, strict=True)]
            for _, _, fds in sides:
                os.close(fds[3])  # so that each side sees the end of the other
            if not all(is_sent):
                return None
            replies = [sandbox._receive_reply(headers[1]) for sandbox in (tests, self)][::-1]
            if None in replies:
                return None
            return tuple(
                _finished(reply or {}, job, limits, stdout=fds[2], result=None).run
                for reply, (_, job, fds) in zip(replies, sides, strict=True)
            )  # ty: ignore[invalid-explicit-return]
        finally:
            for _, _, fds in sides:
                for fd in fds[:3]:
                    os.close(fd)

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
            reply = self._receive(_LOADING_SECONDS if self._packages else _START_SECONDS) or {}
            if "ready" not in reply:
                self.refuse(reply.get("error", "its server did not start"))

    def _launch(self, rung: Rung) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folders = [str(_package_folder(name)) for name in self._packages]
        arguments = [str(theirs.fileno()), rung.name, str(_PROJECT), *self._module, *folders]
        with theirs:
            self._process = subprocess.Popen(
                [sys._base_executable, *_FLAGS, "-c", _START, *arguments],  # ty: ignore[missing-attribute]
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={"PYTHONHASHSEED": "0"},  # sets of strings in the same order each time
            )
        self._channel = ours

    def _ask(self, header: dict[str, Any], fds: Sequence[int]) -> dict[str, Any] | None:
        return self._receive_reply(header) if self._send(header, fds) else None

    def _send(self, header: dict[str, Any], fds: Sequence[int]) -> bool:
        """False when the server is gone."""
        self.start()
        assert self._channel is not None
        try:
            socket.send_fds(self._channel, [json.dumps(header).encode()], list(fds))
        except OSError:
            return False
        return True

    def _receive_reply(self, header: dict[str, Any]) -> dict[str, Any] | None:
        return self._receive(MAX_PATIENCE * clock_seconds(header["cpu_seconds"]) + _GRACE_SECONDS)

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        """The server's next message; None when it is gone or late."""
        assert self._channel is not None
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
        message = self._channel.recv(4096)
        return json.loads(message) if message else None


def _package_folder(name: str) -> Path:
    """Raises SandboxError for a name that is no installed package."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SandboxError(f"answers cannot be given the package {name!r}: it is not installed in {sys.prefix}")
    return Path(spec.submodule_search_locations[0]).resolve()


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


def _memory_files(
    job: Job, limits: Limits, program: bytes | None, *, result: int | None = None
) -> tuple[int, int, int, int]:
    """Job or program, stdin, stdout and result, each a fresh file in memory; or a connection for the result."""
    content = {name: getattr(job, name) for name in _JOB_FIELDS}
    text = json.dumps({**content, "stdin": "", "seconds": limits.seconds}).encode()
    what = _memory_file(text) if program is None else _read_only(_memory_file(program))
    stdin = _memory_file(job.stdin.encode("utf-8", "surrogatepass"))
    return what, stdin, _memory_file(b""), _memory_file(b"") if result is None else result


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
    return {"kind": kind, "cpu_seconds": cpu, "call_seconds": limits.seconds if job.calls else 0.0, "limits": bounds}


def _cpu_seconds(job: Job, limits: Limits) -> float:
    number = len(job.calls) or job.num_tests
    return min(limits.seconds * number, max(limits.total_seconds, limits.seconds * number / 2))


@dataclass(frozen=True, slots=True)
class _Finished:
    """A run, and the file of results as it was left."""

    run: Run
    result: bytes


def _finished(reply: dict[str, Any], job: Job, limits: Limits, *, stdout: int, result: int | None) -> _Finished:
    if not reply["was_confined"]:
        raise SandboxLostError("a child of the sandbox could not be confined")
    output = _content(stdout, (limits.output_mb << 20) + 1)
    content = b"" if result is None else _content(result, MAX_RESULT_BYTES)
    records = _records(content, most=len(job.calls) + 1)
    end = next((record["end"] for record in records if "end" in record), None)
    reply["out_of_cpu_seconds"] = reply["cpu_seconds"] >= math.ceil(_cpu_seconds(job, limits))
    status, detail = _status(reply, end, output_is_full=len(output) >= limits.output_mb << 20)
    calls = tuple(record for record in records if "end" not in record)[: len(job.calls)]
    return _Finished(Run(status, detail, output, reply["cpu_seconds"], calls), content)


def _content(fd: int, most: int) -> bytes:
    return os.pread(fd, min(most, os.fstat(fd).st_size), 0)


def _records(content: bytes, *, most: int) -> list[dict[str, str]]:
    """Lines the child wrote, up to the first that is not one: the answer may write there too."""
    records = []
    for line in content.split(b"\n", most)[:most]:
        record = _record(line)
        if record is None:
            break
        records.append(record)
    return records


def _record(line: bytes) -> dict[str, str] | None:
    """The one place where what a child says becomes text: a `value` to be decoded with care, and names of exceptions."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if type(record) is not dict or not all(type(value) is str for value in record.values()):
        return None
    if "value" in record:
        return {"value": record["value"]}
    return {name: safe_name(record[name]) for name in ("end", "error") if name in record}


def safe_name(text: object) -> str:
    """What a child said if it is a name, or a few words; else "Exception"."""
    return text if type(text) is str and _NAME.fullmatch(text) else "Exception"


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
