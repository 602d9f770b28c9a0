"""What a person sees while a chain runs, on standard error."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterable
from contextvars import ContextVar

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from flows.console import assembled, plain_console, shown

QUIET_SECONDS = 30.0  # between two progress lines of one stage where there is no terminal to redraw


class _Rate(ProgressColumn):
    """Units per second since the first one."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{_rate(speed)} {task.fields['unit']}/s" if speed else "", style="cyan")


def _rate(value: float) -> str:
    """`9.5`, `44,049`."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


class _BarsAndLine(Progress):
    """Bars, and a line below them."""

    last_line = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.last_line:
            yield Text(self.last_line, style="dim")


class LiveDisplay:
    """One redrawn line a stage: bar, count, rate, time left."""

    def __init__(self, console: Console) -> None:
        self._progress = _BarsAndLine(
            SpinnerColumn(),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}"),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
            console=console,
            speed_estimate_period=20,
        )
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "LiveDisplay":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def progress(self, key: str, *, done: int, total: int, unit: str, detail: str) -> None:
        """Move the stage's bar; a new unit starts it again."""
        with self._lock:
            if key not in self._tasks:
                self._tasks[key] = self._progress.add_task(key.replace("/", " "), total=total, unit=unit, detail=detail)
            self._progress.update(self._tasks[key], completed=done, total=total, unit=unit, detail=detail)

    def outlook(self, text: str) -> None:
        """The last line: what is left of the chain."""
        self._progress.last_line = text

    def message(self, key: str, text: str) -> None:
        """A line above the bars."""
        self._progress.console.print(assembled((key.replace("/", " "), "bold"), " ", text))


class PlainDisplay:
    """Lines for logs: a stage's progress at most every thirty seconds, its first and its last unit always.

    Where nothing was said for so long, a line says what is left of the chain; else the stages' own lines say it.
    """

    def __init__(self, log: logging.Logger | logging.LoggerAdapter[logging.Logger] | None = None) -> None:
        self._log = log
        self._last: dict[str, float] = {}
        self._begun: dict[
            tuple[str, str], tuple[float, int, int]
        ] = {}  # when, with how many, and how many the last time
        self._spoke = time.monotonic()
        self._outlook = ""

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def progress(self, key: str, *, done: int, total: int, unit: str, detail: str) -> None:
        """A line with count, rate and time left."""
        now = time.monotonic()
        began, first, last = self._begun.get((key, unit), (now, done, done))
        if done < last:  # another step of the stage
            began, first = now, done
        self._begun[key, unit] = began, first, done
        if done < total and now - self._last.get(key, 0.0) < QUIET_SECONDS:
            return
        self._last[key] = now
        rate = (done - first) / (now - began) if now > began and done > first else 0.0
        left = f", {_rate(rate)} {unit}/s, {(total - done) / rate:,.0f} s left" if rate else ""
        chain = f"; {self._outlook}" if self._outlook and done < total else ""
        self.message(key, f"{done:,}/{total:,} {unit}{left} {detail}".rstrip() + chain)

    def outlook(self, text: str) -> None:
        """Kept for the next line; said by itself where there was none for long."""
        self._outlook = text
        if time.monotonic() - self._spoke >= QUIET_SECONDS:
            self.message("chain", text or "at work")

    def message(self, key: str, text: str) -> None:
        """A line."""
        self._spoke = time.monotonic()
        line = shown(f"{key.replace('/', ' '):<14} {text}")
        if self._log is not None:
            self._log.info(line)
        else:
            with contextlib.suppress(BrokenPipeError):  # progress that nobody reads any more stops nothing
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()


def progress_display() -> LiveDisplay | PlainDisplay:
    """Bars on a terminal that can redraw them, lines elsewhere."""
    console = plain_console(stderr=True)
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else PlainDisplay()


ACTIVE_DISPLAY: ContextVar[LiveDisplay | PlainDisplay | None] = ContextVar("display", default=None)


def active_display() -> LiveDisplay | PlainDisplay:
    """The terminal's display, or, in a deployment, the flow run's log, so that the Prefect UI shows progress."""
    from prefect.logging import get_run_logger  # commands that only print tables do without Prefect

    return ACTIVE_DISPLAY.get() or PlainDisplay(get_run_logger())
