"""The client of `vllm_server`: starts it where nobody else does, sees that it has the weights that are meant, and reads its rows.

A server of this machine that died or hangs is started anew; one that somebody else started is waited for. Nothing is kept here: rows are
handed on as they come, and who asks keeps what came.
"""

import json
import logging
import os
import secrets
import select
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from stages.sampling.pacing import Limits
from stages.sampling.vllm_server import KEY

PROGRAM = Path(__file__).with_name("vllm_server.py")
OPEN_SECONDS = 900.0  # that a server may take to start, and to open weights
_SHOWN_CHARACTERS = 1500  # of what a server says
_LOG = logging.getLogger(__name__)


class PassingError(Exception):
    """An attempt failed in a way that may mend itself."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A response that is wanted."""

    prompt: tuple[int, ...]
    seed: int  # in [0, 2**63)
    limit: int  # most tokens


@dataclass(frozen=True, slots=True)
class Request:
    """Responses that are wanted of the same weights in the same way."""

    weights: Path  # folder; its whole path is what the server calls them
    rows: tuple[Wanted, ...]
    temperature: float
    top_p: float
    end_ids: tuple[int, ...]

    def body(self) -> dict[str, Any]:
        """What is sent."""
        return {
            "weights": _name_of(self.weights),
            "prompts": [row.prompt for row in self.rows],
            "seeds": [row.seed for row in self.rows],
            "limits": [row.limit for row in self.rows],
            "temperature": self.temperature,
            "top_p": self.top_p,
            "end_ids": self.end_ids,
        }


class Row(BaseModel):
    """A response as it comes."""

    model_config = ConfigDict(frozen=True, strict=True)

    row: int  # its number in the request
    token_ids: list[int]
    logprobs: list[float]
    finished: bool


