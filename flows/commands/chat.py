"""`ring chat`: talk to a model in the terminal, or serve it to programs that speak OpenAI's API."""

import contextlib
import signal
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from data.domains import DOMAINS
from flows.console import plain_console, say, shown, waiting
from flows.models import find_model
from stages.records.artifact import open_store
from stages.seeds import derive_seed

if TYPE_CHECKING:
    from ring_model.streaming import Manner
    from stages.sampling.talking import Talker

_PROMPT = "> "


def chat(
    model: str,
    *,
    domain: str = "math",
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_new_tokens: int = 1024,
    seed: int = 0,
    afresh: Annotated[bool, Parameter(negative="")] = False,
    serve: Annotated[bool, Parameter(negative="")] = False,
    port: int = 8000,
) -> int:
    """Talk to a model, line by line: its thinking dim, then its answer, as it comes. Ctrl-C ends an answer, Ctrl-D the talk.

    Parameters
    ----------
    model
        As for `ring model info`.
    domain
        math, code or science: which instruction goes behind what you say, as in training.
    temperature
        0 takes the most probable token each time, as greedy evaluation does.
    top_p
        Share of the probability that tokens are drawn from.
    max_new_tokens
        Longest response.
    seed
        Of the first response at a temperature above 0; the same seed and talk give the same words.
    afresh
        Each line begins a new talk: for models that were trained on one turn, as those of the recipes here.
    serve
        Serve an OpenAI-compatible endpoint on 127.0.0.1 instead, until Ctrl-C. What clients send is what the model gets: no instruction is
        added, but where a request has a field `domain`. Clients say how to sample; the options above are not read.
    port
        With --serve: port to listen on; 0 takes a free one.

    """
    _check(domain, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed)
    folder = find_model(model, store=open_store())
    if serve:
        return _serve(folder, name=folder.resolve().name if Path(model).is_dir() else model, port=port)
    with waiting("importing PyTorch, and reading the weights"):
        from ring_model.streaming import Manner
        from stages.sampling.talking import Talker

        talker = Talker(folder)
    manner = Manner(
        end_ids=talker.tokenizer.end_ids,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    talk = Talk(talker, manner, domain=domain, console=plain_console(), afresh=afresh)
    with _terminated_at_once():
        talk.hold(_lines())
    return 0


def _check(domain: str, *, temperature: float, top_p: float, max_new_tokens: int, seed: int) -> None:
    if domain not in DOMAINS:
        raise ValueError(f"no domain {domain!r}; there are {', '.join(DOMAINS)}")
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"--temperature = {temperature} must be a number of at least 0")
    if not 0.0 < top_p <= 1.0:
        raise ValueError(f"--top-p = {top_p} must be above 0 and at most 1")
    if max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens = {max_new_tokens} must be at least 1")
    if not 0 <= seed < 2**63:
        raise ValueError(f"--seed = {seed} must be at least 0 and below 2^63")


# ---------------------------------------------------------------- the talk


@dataclass(slots=True)
class Talk:
    """What was said so far, and the model that answers."""

    talker: "Talker"
    manner: "Manner"
    domain: str
    console: Console
    afresh: bool = False  # each line begins a new talk
    turns: list[dict[str, str]] = field(default_factory=list)
    _num_asked: int = 0

    def hold(self, lines: Iterator[str]) -> None:
        """Answer each line that says something."""
        for line in lines:
            if line.strip():
                self.answer(line)

    def answer(self, line: str) -> None:
        """Answer one line; where that is interrupted, or fails, line and answer are left out of the talk."""
        before = [] if self.afresh else list(self.turns)
        self.turns = list(before)
        self.turns.append({"role": "user", "content": line})
        try:
            self._say(self._prompt())
        except KeyboardInterrupt:
            self.turns = before
            self._note("\nstopped; this question and its answer are left out of the talk")
        except (ValueError, FloatingPointError) as error:
            self.turns = before
            self._note(f"{error}")

    def _prompt(self) -> list[int]:
        """Of the talk; where little room would be left for the response, its oldest turns go, and that is told."""
        room = self.talker.positions - min(self.manner.max_new_tokens, self.talker.positions // 2)
        num_turns = len(self.turns)
        while len(prompt := self.talker.prompt(self.turns, domain=self.domain)) > room and len(self.turns) > 1:
            del self.turns[:2]
        if gone := num_turns - len(self.turns):
            self._note(f"the model has {self.talker.positions:,} positions: the {gone} oldest turns are left out")
        return prompt

    def _say(self, prompt: list[int]) -> None:
        from stages.sampling.talking import said_turn  # torch

        number, self._num_asked = self._num_asked, self._num_asked + 1
        seed = derive_seed(self.manner.seed, number) if number else self.manner.seed
        thinking, answer, finish = [], [], ""
        for piece in self.talker.reply(prompt, replace(self.manner, seed=seed)):
            self._show(piece.thinking, begins=not thinking, label="thinking", style="dim")
            self._show(piece.answer, begins=not answer, label="\nanswer" if thinking else "answer", style=None)
            thinking += [piece.thinking] if piece.thinking else []
            answer += [piece.answer] if piece.answer else []
            finish = piece.finish
        self.console.out("")
        if finish == "length":
            most, positions = self.manner.max_new_tokens, self.talker.positions
            self._note(f"cut off: --max-new-tokens is {most:,}, and the model has {positions:,} positions")
        self.turns.append(said_turn("".join(thinking), "".join(answer)))

    def _show(self, text: str, *, begins: bool, label: str, style: str | None) -> None:
        if not text:
            return
        if begins:
            self.console.out(f"{label}: ", style="bold", end="", highlight=False)
            text = text.lstrip()
        self.console.out(shown(text), style=style, end="", highlight=False)
        self.console.file.flush()

    def _note(self, text: str) -> None:
        sys.stdout.flush()
        say(text)


def _lines() -> Iterator[str]:
    """Lines of standard input; with a prompt, and a history to go back in, where it is a terminal."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            yield line.rstrip("\n")
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - `input` edits lines with it
    say("Ctrl-C ends an answer, Ctrl-D the talk.")
    while True:
        try:
            yield input(_PROMPT)
        except EOFError:
            say("")
            return
        except KeyboardInterrupt:
            say("\nCtrl-D ends the talk.")


@contextlib.contextmanager
def _terminated_at_once() -> Generator[None]:
    """SIGTERM ends the command, although Ctrl-C ends an answer alone."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---------------------------------------------------------------- the server


def _serve(folder: Path, *, name: str, port: int) -> int:
    """Serve until Ctrl-C. The address is the first line of standard output."""
    with waiting("importing PyTorch, and reading the weights"):
        from flows.endpoint.app import HOST, application, listening, serve
        from stages.sampling.talking import Talker

        bound = listening(port)
        app = application(Talker(folder), name=name)
    base = f"http://{HOST}:{bound.getsockname()[1]}/v1"
    plain_console().print(f"{base}#{name}", highlight=False, soft_wrap=True)
    say(
        f"an OpenAI-compatible server: base URL {base}, model {name}, any key; one generation at a time; Ctrl-C ends it"
    )
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        serve(app, bound)
    say("stopped")
    return 0
