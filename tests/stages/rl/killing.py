"""What is left of an arm's process that is killed, and when to kill it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from data.schema import ROLLOUT_SCHEMA, read_table


def files_of(out: Path) -> dict[str, bytes]:
    """What would be sealed."""
    paths = (path for path in sorted(out.rglob("*")) if path.is_file() and ".state" not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def steps_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]


def rows_of(out: Path) -> pa.Table:
    return pa.concat_tables([read_table(path, ROLLOUT_SCHEMA) for path in sorted((out / "rollouts").iterdir())])


def kill(process: subprocess.Popen[str], out: Path) -> None:
    """End an arm's process at once, and all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for_end_of(out)


def wait_until(is_there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until it is, or the arm has ended."""
    deadline = time.monotonic() + 120
    while not is_there() and process.poll() is None:
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


def wait_for_step(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until something of the step is there, or the arm has ended."""
    name = f"step-{step:06d}"
    places = (out / "rollouts" / f"{name}.parquet", out / ".state" / "chunks" / name)
    wait_until(lambda: any(place.exists() for place in places), process)


def wait_for_end_of(out: Path) -> None:
    """Until no process works there: workers die with the stage, a moment later."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        commands = (path / "cmdline" for path in Path("/proc").iterdir() if path.name.isdigit())
        if not any(str(out).encode() in read_if_there(command) for command in commands):
            return
        time.sleep(0.02)


def read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
