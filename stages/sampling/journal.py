"""Responses of a server as they come, one line of JSON each, kept until their chunk is whole: a killed run asks only for the rest.

A response counts when its line is written. A line without its end was torn by a kill, and goes. Of several lines for one question the
first counts, and those for other questions (of another model, prompt, or way of sampling) do not.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from stages.sampling.completions import Reply
from stages.sampling.requests import Chunk


class Record(BaseModel):
    """A response, and what was asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    problem_id: str  # this and the sample's number are for people
    sample: int
    question: str  # digest of all that was asked


class Line(Record):
    """A response of a server that gives text."""

    response: str
    truncated: bool
    num_tokens: int | None

    @property
    def reply(self) -> Reply:
        """Without what was asked."""
        return Reply(self.response, self.truncated, self.num_tokens)


class TokenLine(Record):
    """A response of a server that gives tokens."""

    token_ids: list[int]
    logprobs: list[float]  # of each, under the policy that drew it
    finished: bool  # it ends with an end token


Kind = TypeVar("Kind", bound=Record)


def journal_path(chunk: Chunk) -> Path:
    """Beside the chunk."""
    return chunk.path.with_suffix(".responses.jsonl")


def append_line(path: Path, line: Record) -> None:
    """Hand a line to the system, which writes it to the disk in its own time: waiting for that would hold up every other request."""
    with path.open("ab") as journal:
        journal.write(line.model_dump_json().encode() + b"\n")


def read_replies(path: Path, questions: Sequence[str]) -> dict[str, Reply]:
    """Question -> reply, as `read_lines`."""
    return {question: line.reply for question, line in read_lines(path, Line, questions).items()}


def read_lines(path: Path, kind: type[Kind], questions: Sequence[str]) -> dict[str, Kind]:
    """Question -> line, of the questions that were answered; a torn last line is cut off the file.

    Raises ValueError for a line that is damaged: no kill does that.
    """
    if not path.exists():
        return {}
    whole = _without_torn_line(path)
    lines = [_line(text, kind, path, number) for number, text in enumerate(whole.splitlines(), start=1)]
    asked = set(questions)
    return {line.question: line for line in reversed(lines) if line.question in asked}


def _without_torn_line(path: Path) -> bytes:
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    return whole


def _line(text: bytes, kind: type[Kind], path: Path, number: int) -> Kind:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(
            f"{path}: line {number} is damaged; remove it, and its response is asked for again: {text[:80]!r}"
        ) from error
