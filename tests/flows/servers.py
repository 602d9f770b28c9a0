"""`ring up` for the tests that run against its servers."""

import json
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.flows.conftest import Ring


@dataclass(frozen=True)
class Servers:
    """Addresses of Prefect's API and of MLflow."""

    api: str
    records: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def up(ring: Ring) -> Generator[Servers]:
    """The addresses while `ring up` runs."""
    ports = free_port(), free_port()
    process = ring.start("up", "--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1]))
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Prefect")
        yield Servers(f"http://127.0.0.1:{ports[0]}/api", f"http://127.0.0.1:{ports[1]}")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def asked(api: str, path: str, **body: Any) -> Any:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{api}/{path}", data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def awaited(find: Callable[[], Any], *, seconds: float = 900) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return found
