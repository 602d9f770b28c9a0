"""A model that is talked to: its prompts for several turns, and its response piece by piece, thinking and answer told apart.

In: a model folder of ours, and turns as `{role, content}`. Out: `Piece`s. A single user's turn with its domain's instruction has the
prompt of selection, RL and evaluation (`stages.sampling.prompting`), and its greedy response is theirs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data.domains import DOMAINS, Domain
from ring_model.chat_template import THINKING_END, THINKING_START
from ring_model.checkpoint import load_model
from ring_model.streaming import Manner, Speaker, Token
from ring_model.tokenizer import Tokenizer

Turn = Mapping[str, str]  # role and content
ROLES = ("system", "user", "assistant")
_BROKEN = "\ufffd"  # what a piece of a letter decodes to


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token adds to a response. Its texts may be empty: a tag, or the beginning of what may become one, is held back."""

    thinking: str
    answer: str
    token: Token | None  # None: what was held back, at the end
    finish: Literal["", "stop", "length"] = ""  # of the last piece: ended by the model or a stop text, or cut


class Talker:
    """The model of a folder, loaded once."""

    def __init__(self, folder: Path) -> None:
        """Raises ValueError for a folder that holds no model of ours."""
        self.tokenizer = Tokenizer.from_folder(folder)
        self._speaker = Speaker(load_model(folder))

    @property
    def positions(self) -> int:
        """Tokens that prompt and response may have together."""
        return self._speaker.model.config.max_position_embeddings

    def prompt(self, turns: Sequence[Turn], *, domain: str | None = None) -> list[int]:
        """Ids of the chat template around the turns; the instruction of a domain goes behind each of the user's.

        Raises ValueError for an unknown domain or role, and where the template takes no such talk.
        """
        suffix = "" if domain is None else _domain(domain).prompt_suffix
        for turn in turns:
            if turn["role"] not in ROLES:
                raise ValueError(f"no role {turn['role']!r} in a talk; there are {', '.join(ROLES)}")
        return self.tokenizer.render_talk(
            [{**turn, "content": turn["content"] + (suffix if turn["role"] == "user" else "")} for turn in turns]
        )

    def respond(self, prompt: Sequence[int], manner: Manner, *, stops: Sequence[str] = ()) -> Iterator[Piece]:
        """Text behind a prompt, as it comes: all of it is answer. It ends before the first of `stops`."""
        text = Text(self.tokenizer, stops=stops)
        for token in self._speaker.say(prompt, manner):
            said = "" if token.is_end else text.add(token.id)
            if token.is_end or text.is_stopped:
                yield Piece("", said, token)
                yield Piece("", text.rest(), None, "stop")
                return
            yield Piece("", said, token)
        yield Piece("", text.rest(), None, "length")

    def reply(self, prompt: Sequence[int], manner: Manner, *, stops: Sequence[str] = ()) -> Iterator[Piece]:
        """The assistant's turn behind a prompt of `prompt`, with thinking and answer apart."""
        parts = Thinking(is_open=self.tokenizer.template.opens_thinking)
        for piece in self.respond(prompt, manner, stops=stops):
            thinking, answer = parts.add(piece.answer)
            if piece.finish:
                last_thinking, last_answer = parts.rest()
                thinking, answer = thinking + last_thinking, answer + last_answer
            yield Piece(thinking, answer, piece.token, piece.finish)


def said_turn(thinking: str, answer: str) -> dict[str, str]:
    """An assistant's turn as the template gets it."""
    thought = f"{THINKING_START}{thinking}{THINKING_END}" if thinking else ""
    return {"role": "assistant", "content": thought + answer}


def _domain(name: str) -> Domain:
    if name not in DOMAINS:
        raise ValueError(f"no domain {name!r}; there are {', '.join(DOMAINS)}")
    return DOMAINS[name]


# ---------------------------------------------------------------- text that comes in pieces


@dataclass(slots=True)
class Text:
    """Text of ids that come one by one. What may be the beginning of a stop text, or is half a letter, waits."""

    tokenizer: Tokenizer
    stops: Sequence[str] = ()
    is_stopped: bool = False
    _ids: list[int] = field(default_factory=list)
    _text: str = ""
    _num_told: int = 0

    def add(self, index: int) -> str:
        """The text that can be told with one more id."""
        self._ids.append(index)
        self._text = self.tokenizer.decode(self._ids)
        places = [place for stop in self.stops if (place := self._text.find(stop)) >= 0]
        if places:
            self.is_stopped = True
            self._text = self._text[: min(places)]
            return self._told(len(self._text))
        whole = len(self._text) - held_back(self._text, self.stops)
        return "" if self._text.endswith(_BROKEN) else self._told(whole)

    def rest(self) -> str:
        """What was held back."""
        return self._told(len(self._text))

    def _told(self, end: int) -> str:
        start, self._num_told = self._num_told, max(end, self._num_told)
        return self._text[start:end]


@dataclass(slots=True)
class Thinking:
    """Parts a response, as it comes, at the tags of thinking."""

    is_open: bool  # the thinking was opened by the prompt; else the response opens it, if it begins with the tag
    _waiting: str = ""
    _may_open: bool = field(init=False)

    def __post_init__(self) -> None:
        self._may_open = not self.is_open

    def add(self, text: str) -> tuple[str, str]:
        """What of a text and of what waited is thinking, and what is answer."""
        text, self._waiting = self._waiting + text, ""
        if self._may_open:
            begun = text.lstrip()
            if begun != THINKING_START and THINKING_START.startswith(begun):
                self._waiting = text
                return "", ""
            self._may_open = False
            self.is_open = begun.startswith(THINKING_START)
            text = begun.removeprefix(THINKING_START) if self.is_open else text
        if not self.is_open:
            return "", text
        thinking, tag, answer = text.partition(THINKING_END)
        if tag:
            self.is_open = False
            return thinking, answer
        end = len(text) - held_back(text, [THINKING_END])
        self._waiting = text[end:]
        return text[:end], ""

    def rest(self) -> tuple[str, str]:
        """What waited, at the end."""
        text, self._waiting = self._waiting, ""
        return (text, "") if self.is_open else ("", text)


def held_back(text: str, marks: Sequence[str]) -> int:
    """Number of characters at the end of a text that are the beginning of a mark."""
    longest = max(map(len, marks), default=0)
    return next(
        (size for size in range(min(longest - 1, len(text)), 0, -1) if any(m.startswith(text[-size:]) for m in marks)),
        0,
    )
