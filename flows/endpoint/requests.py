"""What a client may ask, as OpenAI's API has it. What would be ignored is refused by name, unless it asks for nothing."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ring_model.streaming import Manner
from stages.seeds import derive_seed

MOST_RESPONSES = 128  # `n`
MOST_STOPS = 4
MOST_TOP = 20  # most probable tokens that are told
_NEUTRAL: dict[str, tuple[Any, ...]] = {  # of fields that are not supported: values that ask for nothing
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}
_UNREAD = (
    "metadata",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
)  # say nothing of the response
_OF_MESSAGES = ("name", "refusal", "audio", "annotations")  # as clients send back what they got


class BadRequestError(ValueError):
    """A request that cannot be answered; `param` names the field."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    include_obfuscation: bool = False


class Asked(BaseModel):
    """What both kinds of request hold."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: str
    n: int = Field(1, ge=1, le=MOST_RESPONSES)
    temperature: float = Field(1.0, ge=0.0, le=100.0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    @field_validator("n", "temperature", "top_p", "stream", mode="before")
    @classmethod
    def _default(cls, value: Any, info: Any) -> Any:  # noqa: ANN401 - a JSON value; pydantic's own record
        return cls.model_fields[info.field_name].default if value is None else value

    @property
    def stops(self) -> Sequence[str]:
        """Texts before which a response ends."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def num_top(self) -> int:
        """Most probable tokens that are told with each."""
        raise NotImplementedError

    @property
    def tells_logprobs(self) -> bool:
        """Whether tokens come with their log-probabilities."""
        raise NotImplementedError

    def limit(self, room: int) -> int:
        """Most new tokens, of so many that there is room for."""
        raise NotImplementedError

    def manners(self, *, end_ids: Sequence[int], room: int) -> list[Manner]:
        """How each of the `n` responses is sampled: equal seeds give equal responses."""
        seed = secrets.randbits(63) if self.seed is None else self.seed % 2**64
        return [
            Manner(
                end_ids=end_ids,
                max_new_tokens=self.limit(room),
                temperature=self.temperature,
                top_p=self.top_p,
                seed=derive_seed(seed, number) if number else seed,
                num_top=self.num_top,
            )
            for number in range(self.n)
        ]


class TextPart(BaseModel):
    """A piece of a message."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn. `reasoning_content` of the assistant's is what it thought."""

    model_config = ConfigDict(extra="allow", strict=True)
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None

    @property
    def text(self) -> str:
        """What it says."""
        parts = self.content or ""
        return parts if isinstance(parts, str) else "".join(part.text for part in parts)


class Chat(Asked):
    """The body of `POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    domain: str | None = None  # ours: its instruction goes behind each turn of the user

    @field_validator("logprobs", mode="before")
    @classmethod
    def _no_logprobs(cls, value: Any) -> Any:  # noqa: ANN401 - a JSON value
        return False if value is None else value

    @property
    def num_top(self) -> int:
        return (self.top_logprobs or 0) if self.logprobs else 0

    @property
    def tells_logprobs(self) -> bool:
        return self.logprobs

    def limit(self, room: int) -> int:
        """All that there is room for, where no number is given."""
        return min([room, *(most for most in (self.max_tokens, self.max_completion_tokens) if most)])


class Completion(Asked):
    """The body of `POST /v1/completions`: text, or ids, that the model goes on with."""

    prompt: str | list[str] | list[int]
    max_tokens: int | None = Field(None, ge=1)
    logprobs: int | None = Field(None, ge=0, le=MOST_TOP)

    @property
    def num_top(self) -> int:
        return self.logprobs or 0

    @property
    def tells_logprobs(self) -> bool:
        return self.logprobs is not None

    def limit(self, room: int) -> int:
        """OpenAI's 16 where no number is given."""
        return min(room, self.max_tokens or 16)


Kind = TypeVar("Kind", bound=Asked)


def read_request(kind: type[Kind], body: bytes) -> Kind:
    """The request in a body. Raises BadRequestError, which names the field, for anything else."""
    try:
        asked = kind.model_validate_json(body)
    except ValidationError as error:
        nearest = max(
            error.errors(include_url=False), key=lambda one: len(one["loc"])
        )  # of a choice of types the one that fits best
        where = ".".join(str(part) for part in nearest["loc"] if "[" not in str(part))
        raise BadRequestError(f"{where}: {nearest['msg']}" if where else nearest["msg"], param=where or None) from None
    _require_neutral("", asked.model_extra or {})
    for message in getattr(asked, "messages", ()):
        _require_neutral(f"messages of {message.role}: ", message.model_extra or {}, more=_OF_MESSAGES)
    if len(asked.stops) > MOST_STOPS or not all(asked.stops):
        raise BadRequestError(f"stop: at most {MOST_STOPS} texts, none of them empty", param="stop")
    return asked


def _require_neutral(where: str, extra: Mapping[str, Any], *, more: Sequence[str] = ()) -> None:
    for name, value in extra.items():
        if name in _UNREAD or name in more or value is None or value in _NEUTRAL.get(name, ()):
            continue
        what = "is not supported here; leave it out" if name in _NEUTRAL else "is no field that is known here"
        raise BadRequestError(f"{where}{name} {what}", param=name, code="unsupported_parameter")
