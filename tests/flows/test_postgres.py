"""Records and Prefect's own state in PostgreSQL, named by two environment variables, against a real server of the test's own."""

import getpass
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest

from tests.flows.conftest import Ring

PROGRAMS = ("initdb", "postgres", "createdb", "psql")
WHY_NOT = (
    "no PostgreSQL: apt-get install postgresql"
    if not all(map(shutil.which, PROGRAMS))
    else "the extra `postgres` is not installed"
)
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)) or importlib.util.find_spec("pg8000") is None, reason=WHY_NOT
)
Ask = Callable[[str, str], Sequence[str]]


@pytest.fixture
def server() -> Generator[tuple[int, Ask]]:
    """The port of a PostgreSQL server with the databases `records` and `prefect`, and how to ask it: (database, query) -> lines."""
    owner = "nobody" if getpass.getuser() == "root" else None  # PostgreSQL refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="ring-postgres-"))  # not below pytest's, into which nobody else may look
    if owner:
        shutil.chown(folder, owner)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {**os.environ, "HOME": str(folder)}
    at = ["-h", "127.0.0.1", "-p", str(port), "-U", "ring"]
    data = folder / "data"
    made = ["initdb", "-D", str(data), "-U", "ring", "-A", "trust", "--no-sync"]
    subprocess.run(made, user=owner, env=variables, check=True, capture_output=True)
    command = ["postgres", "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, user=owner, env=variables, stdout=log, stderr=log)
    try:
        _wait_for(["psql", *at, "postgres", "-c", "select 1"], process)
        for database in ("records", "prefect"):
            subprocess.run(["createdb", *at, database], check=True)

        def ask(database: str, query: str) -> Sequence[str]:
            done = subprocess.run(["psql", *at, database, "-Atc", query], check=True, capture_output=True, text=True)
            return done.stdout.splitlines()

        yield port, ask
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder)


def _wait_for(command: Sequence[str], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while subprocess.run(command, capture_output=True, check=False).returncode:
        assert process.poll() is None and time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.1)


def test_a_chain_is_kept_in_postgresql_and_verifies_against_it(server, tmp_path) -> None:
    port, ask = server
    ring, at = Ring(tmp_path / "home"), f"ring@127.0.0.1:{port}"
    variables = {
        "MLFLOW_TRACKING_URI": f"postgresql+pg8000://{at}/records",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{at}/prefect",
    }
    ring("run", "smoke", "--until", "curation", env=variables)
    assert sorted(line.split("|")[1] for line in ask("records", "select name, status from runs")) == ["FINISHED"] * 2
    assert ask("prefect", "select name, state_type from flow_run") == ["smoke|COMPLETED"]
    assert not (ring.home / "mlflow.db").exists()
    assert '"problems": {}' in ring("verify", "--json", env=variables).stdout
    ask("records", "update latest_metrics set value = 7 where key = 'curation/rows_kept'")
    assert "curation/rows_kept is 7" in ring("verify", code=1, env=variables).stdout
