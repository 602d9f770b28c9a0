"""`PYTHON vllm_server.py`: vLLM behind four routes of HTTP, for `stages.sampling.vllm`; run with the python of vLLM's own environment.

Imports nothing of this project, and vLLM only when it starts, so that another engine can stand behind the same routes (`serve`). One thread
owns the engine; rows of all requests are decoded together, and a row is sent as soon as it ends.

    GET  /health    -> {"engine", "device", "pid", "weights", "megabytes", "peak_megabytes"}
    POST /weights   {"folder", "name", "max_rows"} -> {"weights", "seconds"}
    POST /logprobs  {"weights", "tokens"} -> {"logprobs"}: of every token but the first, temperature 1
    POST /generate  {"weights", "prompts", "seeds", "limits", "temperature", "top_p", "end_ids"} -> lines of JSON:
                    {"row", "token_ids", "logprobs", "finished"} each, {"steps"} now and then, {"end": number of rows} at last

Log-probabilities are those of the sampled policy: after temperature and nucleus (`processed_logprobs`). A request names the weights that it
means; where others are loaded it gets status 409. What the engine refuses has status 400. With RING_VLLM_KEY in the environment, requests
need it as a bearer token; without, the program serves the loopback alone. It writes its address as a line of JSON to standard output.

Weights change by POST /weights, which closes the engine and opens another one. `reload_weights` into an engine that is there returns
quietly with wrong outputs on a CPU (vLLM 0.32.0). On a GPU vLLM's weight transfer works beside it; its routes
(`init_weight_transfer_engine`, `start_weight_update`, `update_weights`, `finish_weight_update`) are those of vLLM's own server, so that its
`HTTPVLLMWeightSyncClient` can be given this address. They were not run here: no machine with a GPU was at hand.
"""

import argparse
import ctypes
import gc
import hmac
import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Protocol

KEY = "RING_VLLM_KEY"
BEAT_SECONDS = 1.0  # between two lines that say how many steps the engine took
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TRANSFER = ("init_weight_transfer_engine", "start_weight_update", "update_weights", "finish_weight_update")
_MOST_BYTES = 2**30  # of a request
Body = Mapping[str, Any]


class Engine(Protocol):
    """What can stand behind the routes. One thread calls it."""

    name: str  # and version
    device: str

    def open(self, folder: str, *, max_rows: int) -> None:
        """Be the model of a folder, and no other one any more. Raises any exception for one that it cannot be."""

    def close(self) -> None:
        """Let the model go."""

    def add(self, key: str, row: Body) -> None:
        """Begin a response: prompt, seed, limit, temperature, top_p and end_ids."""

    def step(self) -> list[tuple[str, dict[str, Any]]]:
        """Draw a token for every row; returns those that ended: key, and token_ids, logprobs, finished."""

    def abort(self, keys: Sequence[str]) -> None:
        """Give up rows."""

    def logprobs(self, tokens: Sequence[int]) -> list[float]:
        """Log-probability of every token but the first."""

    def transfer(self, name: str, body: Body) -> None:
        """A step of a weight transfer."""


class RefusedError(Exception):
    """A request that cannot be met."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Loop(threading.Thread):
    """The thread that owns the engine: commands in between steps."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(name="engine", daemon=True)
        self.engine, self.weights, self.steps = engine, "", 0
        self._commands: queue.SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = queue.SimpleQueue()
        self._sinks: dict[str, queue.SimpleQueue[Any]] = {}  # any: rows, or the error that ended them
        self._number = 0

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - of any function
        """What the function returns or raises in the engine's thread."""
        future: Future[Any] = Future()
        self._commands.put((future, function, arguments))
        return future.result()

    def run(self) -> None:
        while True:
            while self._commands.qsize() or not self._sinks:
                future, function, arguments = self._commands.get()
                try:
                    future.set_result(function(*arguments))
                except Exception as error:  # it is the caller's
                    future.set_exception(error)
            self._step()

    def _step(self) -> None:
        try:
            ended = self.engine.step()
        except Exception as error:  # the engine is broken: all of its rows end with it
            for sink in {id(sink): sink for sink in self._sinks.values()}.values():
                sink.put(error)
            self._sinks.clear()
            self.weights = ""
            return
        self.steps += 1
        for key, row in ended:
            if sink := self._sinks.pop(key, None):
                sink.put({"row": int(key.rpartition("/")[2]), **row})

    # ------------------------------------------------------------ commands

    def open(self, folder: str, name: str, max_rows: int) -> None:
        """Load weights. Raises RefusedError while rows are drawn, and what the engine raises."""
        if self._sinks:
            raise RefusedError(409, f"{len(self._sinks)} rows of {self.weights} are being drawn")
        self.weights = ""
        self.engine.close()
        self.engine.open(folder, max_rows=max_rows)
        self.weights = name

    def require(self, name: str) -> None:
        """Raises RefusedError where other weights are loaded."""
        if not name or name != self.weights:
            raise RefusedError(409, f"weights {name!r} are not loaded, but {self.weights!r}")

    def begin(self, asked: Body, sink: "queue.SimpleQueue[Any]") -> list[str]:
        """Begin the rows of a request; returns their keys."""
        self.require(asked["weights"])
        columns = [asked[name] for name in ("prompts", "seeds", "limits")]
        shared = {name: asked[name] for name in ("temperature", "top_p", "end_ids")}
        self._number += 1
        keys = []
        for row, (prompt, seed, limit) in enumerate(zip(*columns, strict=True)):
            key = f"{self._number}/{row}"
            self.engine.add(key, {"prompt": prompt, "seed": seed, "limit": limit, **shared})
            self._sinks[key] = sink
            keys.append(key)
        return keys

    def forget(self, keys: Sequence[str]) -> None:
        """Give up rows that nobody waits for."""
        there = [key for key in keys if self._sinks.pop(key, None)]
        if there and self.weights:
            self.engine.abort(there)

    def logprobs(self, name: str, tokens: Sequence[int]) -> list[float]:
        """Of every token but the first, under the weights of that name."""
        self.require(name)
        return self.engine.logprobs(tokens)

    def transfer(self, route: str, body: Body) -> None:
        """A step of a weight transfer; the last one names the weights."""
        if self._sinks:
            raise RefusedError(409, f"{len(self._sinks)} rows of {self.weights} are being drawn")
        self.engine.transfer(route, body)
        if route == "finish_weight_update":
            self.weights = str(body.get("weight_version") or "")


