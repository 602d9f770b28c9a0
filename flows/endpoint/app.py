"""The server: routes, one generation at a time, and errors as clients of OpenAI expect them.

One model, one thread that computes: requests wait for their turn in the order in which they came, `MOST_WAITING` of them at most. A client
that goes away frees its turn at the next token. It listens on 127.0.0.1 and asks for no key; a browser's page cannot use it, since the
host's name and the type of the body are checked.
"""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from flows.endpoint import replies
from flows.endpoint.requests import MOST_RESPONSES, Asked, BadRequestError, Chat, Completion, Message, read_request
from ring_model.streaming import Manner
from stages.sampling.talking import Piece, Talker, said_turn

HOST = "127.0.0.1"
MOST_BYTES = 8 * 2**20  # of a body
MOST_WAITING = 64  # requests, beside the one that is answered
_LOOK_EVERY = 16  # tokens, after which it is looked whether the client is still there
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """Responses that one request wants: each has a prompt and a manner."""

    form: replies.Form
    asked: Asked
    prompts: Sequence[Sequence[int]]  # the distinct ones
    responses: Sequence[tuple[Sequence[int], Manner]]

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return self.asked.stream_options is not None and self.asked.stream_options.include_usage


class Desk:
    """Where requests wait for the model."""

    def __init__(self, talker: Talker, *, name: str) -> None:
        self.talker, self.name, self.created = talker, name, int(time.time())
        self._turn = asyncio.Lock()
        self._num_waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        asked = read_request(Chat, await _body(request))
        self._require_model(asked.model)
        turns = [_turn(message) for message in asked.messages]
        prompt = await self._computed(lambda: self.talker.prompt(turns, domain=asked.domain))
        return await self._answered(request, asked, [prompt], kind="chat.completion")

    async def complete(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        asked = read_request(Completion, await _body(request))
        self._require_model(asked.model)
        prompts = await self._computed(lambda: _prompts(asked.prompt, self.talker))
        return await self._answered(request, asked, prompts, kind="text_completion")

    async def models(self, _request: Request) -> Response:
        """`GET /v1/models`."""
        return JSONResponse(replies.models(self.name, created=self.created))

    async def model(self, request: Request) -> Response:
        """`GET /v1/models/NAME`."""
        self._require_model(request.path_params["name"])
        return JSONResponse(replies.model(self.name, created=self.created))

    def _require_model(self, name: str) -> None:
        if name != self.name:
            raise BadRequestError(
                f"there is no model {name!r} here, but {self.name!r}", param="model", code="model_not_found", status=404
            )

    async def _computed(self, work: Any) -> Any:  # noqa: ANN401 - any function and what it returns
        """What a function returns, computed beside the requests."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except BadRequestError:
            raise
        except ValueError as error:
            raise BadRequestError(str(error)) from error

    async def _answered(
        self, request: Request, asked: Asked, prompts: Sequence[Sequence[int]], *, kind: replies.Kind
    ) -> Response:
        order = self._order(asked, prompts, kind=kind)
        if self._num_waiting > MOST_WAITING:
            raise BadRequestError(
                f"{self._num_waiting} requests wait already; ask again later", code="rate_limit_exceeded", status=429
            )
        if asked.stream:
            return _Stream(self._events(order), media_type="text/event-stream")
        choices, num_tokens = [], 0
        async with aclosing(self._responses(order, request)) as responses:
            async for number, pieces in responses:
                num_tokens += sum(piece.token is not None for piece in pieces)
                choices.append(order.form.choice(number, pieces))
        return JSONResponse(order.form.whole(choices, replies.usage(prompts, num_tokens=num_tokens)))

    def _order(self, asked: Asked, prompts: Sequence[Sequence[int]], *, kind: replies.Kind) -> Order:
        if len(prompts) * asked.n > MOST_RESPONSES:
            raise BadRequestError(f"at most {MOST_RESPONSES} responses to a request", param="n")
        for prompt in prompts:
            self._require_room(prompt)
        end_ids, positions = self.talker.tokenizer.end_ids, self.talker.positions
        responses = [
            (prompt, manner)
            for prompt in prompts
            for manner in asked.manners(end_ids=end_ids, room=positions - len(prompt))
        ]
        form = replies.Form(kind, self.name, self.talker.tokenizer, asked.tells_logprobs)
        return Order(form, asked, prompts, responses)

    def _require_room(self, prompt: Sequence[int]) -> None:
        positions = self.talker.positions
        if not prompt:
            raise BadRequestError("the prompt has no tokens; it needs at least one", param="prompt")
        if len(prompt) >= positions:
            raise BadRequestError(
                f"the prompt has {len(prompt):,} tokens, prompt and response together may have {positions:,}",
                code="context_length_exceeded",
            )

    async def _pieces(self, order: Order, number: int) -> AsyncIterator[Piece]:
        prompt, manner = order.responses[number]
        ask = self.talker.reply if order.form.is_chat else self.talker.respond
        pieces = ask(prompt, manner, stops=order.asked.stops)
        while (piece := await self._computed(lambda: next(pieces, None))) is not None:
            yield piece

    async def _responses(self, order: Order, request: Request) -> AsyncGenerator[tuple[int, list[Piece]]]:
        async with self._taken():
            for number in range(len(order.responses)):
                pieces: list[Piece] = []
                async for piece in self._pieces(order, number):
                    pieces.append(piece)
                    if len(pieces) % _LOOK_EVERY == 0 and await request.is_disconnected():
                        raise HTTPException(499, "the client has gone")
                yield number, pieces

    async def _events(self, order: Order) -> AsyncGenerator[bytes]:
        form, num_tokens = order.form, 0
        try:
            async with self._taken():
                for number in range(len(order.responses)):
                    if form.is_chat:
                        first = {"index": number, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
                        yield form.event([first])
                    offset = 0
                    async for piece in self._pieces(order, number):
                        num_tokens += piece.token is not None
                        yield form.event([form.part(number, piece, offset=offset)])
                        offset += len(piece.answer)
        except FloatingPointError as error:
            yield replies.event(replies.error(str(error), kind="server_error"))
            return
        if order.tells_usage:
            yield form.event([], usage=replies.usage(order.prompts, num_tokens=num_tokens))
        yield b"data: [DONE]\n\n"

    def _taken(self) -> "_Turn":
        return _Turn(self)


class _Stream(StreamingResponse):
    """Events that end with their client: left alone, the generator would keep its turn at the model until it is collected."""

    def __init__(self, events: AsyncGenerator[bytes], *, media_type: str) -> None:
        super().__init__(events, media_type=media_type)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


class _Turn:
    """A request's turn at the model, a context; who waits is counted."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __aenter__(self) -> None:
        self._desk._num_waiting += 1
        try:
            await self._desk._turn.acquire()
        finally:
            self._desk._num_waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._desk._turn.release()


def _turn(message: Message) -> dict[str, str]:
    if message.role == "assistant":
        return said_turn(message.reasoning_content or "", message.text)
    return {"role": "system" if message.role == "developer" else message.role, "content": message.text}


def _prompts(prompt: str | list[str] | list[int], talker: Talker) -> list[list[int]]:
    """Ids of each prompt; of a text those that it has by itself."""
    if isinstance(prompt, str):
        return [talker.tokenizer.encode(prompt)]
    if all(isinstance(one, str) for one in prompt) and prompt:
        return [talker.tokenizer.encode(str(one)) for one in prompt]
    ids = [one for one in prompt if isinstance(one, int)]
    if wrong := [one for one in ids if not 0 <= one < talker.tokenizer.vocab_size]:
        raise BadRequestError(f"prompt: {wrong[0]} is no id; there are {talker.tokenizer.vocab_size:,}", param="prompt")
    return [ids]


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"the body must be application/json, this is {kind or 'of no type'}")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"a body may have {MOST_BYTES:,} bytes")
    return bytes(body)


