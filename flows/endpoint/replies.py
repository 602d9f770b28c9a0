"""What a client gets, as OpenAI's API has it: completions, the events of a stream, the list of models, errors.

Thinking stands apart from the answer, in `reasoning_content`, as vLLM and others give it; `ring evaluate` puts the two together again.
"""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ring_model.streaming import Token
from ring_model.tokenizer import Tokenizer
from stages.sampling.talking import Piece

Kind = Literal["chat.completion", "text_completion"]


@dataclass(frozen=True, slots=True)
class Form:
    """What all parts of one reply share."""

    kind: Kind
    model: str
    tokenizer: Tokenizer
    tells_logprobs: bool
    id: str = field(default_factory=lambda: f"ring-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def is_chat(self) -> bool:
        """Whether it is a chat's."""
        return self.kind == "chat.completion"

    def whole(self, choices: Sequence[Mapping[str, Any]], usage: Mapping[str, int]) -> dict[str, Any]:
        """A reply that is not streamed."""
        return {**self._head(self.kind), "choices": list(choices), "usage": dict(usage)}

    def event(self, choices: Sequence[Mapping[str, Any]], **more: Any) -> bytes:  # noqa: ANN401 - JSON values
        """A part of a stream."""
        kind = "chat.completion.chunk" if self.is_chat else self.kind
        return event({**self._head(kind), "choices": list(choices), **more})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def choice(self, index: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        """A whole response."""
        thinking, answer = "".join(piece.thinking for piece in pieces), "".join(piece.answer for piece in pieces)
        message = {"role": "assistant", "content": answer, "reasoning_content": thinking or None}
        said = {"message": message} if self.is_chat else {"text": answer}
        return {"index": index, **said, **self._rest(pieces, finish=pieces[-1].finish, offset=0)}

    def part(self, index: int, piece: Piece, *, offset: int) -> dict[str, Any]:
        """A piece of a response; `offset` characters came before it."""
        delta = {"reasoning_content": piece.thinking, "content": piece.answer}
        said = (
            {"delta": {name: text for name, text in delta.items() if text}} if self.is_chat else {"text": piece.answer}
        )
        return {"index": index, **said, **self._rest([piece], finish=piece.finish, offset=offset)}

    def _rest(self, pieces: Sequence[Piece], *, finish: str, offset: int) -> dict[str, Any]:
        tokens = [piece.token for piece in pieces if piece.token is not None]
        told = None
        if self.tells_logprobs:
            told = self._chat_logprobs(tokens) if self.is_chat else self._text_logprobs(tokens, offset=offset)
        return {"logprobs": told, "finish_reason": finish or None}

    def _chat_logprobs(self, tokens: Sequence[Token]) -> dict[str, Any]:
        rows = [
            {
                **self._told(token.id, token.logprob),
                "top_logprobs": [self._told(index, logprob) for index, logprob in token.top],
            }
            for token in tokens
        ]
        return {"content": rows, "refusal": None}

    def _told(self, index: int, logprob: float) -> dict[str, Any]:
        text = self.tokenizer.decode([index])
        return {"token": text, "logprob": logprob, "bytes": [*text.encode("utf-8", "replace")]}

    def _text_logprobs(self, tokens: Sequence[Token], *, offset: int) -> dict[str, Any]:
        texts = [self.tokenizer.decode([token.id]) for token in tokens]
        return {
            "tokens": texts,
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{self.tokenizer.decode([index]): value for index, value in token.top} for token in tokens],
            "text_offset": [offset + sum(map(len, texts[:place])) for place in range(len(texts))],
        }


def usage(prompts: Sequence[Sequence[int]], *, num_tokens: int) -> dict[str, int]:
    """Tokens of the prompts, each counted once, and of all responses, their end tokens included."""
    asked = sum(map(len, prompts))
    return {"prompt_tokens": asked, "completion_tokens": num_tokens, "total_tokens": asked + num_tokens}


def event(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def error(message: str, *, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """What went wrong, as clients of OpenAI read it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def models(name: str, *, created: int) -> dict[str, Any]:
    """The list of models, which is one."""
    return {"object": "list", "data": [model(name, created=created)]}


def model(name: str, *, created: int) -> dict[str, Any]:
    """An entry of the list."""
    return {"id": name, "object": "model", "created": created, "owned_by": "ring"}
