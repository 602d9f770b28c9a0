"""`ring up`: Prefect server, work pool, deployments, worker and MLflow UI as children of one process.

All end with it: on Ctrl-C or SIGTERM they are asked to stop, then killed; if it is killed itself, the kernel ends them.
"""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import httpx

from flows.console import say
from flows.environment import bypass_proxies
from flows.settings import PROJECT_SETTINGS, WRITTEN_BY_US, chosen_database
from stages.records.artifact import held
from stages.records.remote import store_url
from stages.records.tracking_uri import browse_command, is_server, tracking_uri, without_password

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120.0
STOP_SECONDS = 15.0
_POOL = "local"  # whose worker is started here
_POOLS = (_POOL, "gpu", "cpu-judge")  # as in prefect.yaml
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Refused\w*)\b(: |$)")


def serve(home: Path, *, host: str, prefect_port: int, mlflow_port: int) -> int:
    """Run until interrupted. Raises ValueError for a port in use."""
    for name, port in (("--prefect-port", prefect_port), ("--mlflow-port", mlflow_port)):
        _require_free(host, port, option=name)
    bypass_proxies(host)
    records = None if is_server(tracking_uri(home)) else f"http://{host}:{mlflow_port}"  # a server has a UI of its own
    api = f"http://{host}:{prefect_port}/api"
    environment = {
        **os.environ,
        "PREFECT_API_URL": api,
        "RING_HOME": str(home),
        "RING_STORE": store_url(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    children: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, _interrupt)
    say(f"starting Prefect's server and MLflow, up to a minute; their log is {home / 'up.log'} ...")
    with (home / "up.log").open("ab") as log, _announced(home, api):
        try:
            children.append(
                _start(["prefect", "server", "start", "--host", host, "--port", str(prefect_port)], environment, log)
            )
            if records:
                children.append(_start(_mlflow_command(home, host, mlflow_port), environment, log))
            _await_http(f"{api}/health", children, log_path=home / "up.log")
            say("Prefect's server answers; making the work pools ...")
            known = _known_pools(api)
            for pool in _POOLS:
                if pool not in known:  # made again it would lose its limit of flow runs at once
                    _prefect(["work-pool", "create", pool, "--type", "process"], environment, log)
            say("registering the deployments ...")
            _prefect(["--no-prompt", "deploy", "--all"], environment, log)
            children.append(_start(["prefect", "worker", "start", "--pool", _POOL], environment, log))
            say("the worker starts" + ("; waiting for MLflow ..." if records else ""))
            if records:
                _await_http(f"{records}/health", children, log_path=home / "up.log")
            _greet(api, records or browse_command(home))
            return _watch(children, log_path=home / "up.log")
        except KeyboardInterrupt:
            say("stopping both servers and the worker ...")
            return 0
        finally:
            _stop(children)


@contextmanager
def temporary_server(home: Path) -> Generator[Callable[[], None]]:
    """Prefect's server for one chain, unless one is named already. Unlike Prefect's own temporary one it ends with a killed chain.

    Yields a function that waits until it answers: what takes time to import is imported before.
    """
    if "PREFECT_API_URL" in os.environ:
        yield lambda: None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
    }
    with (home / "server.log").open("ab") as log, ExitStack() as lock:
        # two servers that open a new database at once break each other
        lock.enter_context(held(home / "locks" / "prefect-server"))
        child = _start(["flows.prefect_server", str(port)], environment, log)

        def wait() -> None:
            _await_http(f"http://127.0.0.1:{port}/api/health", [child], log_path=home / "server.log")
            lock.close()

        try:
            os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
            yield wait
        finally:
            os.environ.pop("PREFECT_API_URL", None)
            _stop([child])


