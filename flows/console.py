r"""The console of every command: texts of data sets, models and files are shown and never obeyed.

A name may hold what a terminal takes for a command (`\x1b[2K` clears the line) or what turns the order of letters round. Such characters
are written as escapes. Rich keeps its own colours beside the text, so that no text of a segment needs to hold them.
"""

import contextlib
import os
import re
import select
import shutil
import sys
import threading
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

UNHEARD = 141  # exit code of a program whose reader has gone (`| head`), as a shell gives it for SIGPIPE
# Control characters but \t and \n; marks, embeddings, overrides and isolates of direction; lone surrogates.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    r"""The text with what a terminal would obey, and what cannot be encoded, as escapes: `\x1b`, `\u202e`, `\udcff`."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


def assembled(*parts: str | tuple[str, str]) -> Text:
    """A text of parts, each plain or with its style. Rich's own `Text` would leave some control characters out unseen."""
    return Text.assemble(*((shown(part[0]), part[1]) if isinstance(part, tuple) else shown(part) for part in parts))


def leave_pipe() -> bool:
    """Whether nobody reads standard output any more; what is still to be written then goes nowhere, without an error at exit."""
    poll = select.poll()
    poll.register(1, 0)
    if not any(events & select.POLLERR for _, events in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True


class _ShowingConsole(Console):
    """Everything that is printed goes through `render`; `render_str` comes before widths are measured."""

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - those of Rich
        return super().render_str(shown(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text))

    def on_broken_pipe(self) -> None:
        """Results that nobody reads end the command; progress that nobody reads does not."""
        self.quiet = True
        if not self.stderr:
            leave_pipe()
            raise SystemExit(UNHEARD)


def plain_console(*, stderr: bool = False) -> Console:
    """A console that takes brackets for brackets: ids and texts of data sets are not ours. What is to be styled is `assembled`."""
    return _ShowingConsole(stderr=stderr, markup=False, emoji=False)


def near(path: Path) -> str:
    """A path from here where it lies below, else whole; either can be copied."""
    here = Path.cwd()
    return str(path.absolute().relative_to(here) if path.absolute().is_relative_to(here) else path)


def program() -> str:
    """How `ring` was called, where a bare `ring` would not be found."""
    typed = sys.argv[0]
    return typed if Path(typed).name == "ring" and shutil.which("ring") is None else "ring"


def say(text: str) -> None:
    """One line on standard error, at once: what a person waits for."""
    sys.stderr.write(f"{shown(text)}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def waiting(text: str, *, after_seconds: float = 1.0) -> Generator[None]:
    """Say what a person waits for, if it takes longer than a moment."""
    timer = threading.Timer(after_seconds, say, [f"{text} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
