"""The ranks of a stage: started on one host or several, watched, and ended together when one of them dies or hangs.

On one host torchrun starts them. On several the stage's own process starts one process a host, which starts its ranks by torchrun:
through `srun` in an allocation of SLURM, else through `runtime.remote_shell` (ssh) on the hosts of the file `runtime.hosts`. All hosts must
see the same folders. A process on another host ends when the connection through which it was started closes.

Each rank keeps a file beside the others that says what it is doing. Who started it reads them: a rank that died is named with how, one
that did nothing for `runtime.rank_seconds`, while it was not waiting for others, with what it was doing, and its death ends the others.
"""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ring_model.heartbeat import BEAT_SECONDS, HEARTBEAT
from stages.config import Runtime
from stages.stage import STATE, StageLog

BEATS = "beats"
_POLL_SECONDS = 0.5
_MISSED_BEATS = 5  # then the whole process stands still, and not only its work
_AT_THE_START = (
    "PYTHON",
    "PATH",
    "LD_LIBRARY_PATH",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "GLIBC_",
)  # what an interpreter reads when it starts
_LATER = (
    "RING_",
    "VLLM_",
    "DS_",
    "NCCL_",
    "GLOO_",
    "CUDA_",
    "TORCH_",
    "HF_",
    "TOKENIZERS_",
)  # keys among them: never in a command line


@dataclass(frozen=True, slots=True)
class Host:
    """Where ranks run."""

    name: str
    slots: int


