"""A program with the routes of `vllm_server`, behind which our own model draws instead of vLLM, well or badly.

RING_STAND_IN names a file of JSON lines, a fault each; the first one is taken by what it fits, and is gone then, also for a server that
is started anew. {"do": ..., "after": n} acts when n rows of a request are done: `die` ends the process at once, `drop` the connection,
`hang` takes no step any more, `fail` breaks the engine, `fewer` leaves out a row, `twice` sends one two times, `stranger` sends one that
was not asked, `long` one of more tokens than were asked, `nan` one without log-probabilities that are numbers, `slow` waits for "seconds".
`refuse` does not open weights, and `others` draws from others than were opened: those of the folder that it names.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ring_model.checkpoint import load_model
from ring_model.generation import generate
from ring_model.modelling import BailingMoe
from stages.sampling import vllm_server
from stages.sampling.answering import next_token_logprobs
from stages.sampling.vllm_server import Handler, serve

FAULTS = "RING_STAND_IN"


def taken(*kinds: str, rows: int = 0) -> dict[str, Any] | None:
    """The first fault, if it is of these kinds and due after so many rows."""
    path = Path(os.environ.get(FAULTS, os.devnull))
    faults = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    if not faults or faults[0]["do"] not in kinds or rows < faults[0].get("after", 0):
        return None
    path.write_text("".join(json.dumps(other) + "\n" for other in faults[1:]))
    return faults[0]


class StandIn:
    """An engine that draws a whole row in a step."""

    name, device = "stand-in", "cpu"

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._model: BailingMoe | None = None
        self._rows: dict[str, Mapping[str, Any]] = {}

    def open(self, folder: str, *, max_rows: int) -> None:
        self._model = load_model(folder)
        if fault := taken("others"):
            self._model = load_model(fault["folder"])
        if fault := taken("refuse"):
            raise RuntimeError(fault["words"])

    def close(self) -> None:
        self._model = None
        self._rows.clear()

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        self._rows[key] = row

    def step(self) -> list[tuple[str, dict[str, Any]]]:
        assert self._model is not None
        if taken("hang", rows=Rows.sent):
            time.sleep(600)
        if taken("fail", rows=Rows.sent):
            raise RuntimeError("out of memory")
        key = next(iter(self._rows))
        row = self._rows.pop(key)
        (made,) = generate(
            self._model,
            [row["prompt"]],
            seeds=[row["seed"]],
            max_new_tokens=row["limit"],
            temperature=row["temperature"],
            top_p=row["top_p"],
            eos_id=row["end_ids"],
        )
        return [(key, {"token_ids": made.token_ids, "logprobs": made.logprobs.tolist(), "finished": made.finished})]

    def abort(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._rows.pop(key, None)

    def logprobs(self, tokens: Sequence[int]) -> list[float]:
        assert self._model is not None
        return next_token_logprobs(self._model, tokens)

    def transfer(self, name: str, body: Mapping[str, Any]) -> None:
        raise ValueError("no weight transfer")


class Rows(Handler):
    """Sends rows as a script says."""

    sent = 0  # rows of the request

    def _generate(self, asked: Mapping[str, Any]) -> None:
        Rows.sent = 0
        super()._generate(asked)

    def _line(self, value: Mapping[str, Any]) -> None:
        if "row" not in value:
            super()._line(value)
            return
        rows = Rows.sent
        if taken("die", rows=rows):
            os._exit(9)
        if taken("drop", rows=rows):
            self.connection.shutdown(2)
        if fault := taken("slow", rows=rows):
            time.sleep(fault["seconds"])
        if taken("fewer", rows=rows):
            return
        if taken("stranger", rows=rows):
            super()._line({**value, "row": 1000})
        if taken("nan", rows=rows):
            value = {**value, "logprobs": [float("nan")] * len(value["logprobs"])}
        if taken("long", rows=rows):
            super()._line({**value, "token_ids": [*value["token_ids"]] * 50, "logprobs": [*value["logprobs"]] * 50})
        if taken("twice", rows=rows):
            super()._line(value)
        super()._line(value)
        Rows.sent += 1


if __name__ == "__main__":
    vllm_server.Handler = Rows
    serve(StandIn(), sys.argv[1:])
