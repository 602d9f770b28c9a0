"""One chat completion as OpenAI-compatible servers speak it: what is sent, and what comes back, as a stream of events or as a whole.

A stream is asked for, so that a server that works on a long response differs from one that stalls; what a server sends instead is read,
too. Whatever is not a whole completion is refused in words: it says nothing, and is asked for again.
"""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from data.schema import Problem
from stages.config import Sampling
from stages.sampling.prompting import prompt_text

SHOWN_CHARACTERS = 300  # of what a server says, in a message
_MOST_BYTES = 64 * 2**20  # of one reply; a response of 100 000 tokens is a third of it as a stream
_MOST_SEED = 2**31  # servers read seeds as numbers of 32 or 64 bits, or as doubles
_LENGTH = "length"  # the reason of a response that was cut at its longest
_ABORTED = ("abort", "error", "insufficient_system_resource")  # reasons of responses that the server gave up


class BadReplyError(Exception):
    """What came back is no whole completion."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of a server."""

    response: str  # `<think>`, the reasoning and `</think>` first, where the server gives it apart
    truncated: bool  # cut at the longest that was asked for
    num_tokens: int | None  # of the response, by the server; None where it does not tell


def request_body(model: str, problem: Problem, *, seed: int, sampling: Sampling, greedy: bool) -> dict[str, Any]:
    """What is sent for one response. A server's seed is the response's, modulo 2^31."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt_text(problem)}],
        "temperature": 0.0 if greedy else sampling.temperature,
        "top_p": 1.0 if greedy else sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
        "seed": seed % _MOST_SEED,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def read_reply(response: httpx.Response, *, stall_seconds: float) -> Reply:
    """The completion in the body of a response of status 200.

    Raises:
        BadReplyError: it is none, or not a whole one.
        httpx.RequestError: the connection broke, or no piece of it came for `stall_seconds`.

    """
    parts = _Parts()
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        async for event in _events(response, stall_seconds=stall_seconds):
            parts.add(_parsed(event))
    else:
        parts.add(_parsed(await read_body(response)))
    return parts.reply()


async def read_body(response: httpx.Response, *, most_bytes: int = _MOST_BYTES) -> bytes:
    """The body. Raises BadReplyError where it is longer than `most_bytes`."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > most_bytes:
            raise BadReplyError(f"a reply of more than {most_bytes:,} bytes")
    return bytes(body)


async def _events(response: httpx.Response, *, stall_seconds: float) -> AsyncIterator[bytes]:
    """What follows `data:`, up to `[DONE]`. Comments keep a connection open, but are no sign of a response that goes on."""
    rest, num_bytes, last = b"", 0, time.monotonic()
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")  # and at no other character that Python takes for the end of a line
        num_bytes += len(piece)
        for line in lines:
            if line.startswith(b"data:"):
                last = time.monotonic()
                if (event := line[len(b"data:") :].strip()) == b"[DONE]":
                    return
                yield event
        if num_bytes > _MOST_BYTES:
            raise BadReplyError(f"a stream of more than {_MOST_BYTES:,} bytes")
        if time.monotonic() - last > stall_seconds:
            raise httpx.ReadTimeout("nothing but comments came")


class _Message(BaseModel):
    """What a response says, or a piece of it."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # another name of the same


class _Choice(BaseModel):
    index: int = 0
    message: _Message | None = None
    delta: _Message | None = None  # in its place, in a stream
    finish_reason: str | None = None


class _Completion(BaseModel):
    """A completion, or an event of one."""

    choices: list[_Choice]
    usage: Any = None  # any: a response counts whatever a server says of its tokens


def _parsed(text: bytes) -> _Completion:
    try:
        return _Completion.model_validate(json.loads(text))
    except (ValidationError, ValueError, RecursionError) as error:
        shown = text[:SHOWN_CHARACTERS].decode("utf-8", "replace")
        raise BadReplyError(f"a reply that is no chat completion: {shown!r}") from error


@dataclass(slots=True)
class _Parts:
    """What came so far of a response."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    num_tokens: int | None = None

    def add(self, completion: _Completion) -> None:
        """Take what the first choice says; no other was asked for."""
        self.num_tokens = _num_tokens(completion.usage, otherwise=self.num_tokens)
        for choice in completion.choices:
            said = choice.message or choice.delta
            if choice.index == 0 and said is not None:
                self.content.append(said.content or "")
                self.reasoning.append(said.reasoning_content or said.reasoning or "")
                self.finish_reason = choice.finish_reason or self.finish_reason

    def reply(self) -> Reply:
        """The response. Raises BadReplyError where it did not come to its end."""
        if not self.content:
            raise BadReplyError("a reply without any choice")
        if self.finish_reason is None or self.finish_reason in _ABORTED:
            raise BadReplyError(f"a response that was not ended (finish_reason {self.finish_reason})")
        truncated = self.finish_reason == _LENGTH
        text = _response_text("".join(self.content), "".join(self.reasoning), truncated=truncated)
        return Reply(text.encode("utf-8", "replace").decode(), truncated, self.num_tokens)


def _response_text(content: str, reasoning: str, *, truncated: bool) -> str:
    """As the judge reads it: of a response that was cut in its reasoning, the thinking is not closed."""
    if not reasoning:
        return content
    return f"<think>{reasoning}" if truncated and not content else f"<think>{reasoning}</think>{content}"


def _num_tokens(usage: object, *, otherwise: int | None) -> int | None:
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    is_count = isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**31
    return count if is_count else otherwise