class Handler(BaseHTTPRequestHandler):
    """One request. Its replies end with the connection."""

    loop: ClassVar[Loop]
    key: ClassVar[str]

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """See the module."""
        if self._is_let_in():
            engine = self.loop.engine
            self._reply(
                200,
                {"engine": engine.name, "device": engine.device, "pid": os.getpid(), "weights": self.loop.weights, **_memory()},
            )  # fmt: skip

    def do_POST(self) -> None:
        """See the module."""
        if not self._is_let_in():
            return
        try:
            asked = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", "0")), _MOST_BYTES)) or b"{}")
            self._answer(self.path.strip("/"), asked)
        except RefusedError as error:
            self._reply(error.status, {"error": str(error)})
        except (BrokenPipeError, ConnectionResetError):
            pass  # nobody waits any more
        except Exception as error:  # whatever an engine raises
            self._reply(400, {"error": f"{type(error).__name__}: {error}"})

    def _answer(self, route: str, asked: Body) -> None:
        if route == "generate":
            self._generate(asked)
        elif route == "logprobs":
            self._reply(200, {"logprobs": self.loop.call(self.loop.logprobs, asked["weights"], asked["tokens"])})
        elif route == "weights":
            started = time.monotonic()
            self.loop.call(self.loop.open, asked["folder"], asked["name"], asked["max_rows"])
            self._reply(200, {"weights": asked["name"], "seconds": time.monotonic() - started})
        elif route in _TRANSFER:
            self.loop.call(self.loop.transfer, route, asked)
            self._reply(200, {})
        else:
            raise RefusedError(404, f"no route {route!r}")

    def _generate(self, asked: Body) -> None:
        sink: queue.SimpleQueue[Any] = queue.SimpleQueue()
        keys = self.loop.call(self.loop.begin, asked, sink)
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson")
            self.end_headers()
            self._send_rows(sink, count=len(keys))
        finally:
            self.loop.call(self.loop.forget, keys)

    def _send_rows(self, sink: "queue.SimpleQueue[Any]", *, count: int) -> None:
        left = count
        while left:
            try:
                row = sink.get(timeout=BEAT_SECONDS)
            except queue.Empty:
                self._line({"steps": self.loop.steps})
                continue
            if isinstance(row, Exception):
                self._line({"error": f"{type(row).__name__}: {row}"})
                return
            self._line(row)
            left -= 1
        self._line({"end": count})

    def _line(self, value: Body) -> None:
        self.wfile.write(json.dumps(value).encode() + b"\n")
        self.wfile.flush()

    def _is_let_in(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.key and not hmac.compare_digest(given.encode(), self.key.encode()):
            self._reply(401, {"error": f"set {KEY} to the key of the server"})
            return False
        return True

    def _reply(self, status: int, value: Body) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


def serve(engine: Engine, arguments: Sequence[str]) -> None:
    """Serve until the end of the process. Raises SystemExit for arguments that it cannot serve by."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: one that is free")
    parser.add_argument("--parent", type=int, default=0, help="end with the process of this id, which started this one")
    asked = parser.parse_args(arguments)
    if asked.parent:
        _die_with(asked.parent)
    key = os.environ.get(KEY, "")
    if not key and asked.host not in _LOOPBACK:
        parser.error(
            f"{asked.host} is not the loopback: set {KEY} to a key of your own, and to the same where it is asked"
        )
    loop = Loop(engine)
    loop.start()
    server = _Server((asked.host, asked.port), type("Bound", (Handler,), {"loop": loop, "key": key}))
    address = f"http://{asked.host}:{server.server_address[1]}"
    print(json.dumps({"address": address, "engine": engine.name}), flush=True)
    server.serve_forever()


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != parent:
        os._exit(1)


def _memory() -> dict[str, int]:
    with open("/proc/self/statm", encoding="ascii") as pages:  # noqa: PTH123 - no Path is needed here
        resident = int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "megabytes": resident >> 20,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


# ---------------------------------------------------------------- vLLM


class Vllm:
    """vLLM in this process: a new engine for each folder."""

    def __init__(self) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # one process: the configuration class is registered in it
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        import torch
        from transformers import AutoConfig, PreTrainedConfig
        from vllm import __version__  # ty: ignore[import-not-found] - of another environment

        class BailingMoeConfig(PreTrainedConfig):
            """vLLM has the model but not its configuration class; every key of config.json becomes an attribute."""

            model_type = "bailing_moe"
            default_theta = 600000.0
            head_dim: int | None = None
            rope_parameters: dict | None = None

        AutoConfig.register("bailing_moe", BailingMoeConfig)
        self.name, self.device = f"vllm {__version__}", "cuda" if torch.cuda.is_available() else "cpu"
        self._engine: Any = None  # any: vLLM's
        self._ended: list[Any] = []  # outputs that came while something else was waited for

    def open(self, folder: str, *, max_rows: int) -> None:
        """Float32 on a CPU, else the number type of the folder; one forward pass shows whether its kernels take the model's sizes."""
        from vllm import EngineArgs, LLMEngine  # ty: ignore[import-not-found]

        on_cpu = self.device == "cpu"
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=folder,
                skip_tokenizer_init=True,
                generation_config="vllm",  # how a response is drawn is ours to say
                dtype="float32" if on_cpu else "auto",
                enforce_eager=on_cpu,
                max_num_seqs=max_rows,
                logprobs_mode="processed_logprobs",
                enable_prefix_caching=False,
                disable_log_stats=True,
                seed=0,
                **({} if on_cpu else {"weight_transfer_config": self._transfer_config()}),
            )
        )
        self.logprobs([0, 0])

    def _transfer_config(self) -> Any:  # noqa: ANN401 - vLLM's
        from vllm.config import WeightTransferConfig  # ty: ignore[import-not-found]

        return WeightTransferConfig(backend="nccl")

    def close(self) -> None:
        """Let the engine go, with its process groups."""
        if self._engine is None:
            return
        from vllm.distributed import cleanup_dist_env_and_memory  # ty: ignore[import-not-found]

        self._engine = None
        gc.collect()
        cleanup_dist_env_and_memory()

    def add(self, key: str, row: Body) -> None:
        """A response ends with one of `end_ids` alone, which belongs to it, or at its limit."""
        from vllm import SamplingParams  # ty: ignore[import-not-found]

        settings = SamplingParams(
            temperature=row["temperature"],
            top_p=row["top_p"],
            seed=row["seed"],
            max_tokens=row["limit"],
            stop_token_ids=list(row["end_ids"]),
            ignore_eos=True,
            logprobs=0,
            detokenize=False,
        )
        self._engine.add_request(key, {"prompt_token_ids": list(row["prompt"])}, settings)

    def step(self) -> list[tuple[str, dict[str, Any]]]:
        """See `Engine`."""
        outputs, self._ended = [*self._ended, *self._engine.step()], []
        return [(output.request_id, _row(output.outputs[0])) for output in outputs if output.finished]

    def abort(self, keys: Sequence[str]) -> None:
        """See `Engine`."""
        self._engine.abort_request(list(keys))

    def logprobs(self, tokens: Sequence[int]) -> list[float]:
        """By the pass over a prompt."""
        from vllm import SamplingParams  # ty: ignore[import-not-found]

        settings = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        self._engine.add_request("logprobs", {"prompt_token_ids": list(tokens)}, settings)
        found = None
        while found is None:
            for output in self._engine.step():
                if output.request_id != "logprobs":
                    self._ended.append(output)
                elif output.finished:
                    found = output.prompt_logprobs
        return [of[token].logprob for of, token in zip(found[1:], tokens[1:], strict=True)]

    def transfer(self, name: str, body: Body) -> None:
        """On a GPU; see the module."""
        if self.device == "cpu":
            raise ValueError("vLLM has no weight transfer on a CPU; POST /weights opens a new engine")
        arguments = {key: body[key] for key in ("init_info", "update_info") if key in body}
        self._engine.collective_rpc(name, kwargs=arguments)
        if name == "finish_weight_update":
            self._engine.reset_prefix_cache()


def _row(made: Any) -> dict[str, Any]:  # noqa: ANN401 - vLLM's
    tokens = list(made.token_ids)
    logprobs = [of[token].logprob for of, token in zip(made.logprobs, tokens, strict=True)]
    return {"token_ids": tokens, "logprobs": logprobs, "finished": made.finish_reason == "stop"}


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder, whose modules are not those that vLLM means by their names
    serve(Vllm(), sys.argv[1:])
