"""The routes before an engine: what is refused, and that a request gets the weights that it names."""

import json
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from stages.sampling.vllm_server import Handler, Loop, Vllm, _Server, serve

ASKED = {"seeds": [5, 6], "limits": [2, 3], "temperature": 1.0, "top_p": 1.0, "end_ids": [0]}


class Counting:
    """An engine whose rows count from their seed up to their limit; a step is a token of each."""

    name, device = "counting", "cpu"

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.aborted: list[str] = []
        self.rows: dict[str, tuple[list[int], int]] = {}
        self.may_step = threading.Event()
        self.may_step.set()

    def open(self, folder: str, *, max_rows: int) -> None:
        if folder == "/none":
            raise FileNotFoundError("no such model")
        self.opened.append(folder)

    def close(self) -> None:
        self.rows.clear()

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        self.rows[key] = ([row["seed"]], row["limit"])

    def step(self) -> list[tuple[str, dict[str, Any]]]:
        self.may_step.wait()
        ended = []
        for key, (tokens, limit) in list(self.rows.items()):
            if len(tokens) == limit:
                ended.append((key, {"token_ids": tokens, "logprobs": [-1.0] * limit, "finished": False}))
                del self.rows[key]
            else:
                tokens.append(tokens[-1] + 1)
        return ended

    def abort(self, keys: Sequence[str]) -> None:
        self.aborted += keys
        for key in keys:
            self.rows.pop(key, None)

    def logprobs(self, tokens: Sequence[int]) -> list[float]:
        return [-float(token) for token in tokens[1:]]

    def transfer(self, name: str, body: Mapping[str, Any]) -> None:
        self.opened.append(name)


class Asked:
    """A server of this process."""

    def __init__(self, engine: Counting, *, key: str = "") -> None:
        self.engine, self.loop = engine, Loop(engine)
        self.loop.start()
        self.server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"loop": self.loop, "key": key}))
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def post(self, route: str, **body: Any) -> tuple[int, list[dict[str, Any]]]:
        return self.send(urllib.request.Request(f"{self.url}/{route}", data=json.dumps(body).encode()))

    def get(self, route: str, **headers: str) -> tuple[int, list[dict[str, Any]]]:
        return self.send(urllib.request.Request(f"{self.url}/{route}", headers=headers))

    def send(self, request: urllib.request.Request) -> tuple[int, list[dict[str, Any]]]:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, [json.loads(line) for line in response.read().splitlines()]
        except urllib.error.HTTPError as error:
            return error.code, [json.loads(error.read())]


@pytest.fixture
def asked() -> Iterator[Asked]:
    one = Asked(Counting())
    yield one
    one.server.shutdown()
    one.server.server_close()


def test_rows_come_as_they_end_and_their_number_at_last(asked: Asked) -> None:
    assert asked.post("weights", folder="/a", name="a", max_rows=4)[0] == 200
    status, lines = asked.post("generate", weights="a", prompts=[[1], [2]], **ASKED)
    assert status == 200
    assert [line["token_ids"] for line in lines if "row" in line] == [[5, 6], [6, 7, 8]]
    assert [line["row"] for line in lines if "row" in line] == [0, 1] and lines[-1] == {"end": 2}
    assert asked.post("logprobs", weights="a", tokens=[7, 8, 9]) == (200, [{"logprobs": [-8.0, -9.0]}])


@pytest.mark.parametrize("route", ["generate", "logprobs"])
def test_a_request_for_other_weights_is_refused(asked: Asked, route: str) -> None:
    body = {"prompts": [[1], [2]], "tokens": [1, 2], **ASKED}
    assert asked.post(route, weights="a", **body)[0] == 409
    asked.post("weights", folder="/a", name="a", max_rows=4)
    assert asked.post(route, weights="b", **body)[0] == 409
    assert asked.post(route, weights="a", **body)[0] == 200


def test_weights_that_cannot_be_opened_leave_none(asked: Asked) -> None:
    asked.post("weights", folder="/a", name="a", max_rows=4)
    status, (said,) = asked.post("weights", folder="/none", name="b", max_rows=4)
    assert (status, said) == (400, {"error": "FileNotFoundError: no such model"})
    assert asked.get("health")[1][0]["weights"] == ""


def test_weights_do_not_change_under_rows_that_are_drawn(asked: Asked) -> None:
    asked.post("weights", folder="/a", name="a", max_rows=4)
    asked.engine.may_step.clear()
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()
    drawing = threading.Thread(
        target=lambda: found.put(asked.post("generate", weights="a", prompts=[[1], [2]], **ASKED))
    )
    drawing.start()
    while not asked.engine.rows:
        pass
    changing = threading.Thread(target=lambda: found.put(asked.post("weights", folder="/b", name="b", max_rows=4)))
    changing.start()
    while not asked.loop._commands.qsize():
        pass
    asked.engine.may_step.set()
    changing.join()
    drawing.join()
    statuses = sorted((found.get()[0], found.get()[0]))
    assert statuses == [200, 409] and asked.engine.opened == ["/a"]


def test_rows_that_nobody_waits_for_are_given_up(asked: Asked) -> None:
    asked.post("weights", folder="/a", name="a", max_rows=4)
    sink: queue.SimpleQueue[Any] = queue.SimpleQueue()
    asked.engine.may_step.clear()
    keys = asked.loop.begin({"weights": "a", "prompts": [[1]], **ASKED, "seeds": [1], "limits": [9]}, sink)
    asked.loop.forget(keys)
    assert asked.engine.aborted == keys and not asked.engine.rows
    asked.engine.may_step.set()


def test_a_weight_transfer_names_the_weights_at_its_end(asked: Asked) -> None:
    for route in ("init_weight_transfer_engine", "start_weight_update", "update_weights"):
        assert asked.post(route) == (200, [{}])
    assert asked.post("finish_weight_update", weight_version="c") == (200, [{}])
    assert asked.get("health")[1][0]["weights"] == "c"
    assert len(asked.engine.opened) == 4


def test_an_unknown_route_is_told(asked: Asked) -> None:
    assert asked.post("v1/completions")[0] == 404


def test_a_key_is_needed_where_there_is_one() -> None:
    asked = Asked(Counting(), key="secret")
    assert asked.get("health") == (401, [{"error": "set RING_VLLM_KEY to the key of the server"}])
    assert asked.get("health", Authorization="Bearer wrong")[0] == 401
    status, (health,) = asked.get("health", Authorization="Bearer secret")
    assert status == 200 and health["engine"] == "counting" and health["megabytes"] > 0
    asked.server.shutdown()
    asked.server.server_close()


def test_other_machines_are_served_only_with_a_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("RING_VLLM_KEY", raising=False)
    with pytest.raises(SystemExit):
        serve(Counting(), ["--host", "0.0.0.0"])
    assert "0.0.0.0 is not the loopback: set RING_VLLM_KEY" in capsys.readouterr().err


def test_without_vllm_the_program_ends_with_what_is_missing() -> None:
    with pytest.raises(ModuleNotFoundError, match="vllm"):
        Vllm()
