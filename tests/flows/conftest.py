"""One real chain for the tests that look at what a chain leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ring:
    """The `ring` command with a home folder of its own."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "RING_"))}
        return {**kept, "RING_HOME": str(self.home)}

    # not in the project's folder: `ring up` of another test leaves its address there
    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "flows.cli", *arguments]

    def __call__(self, *arguments: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **options.pop("env", {})}
        done = subprocess.run(
            self.command(*arguments), env=environment, cwd=self.home.parent, capture_output=True, text=True, **options
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            cwd=self.home.parent,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_hears_interrupts,
        )


def _hears_interrupts() -> None:
    """As in a terminal: tests that a shell started in the background inherit that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def by_key(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Stages of a --json document by `stage` or `rl/arm`."""
    return {f"rl/{entry['arm']}" if entry["arm"] else entry["stage"]: entry for entry in document["stages"]}


def content(entry: dict[str, Any]) -> str:
    """Hash over the bytes of a stage's files."""
    return json.loads((Path(entry["artifact"]) / "manifest.json").read_text(encoding="utf-8"))["content"]


def processes_of(home: Path) -> list[str]:
    """Command lines of living processes that were started for this home."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"RING_HOME={home}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text())
        except OSError:  # another user's, or gone
            continue
    return [line for line in found if line]


def assert_all_ended(home: Path) -> None:
    deadline = time.monotonic() + 15
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_of(home)


@dataclass(frozen=True)
class SmokeChain:
    ring: Ring
    document: dict[str, Any]
    terminal: str


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> SmokeChain:
    """`ring run smoke`, undisturbed, once for all tests."""
    ring = Ring(tmp_path_factory.mktemp("smoke") / "home")
    done = ring("run", "smoke", "--json")
    shutil.copytree(ring.home, ring.home.with_name("untouched"), ignore=shutil.ignore_patterns("prefect", "logs"))
    return SmokeChain(ring, json.loads(done.stdout), done.stderr)


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path / "home")
