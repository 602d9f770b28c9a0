"""A real HTTP server of this machine that answers chat completions as a script says, well or badly."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "tiny"
Body = dict[str, Any]


class Handler(BaseHTTPRequestHandler):
    """One connection. `way` below are functions of it and the request's body."""

    protocol_version = "HTTP/1.1"
    script: "Script"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.script.way(self.path, dict(self.headers), body)(self, body)

    def do_GET(self) -> None:
        self.script.listed.append(self.path)
        listing = json.dumps({"object": "list", "data": [{"id": name} for name in self.script.models]}).encode()
        self.reply(200, self.script.listing or listing)

    def reply(self, status: int, content: bytes, *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def event(self, value: object) -> None:
        self.piece(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")

    def end_stream(self) -> None:
        self.piece(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")


Way = Callable[[Handler, Body], None]


def answer_to(body: Body) -> str:
    """The right response: it tells the question, and the seed."""
    return f"{body['messages'][0]['content']} with {body['seed']}: \\boxed{{1}}"


def delta(index: int = 0, finish_reason: str | None = None, **said: str) -> Body:
    return {"choices": [{"index": index, "delta": said, "finish_reason": finish_reason}]}


def streams(handler: Handler, body: Body) -> None:
    """As vLLM does."""
    text = answer_to(body)
    handler.begin_stream()
    handler.piece(b": ping\n\n")
    handler.event(delta(role="assistant", content=""))
    handler.event(delta(content=text[:5]))
    handler.event(delta(content=text[5:]))
    handler.event(delta(finish_reason="stop"))
    handler.event({"choices": [], "usage": {"completion_tokens": 7}})
    handler.end_stream()


def whole(handler: Handler, body: Body) -> None:
    """As a server that knows no streams."""
    handler.reply(200, json.dumps(completion(answer_to(body))).encode())


def completion(content: str | None, *, finish_reason: str = "stop", usage: object = None, **message: Any) -> Body:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": finish_reason,
    }
    return {"choices": [choice], "usage": usage or {"completion_tokens": 7}}


def says(status: int, content: object, **headers: str) -> Way:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda handler, body: handler.reply(status, text, **headers)


def drops(handler: Handler, body: Body) -> None:
    handler.close_connection = True
    handler.connection.shutdown(2)


def cuts_a_body(handler: Handler, body: Body) -> None:
    content = json.dumps(completion(answer_to(body))).encode()
    handler.reply(200, content[: len(content) // 2], length=len(content))
    drops(handler, body)


def cuts_a_stream(handler: Handler, body: Body) -> None:
    handler.begin_stream()
    handler.event(delta(content="half of "))
    drops(handler, body)


def ends_a_stream_early(handler: Handler, body: Body) -> None:
    """In good order, but for the reason why."""
    handler.begin_stream()
    handler.event(delta(content="half of "))
    handler.end_stream()


def fails_in_a_stream(handler: Handler, body: Body) -> None:
    handler.begin_stream()
    handler.event(delta(content="half of "))
    handler.event({"error": {"message": "out of memory"}})
    handler.end_stream()


def after(seconds: float, way: Way) -> Way:
    def late(handler: Handler, body: Body) -> None:
        time.sleep(seconds)
        with contextlib.suppress(OSError):  # the client has gone
            way(handler, body)

    return late


def stalls(seconds: float) -> Way:
    """A first piece, and then nothing for so long, but for comments, which a proxy may send."""

    def stall(handler: Handler, body: Body) -> None:
        handler.begin_stream()
        handler.event(delta(content="half of "))
        end = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            while time.monotonic() < end:
                time.sleep(0.05)
                handler.piece(b": ping\n\n")

    return stall


@dataclass
class Script:
    """What the server does, and what it was asked."""

    ways: Mapping[str, Sequence[Way]] = field(
        default_factory=dict
    )  # by the question's first word: one attempt after the other
    last: Way = streams  # when there are no more
    models: Sequence[str] = (MODEL,)
    refuses_from: int | None = None  # number of the request from which on all are refused
    blocks_from: int | None = None  # and from which on none is answered
    asked: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    listing: bytes = b""  # instead of them
    listed: list[str] = field(default_factory=list)
    url: str = ""
    attempts: Counter[tuple[str, int]] = field(default_factory=Counter)  # by text and seed
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        return f"{self.url}/v1#{MODEL}"

    def way(self, path: str, headers: dict[str, str], body: Body) -> Way:
        text = body["messages"][0]["content"]
        with self.lock:
            self.asked.append(body)
            self.headers.append(headers)
            self.paths.append(path)
            self.times.append(time.monotonic())
            number = self.attempts[text, body["seed"]]
            self.attempts[text, body["seed"]] += 1
            count = len(self.asked) - 1
        if self.refuses_from is not None and count >= self.refuses_from:
            return says(400, b"no")
        if self.blocks_from is not None and count >= self.blocks_from:
            return stalls(60.0)
        ways = self.ways.get(text.split()[0], ())
        return ways[number] if number < len(ways) else self.last


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # connections that wait, while a machine has other work


@contextlib.contextmanager
def served(script: Script) -> Iterator[Script]:
    """Serve until the end; its address is `script.url`."""
    server = _Server(("127.0.0.1", 0), type("Scripted", (Handler,), {"script": script}))
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