@contextmanager
def refusals_told() -> Generator[None]:
    """Where the server refuses what Prefect's client asks, or goes away: one message. Raises ValueError."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        hint = (
            "set PREFECT_API_KEY, or PREFECT_API_AUTH_STRING to what the server was started with"
            if code in (401, 403)
            else "is it a Prefect 3 server?"
        )
        raise ValueError(f"{_server()} answered {code} to {error.request.url.path}: {hint}") from error
    except httpx.TransportError as error:
        raise ValueError(
            f"{_server()} answers no longer ({error}); the same command goes on where this one stopped"
        ) from error
    except RuntimeError as error:
        if not str(error).startswith(("Failed to reach API", "Found incompatible versions")):
            raise
        raise ValueError(
            f"{_server()}: {error}. Unset PREFECT_API_URL to use a server of this command's own"
        ) from error


def _server() -> str:
    return f"the Prefect server at {without_password(os.environ.get('PREFECT_API_URL', 'this machine'))}"


def _require_free(host: str, port: int, *, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"{host}:{port} cannot be used ({error.strerror}); stop what listens there, or choose another with {option}"
            ) from error


def _mlflow_command(home: Path, host: str, port: int) -> list[str]:
    return [
        "mlflow",
        "server",
        "--backend-store-uri",
        tracking_uri(home),
        "--default-artifact-root",  # files lie where this home's own runs put them, whoever makes the experiment
        (home / "mlruns").as_uri(),
        "--host",
        host,
        "--port",
        str(port),
        "--workers",
        "1",
    ]


def _start(command: Sequence[str], environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=ROOT,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _prefect(arguments: Sequence[str], environment: dict[str, str], log: IO[bytes]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log.write(done.stdout.encode())
    if done.returncode:
        raise ValueError(f"`prefect {' '.join(arguments)}` failed:\n{done.stdout[-2000:]}")


def _known_pools(api: str) -> set[str]:
    """The work pools that the server has."""
    from prefect.client.orchestration import SyncPrefectClient  # reads its settings when it is imported

    key, password = os.environ.get("PREFECT_API_KEY"), os.environ.get("PREFECT_API_AUTH_STRING")
    with SyncPrefectClient(api, api_key=key, auth_string=password) as client:
        return {pool.name for pool in client.read_work_pools()}


def _await_http(url: str, children: Sequence[subprocess.Popen[bytes]], *, log_path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        _require_alive(children, log_path)
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise ValueError(f"{url} did not answer within {START_SECONDS:.0f} s; see {log_path}")


def _require_alive(children: Sequence[subprocess.Popen[bytes]], log_path: Path) -> None:
    for child in children:
        if child.poll() is not None:
            raise ValueError(
                f"{_name(child)} ended with code {child.returncode}: {_last_error(log_path)}\nSee {log_path}{_database_hint()}"
            )


def _name(child: subprocess.Popen[bytes]) -> str:
    words = child.args if isinstance(child.args, list) else [child.args]
    return "Prefect's server" if "uvicorn" in words else f"`{' '.join(str(word) for word in words[2:5])}`"


def _last_error(log_path: Path) -> str:
    """The last exception that stands in a log with the two lines that explain it, else the last line."""
    lines = [
        line.rstrip() for line in log_path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
    ]
    starts = [number for number, line in enumerate(lines) if _EXCEPTION.match(line)]
    chosen = lines[starts[-1] : starts[-1] + 3] if starts else lines[-1:]
    return " ".join(line.strip() for line in chosen)[:1000]


def _database_hint() -> str:
    names = chosen_database()
    return f". Prefect's database is set by {', '.join(names)}: is it right, and does it answer?" if names else ""


def _watch(children: Sequence[subprocess.Popen[bytes]], *, log_path: Path) -> int:
    while True:
        _require_alive(children, log_path)
        time.sleep(0.5)


def _greet(api: str, records: str) -> None:
    sys.stdout.write(
        f"Prefect  {api.removesuffix('/api')}\nMLflow   {records}/#/experiments?workflowType=machine_learning\n\n"
        f"In another terminal:\n  export PREFECT_API_URL={api}\n  .venv/bin/prefect deployment run full-chain/laptop\n"
        "  .venv/bin/prefect deployment run stage/laptop -p stage=rl\nCtrl-C stops both.\n"
    )
    sys.stdout.flush()


@contextmanager
def _announced(home: Path, api: str) -> Generator[None]:
    """While the servers run, `ring run` uses them, and so does `prefect` in the project's folder."""
    texts = {home / "up.url": api}
    if _is_ours(PROJECT_SETTINGS):
        texts[PROJECT_SETTINGS] = f'{WRITTEN_BY_US}[api]\nurl = "{api}"\n'
    else:
        sys.stderr.write(f"{PROJECT_SETTINGS} is not written: `prefect` needs the `export` below\n")
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        for path, text in texts.items():
            _remove_own(path, text)


def _is_ours(path: Path) -> bool:
    """Whether the file may be written: in a folder of ours, and no file that a person wrote."""
    if not path.exists():
        return os.access(path.parent, os.W_OK)
    return os.access(path, os.W_OK) and path.read_text(encoding="utf-8").startswith(WRITTEN_BY_US)


def _remove_own(path: Path, text: str) -> None:
    """Another `ring up` may have written its address since; that one stays."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        path.unlink()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _stop(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in reversed(children):
        _signal_group(child, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal_group(child, signal.SIGKILL)
            child.wait()


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if child.poll() is None:
        os.killpg(child.pid, number)