# ---------------------------------------------------------------- errors


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequestError)
    kind = "rate_limit_error" if error.status == 429 else "invalid_request_error"
    body = replies.error(str(error), kind=kind, param=error.param, code=error.code)
    return JSONResponse(body, status_code=error.status, headers={"Retry-After": "1"} if error.status == 429 else None)


async def _not_http(_request: Request, error: Exception) -> Response:
    """A path or method that is not there, a body that is too large or of another kind."""
    assert isinstance(error, HTTPException)
    paths = "there is no such path; /v1/models, /v1/chat/completions and /v1/completions are there"
    body = replies.error(paths if error.status_code == 404 else error.detail, kind="invalid_request_error")
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


async def _failed(_request: Request, error: Exception) -> Response:
    said = str(error) if isinstance(error, FloatingPointError) else "the server failed; its terminal says more"
    return JSONResponse(replies.error(said, kind="server_error"), status_code=500)


# ---------------------------------------------------------------- the application


def application(talker: Talker, *, name: str) -> Starlette:
    """The server of a model under a name."""
    desk = Desk(talker, name=name)
    return Starlette(
        routes=[
            Route("/v1/models", desk.models, methods=["GET"]),
            Route("/v1/models/{name:path}", desk.model, methods=["GET"]),
            Route("/v1/chat/completions", desk.chat, methods=["POST"]),
            Route("/v1/completions", desk.complete, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
        exception_handlers={BadRequestError: _refused, HTTPException: _not_http, Exception: _failed},
    )


def listening(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1; port 0 takes a free one. Raises ValueError where the port is taken."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise ValueError(f"cannot listen on {HOST}:{port} ({error}); --port 0 takes a free one") from error
    bound.listen(128)
    return bound


def serve(app: Starlette, bound: socket.socket) -> None:
    """Answer until the process is told to end (SIGINT, SIGTERM); then what is being said is cut."""
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[bound])