def hosts_of(runtime: Runtime, *, ranks: int) -> list[Host]:
    """The hosts of the file, of which the first is this one as the others know it, or of SLURM's allocation, with the ranks of each.

    This machine where neither is.

    Raises:
        ValueError: the file is missing or malformed, or the slots are not as many as the ranks.

    """
    if runtime.hosts:
        hosts = _read_hosts(Path(runtime.hosts))
        if (slots := sum(host.slots for host in hosts)) != ranks:
            raise ValueError(f"{runtime.hosts} has {slots} slots, and the stage {ranks} ranks: make them equal")
        return hosts
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if nodes > 1 and ranks > 1:
        if ranks % nodes:
            raise ValueError(f"{ranks} ranks cannot be shared evenly by SLURM's {nodes} nodes")
        return [Host(f"node {number}", ranks // nodes) for number in range(nodes)]
    return [Host(socket.gethostname(), ranks)]


def _read_hosts(path: Path) -> list[Host]:
    if not path.is_file():
        raise ValueError(f"runtime.hosts = {str(path)!r} is no file; it holds lines such as `node-1 slots=8`")
    hosts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        name, slots = (words[0], words[1].removeprefix("slots=")) if len(words) == 2 else (words[0], "")
        if not slots.isdigit() or int(slots) < 1 or name.startswith("-"):
            raise ValueError(
                f"{path}:{number}: {line.strip()!r} must be a host and its ranks, such as `node-1 slots=8`"
            )
        hosts.append(Host(name, int(slots)))
    if not hosts:
        raise ValueError(f"{path} names no host")
    return hosts


def shares_hosts(runtime: Runtime) -> bool:
    """Whether ranks may be on other machines, which must see the job's files."""
    return bool(runtime.hosts) or int(os.environ.get("SLURM_JOB_NUM_NODES", "1")) > 1


def launch(job_path: Path, job: Mapping[str, Any]) -> int:
    """Start a job's ranks and wait for their end; returns the exit code of the first that failed, 0 where none did."""
    runtime = Runtime.model_validate(job["runtime"])
    hosts = hosts_of(runtime, ranks=job["ranks"])
    if len(hosts) == 1:
        return run_host(job_path, job, Place(0, (hosts[0].slots,), f"127.0.0.1:{_free_port()}"))
    address = f"{hosts[0].name if runtime.hosts else socket.getfqdn()}:{_free_port()}"
    slots = tuple(host.slots for host in hosts)
    places = [Place(number, slots, address) for number in range(len(hosts))]
    commands = [_on_host(host, job_path, place, runtime) for host, place in zip(hosts, places, strict=True)]
    return _together([_connected(command) for command in commands])


def _connected(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a host's process and give it, by the connection, the rest of its environment."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    later = {name: value for name, value in os.environ.items() if name.startswith(_LATER)}
    with contextlib.suppress(BrokenPipeError):  # it ended at once: its exit code is told
        process.stdin.write(json.dumps(later).encode() + b"\n")
        process.stdin.flush()
    return process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the hosts a process serves."""

    number: int
    slots: tuple[int, ...]  # of every host
    address: str  # host:port where the ranks meet

    @property
    def first_rank(self) -> int:
        """Of this host."""
        return sum(self.slots[: self.number])

    @classmethod
    def parse(cls, text: str) -> "Place":
        """What `str` made."""
        number, slots, address = text.split("/")
        return cls(int(number), tuple(map(int, slots.split(","))), address)

    def __str__(self) -> str:
        return f"{self.number}/{','.join(map(str, self.slots))}/{self.address}"


def _on_host(host: Host, job_path: Path, place: Place, runtime: Runtime) -> list[str]:
    """The command that starts a host's process, from here."""
    worker = [sys.executable, "-m", "stages.worker", str(job_path), str(place)]
    if not runtime.hosts:
        return ["srun", "--nodes=1", "--ntasks=1", f"--relative={place.number}", "--kill-on-bad-exit=1", *worker]
    passed = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(_AT_THE_START)]
    line = f"cd {shlex.quote(str(Path.cwd()))} && exec env {shlex.join(passed)} {shlex.join(worker)}"
    return [*shlex.split(runtime.remote_shell), host.name, line]


def _together(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all; when one fails, close the others' connections, which ends them."""
    code = 0
    running = list(processes)
    try:
        while running:
            for process in [one for one in running if one.poll() is not None]:
                running.remove(process)
                if process.returncode and not code:
                    code = process.returncode
                    _hang_up(running)
            time.sleep(_POLL_SECONDS)
    finally:
        _hang_up(running)
    return code if code in (0, 2) else 1


def _hang_up(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()


def end_with_connection() -> None:
    """For a process on a host: take its environment from the connection, and die with all ranks when that closes."""
    os.environ.update(json.loads(sys.stdin.buffer.readline()))

    def wait() -> None:
        sys.stdin.buffer.read()
        os.killpg(0, signal.SIGKILL)

    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    threading.Thread(target=wait, name="connection", daemon=True).start()


def run_host(job_path: Path, job: Mapping[str, Any], place: Place) -> int:
    """Start this host's ranks by torchrun, watch them, and wait for their end; returns an exit code."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    runtime, out = Runtime.model_validate(job["runtime"]), Path(job["out"])
    ranks = range(place.first_rank, place.first_rank + place.slots[place.number])
    watcher = _Watcher(out / STATE / BEATS, ranks, limit=runtime.rank_seconds, events=Path(job["events"]))
    host, port = place.address.rsplit(":", 1)
    nodes = ["--nnodes", str(len(place.slots)), "--node-rank", str(place.number)]
    nodes += ["--master-addr", host, "--master-port", port, "--nproc-per-node", str(len(ranks))]
    watcher.start()
    try:
        torchrun([*nodes, "-m", "stages.worker", str(job_path)])
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        watcher.tell_death(rank, first.exitcode)
        return 2 if first.exitcode == 2 else 1
    return 0


class _Watcher(threading.Thread):
    """Reads the beats of a host's ranks and ends one that hangs."""

    def __init__(self, folder: Path, ranks: range, *, limit: float, events: Path) -> None:
        super().__init__(name="watcher", daemon=True)
        self._paths = {rank: folder / f"rank-{rank:05d}.json" for rank in ranks}
        self._limit, self._events = limit, events
        self._hung: int | None = None
        for path in self._paths.values():
            path.unlink(missing_ok=True)

    def run(self) -> None:
        while self._hung is None:
            time.sleep(min(_POLL_SECONDS, self._limit / 4))
            found = [(*silence, rank) for rank in self._paths if (silence := self._silence(rank)) is not None]
            if found and max(found)[1] > self._limit:
                stands_still, seconds, what, rank = max(found)
                self._end(rank, f"{'stood still' if stands_still else 'did nothing'} for {seconds:.0f} s, {what}")

    def _silence(self, rank: int) -> tuple[bool, float, str] | None:
        """Whether the whole process stands still, for how long nothing happened, and what it was doing; None where it only waits."""
        path = self._paths[rank]
        try:
            beat, age = json.loads(path.read_text(encoding="utf-8")), time.time() - path.stat().st_mtime
        except (OSError, ValueError):  # not there yet, there no longer, or a file system that stumbles
            return None
        if age > _MISSED_BEATS * BEAT_SECONDS:
            return True, age, f"{'waiting for' if beat['waits'] else 'in'}: {beat['doing']}"
        return None if beat["waits"] else (False, beat["for_seconds"] + age, f"in: {beat['doing']}")

    def _end(self, rank: int, why: str) -> None:
        self._hung = rank
        beat = json.loads(self._paths[rank].read_text(encoding="utf-8"))
        self._tell(rank, f"{why}; it is ended with the others (runtime.rank_seconds = {self._limit:g})")
        with contextlib.suppress(ProcessLookupError):
            os.kill(beat["pid"], signal.SIGKILL)

    def tell_death(self, rank: int, code: int) -> None:
        """Say how a rank ended that could not say it itself."""
        if code < 0 and self._hung is None:
            self._tell(
                rank, f"was killed by {signal.Signals(-code).name}; if memory ran out, lower runtime.micro_batch_tokens"
            )

    def _tell(self, rank: int, what: str) -> None:
        with self._events.open("a", encoding="utf-8") as stream:
            StageLog(stream).failure(f"rank {rank} (on {socket.gethostname()}) {what}")


@contextlib.contextmanager
def beating(out: Path) -> Generator[None]:
    """In a rank: let the one who started it see what it does, until it is done."""
    with HEARTBEAT.written_to(out / STATE / BEATS / f"rank-{int(os.environ['RANK']):05d}.json"):
        yield