@dataclass(slots=True)
class _Process:
    """A server that was started here."""

    popen: subprocess.Popen[bytes]
    said: Path  # its output


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server is: at an address, or to be started."""

    address: str = ""
    python: str = ""  # that starts `program`, where there is no address
    program: Path = PROGRAM
    log: Path = field(default_factory=lambda: Path(os.devnull))  # what a server that is started here says


class VllmClient:
    """One server. Any thread may ask; whoever finds it gone starts it anew for all."""

    def __init__(self, place: Place, limits: Limits, *, max_rows: int) -> None:
        """`max_rows`: most rows that are decoded together. Nothing is started yet."""
        self._place, self._limits, self._max_rows = place, limits, max_rows
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._starter = ThreadPoolExecutor(
            1, thread_name_prefix="server"
        )  # a server dies with the thread that started it
        self._is_closed = False
        self._is_suspect = False  # it stalled
        self._tally: Counter[str] = Counter()
        self._key = secrets.token_hex(16) if not place.address else os.environ.get(KEY, "")
        self._address = place.address.rstrip("/")
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(limits.stall_seconds, connect=limits.connect_seconds, pool=None),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,  # no proxy stands between us and the loopback
        )

    def close(self) -> None:
        """End the connections, and the server that was started here."""
        with self._lock:
            self._is_closed = True
            self._http.close()
            self._end()
        self._starter.shutdown()

    def take_tally(self) -> dict[str, int]:
        """What happened since it was last asked: `server_starts`, `weights_opened` and `open_ms`, the time that they took to open."""
        with self._lock:
            tally, self._tally = dict(self._tally), Counter()
        return tally

    # ------------------------------------------------------------ asking

    def rows(self, request: Request) -> Iterator[Row]:
        """The responses as they end, each once; all of them, or an error.

        Raises:
            PassingError: the server died, stalled, or did not send what was asked; what came before holds.
            ValueError: it cannot open the weights, or refuses the request.
            FloatingPointError: a log-probability is not finite.

        """
        self.ensure(request.weights)
        there: set[int] = set()
        for line in self._lines(request):
            if "end" in line:
                break
            row = _checked(line, request, there)
            there.add(row.row)
            yield row
        if len(there) < len(request.rows):
            raise PassingError(f"{len(there)} of {len(request.rows)} responses came")

    def logprobs(self, weights: Path, tokens: Sequence[int]) -> list[float]:
        """Log-probability of every token but the first. Raises as `rows`."""
        self.ensure(weights)
        found = self._post("logprobs", {"weights": _name_of(weights), "tokens": list(tokens)})["logprobs"]
        if len(found) != len(tokens) - 1:
            raise PassingError(f"{len(found)} log-probabilities came of {len(tokens)} tokens")
        return found

    def ensure(self, weights: Path) -> None:
        """See that the server is there and has the weights. Raises PassingError, and ValueError where it cannot open them."""
        with self._lock:
            if self._is_closed:
                raise PassingError("nobody waits for it any more")
            self._ensure_server()
            health = self._health()
            if health.get("weights") != (name := _name_of(weights)):
                order = {"folder": name, "name": name, "max_rows": self._max_rows}
                started = time.monotonic()
                self._post("weights", order, seconds=OPEN_SECONDS)
                self._tally["weights_opened"] += 1
                self._tally["open_ms"] += round(1e3 * (time.monotonic() - started))

    def _lines(self, request: Request) -> Iterator[dict[str, Any]]:
        """Lines of the reply; a server whose engine takes no step, and sends no row, for too long stalls."""
        last, steps = time.monotonic(), -1
        try:
            with self._http.stream("POST", f"{self._address}/generate", json=request.body()) as response:
                if response.status_code != httpx.codes.OK:
                    raise self._refusal("generate", response.status_code, response.read())
                for text in response.iter_lines():
                    line = _parsed(text)
                    if "error" in line:
                        raise PassingError(f"its engine failed: {str(line['error'])[:_SHOWN_CHARACTERS]}")
                    if "steps" not in line or line["steps"] != steps:
                        last, steps = time.monotonic(), line.get("steps", steps)
                    elif time.monotonic() - last > self._limits.stall_seconds:
                        self._is_suspect = True
                        raise PassingError(f"its engine took no step for {self._limits.stall_seconds:g} s")
                    if "steps" not in line:
                        yield line
        except RuntimeError as error:  # the connections were closed
            raise PassingError(str(error)) from error
        except httpx.TimeoutException as error:
            self._is_suspect = True
            raise PassingError(f"nothing came for {self._limits.stall_seconds:g} s") from error
        except httpx.RequestError as error:
            raise PassingError(f"{type(error).__name__} {error}".strip()) from error

    def _health(self) -> dict[str, Any]:
        try:
            response = self._http.get(f"{self._address}/health", timeout=self._limits.connect_seconds)
        except httpx.RequestError as error:
            self._is_suspect = True
            raise PassingError(f"{type(error).__name__} {error}".strip()) from error
        return self._read("health", response)

    def _post(self, route: str, body: dict[str, Any], *, seconds: float | None = None) -> dict[str, Any]:
        try:
            timeout = httpx.Timeout(seconds or self._limits.stall_seconds, connect=self._limits.connect_seconds)
            response = self._http.post(f"{self._address}/{route}", json=body, timeout=timeout)
        except httpx.RequestError as error:
            raise PassingError(f"{type(error).__name__} {error}".strip()) from error
        return self._read(route, response)

    def _read(self, route: str, response: httpx.Response) -> dict[str, Any]:
        if response.status_code != httpx.codes.OK:
            raise self._refusal(route, response.status_code, response.content)
        return _parsed(response.text)

    def _refusal(self, route: str, status: int, content: bytes) -> Exception:
        try:
            said = str(json.loads(content)["error"])
        except (ValueError, KeyError, TypeError):
            said = content.decode("utf-8", "replace")
        said = " ".join(said.split())[:_SHOWN_CHARACTERS]
        if status == httpx.codes.UNAUTHORIZED:
            return ValueError(f"{self._address} wants a key: set {KEY} to the one that it was started with")
        if status == httpx.codes.BAD_REQUEST and route == "weights":
            return ValueError(f"the server at {self._address} cannot open the model: {said}")
        if (
            status in (httpx.codes.CONFLICT, httpx.codes.TOO_MANY_REQUESTS)
            or status >= httpx.codes.INTERNAL_SERVER_ERROR
        ):
            return PassingError(f"status {status} at /{route}: {said}")
        return ValueError(f"the server at {self._address} refuses /{route} with status {status}: {said}")

    # ------------------------------------------------------------ the process

    def _ensure_server(self) -> None:
        """Start the server, where it is ours and is not there."""
        if self._place.address:
            self._is_suspect = False
            return
        if self._process is not None and (self._is_suspect or self._process.popen.poll() is not None):
            how = (
                "hung and was ended"
                if self._process.popen.poll() is None
                else f"ended with {self._process.popen.returncode}"
            )
            _LOG.warning("the server of vLLM %s; it is started anew: %s", how, _last_words(self._process.said))
            self._end()
        if self._process is None:
            self._starter.submit(self._start).result()

    def _start(self) -> None:
        self._is_suspect = False
        place, environment = self._place, {**os.environ, KEY: self._key}
        environment.pop("PYTHONPATH", None)  # modules of this environment are not those of that one
        said = place.log
        with said.open("ab") as log:
            try:
                popen = subprocess.Popen(
                    [place.python, str(place.program), "--parent", str(os.getpid())],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
            except OSError as error:
                raise ValueError(
                    f"{place.python} cannot be started: {error}; set runtime.vllm_python to vLLM's python"
                ) from error
        self._process = _Process(popen, said)
        self._tally["server_starts"] += 1
        assert popen.stdout is not None
        is_there, _, _ = select.select([popen.stdout], [], [], OPEN_SECONDS)
        line = popen.stdout.readline() if is_there else b""
        try:
            self._address = str(json.loads(line)["address"])
        except (ValueError, KeyError, TypeError):
            self._end()
            raise ValueError(
                f"{place.python} {place.program.name} did not start; it needs vLLM in its environment (docs/rollouts.md):"
                f" {_last_words(said)}"
            ) from None

    def _end(self) -> None:
        if self._process is None:
            return
        popen, self._process = self._process.popen, None
        popen.kill()
        popen.wait()
        if popen.stdout is not None:
            popen.stdout.close()


def _name_of(weights: Path) -> str:
    return str(weights.resolve())


def _parsed(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise PassingError(f"a line that is no JSON: {text[:200]!r}") from error
    if not isinstance(line, dict):
        raise PassingError(f"a line that is no object: {text[:200]!r}")
    return line


def _checked(line: dict[str, Any], request: Request, there: set[int]) -> Row:
    """Raises PassingError for a row that was not asked, or came before, or is no response to it."""
    try:
        row = Row.model_validate(line)
    except ValidationError as error:
        raise PassingError(f"a line that is no response: {str(line)[:200]}") from error
    if not 0 <= row.row < len(request.rows):
        raise PassingError(f"response {row.row} came, of {len(request.rows)} that were asked")
    if row.row in there:
        raise PassingError(f"response {row.row} came twice")
    length, limit = len(row.token_ids), request.rows[row.row].limit
    ends = bool(row.token_ids) and row.token_ids[-1] in request.end_ids
    if len(row.logprobs) != length or ends != row.finished or not (row.finished or length == limit) or length > limit:
        raise PassingError(
            f"response {row.row} has {length} tokens and {len(row.logprobs)} log-probabilities of at most {limit}, and is"
            f"{'' if row.finished else ' not'} finished"
        )
    if not all(map(_is_finite, row.logprobs)):
        raise FloatingPointError("the log-probabilities of a response are not finite numbers")
    return row


def _is_finite(value: float) -> bool:
    return value - value == 0.0


def _last_words(path: Path) -> str:
    if not path.is_file():
        return "it said nothing"
    words = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
    return words[-_SHOWN_CHARACTERS:] or "it said nothing"


def python_of(text: str) -> str:
    """The python that starts the server. Raises ValueError where none is named."""
    python = text or os.environ.get("VLLM_PYTHON", "")
    if not python:
        raise ValueError(
            "rl.sampling.engine = 'vllm' needs vLLM in an environment of its own: set runtime.vllm_python (or VLLM_PYTHON) to that"
            " environment's python, or runtime.vllm_address to a server; docs/rollouts.md says how to install it"
        )
    if shutil.which(python) is None:
        raise ValueError(
            f"{python} is not a program; set runtime.vllm_python (or VLLM_PYTHON) to the python of vLLM's environment"
        )
    return python
