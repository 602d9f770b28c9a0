"""What a person sees while a chain runs (standard error) and when it is done (standard output)."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from prefect.logging import get_run_logger
from rich.console import Console
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
from rich.table import Table
from rich.text import Text

from flows.console import assembled, plain_console, shown
from stages.artifact import Manifest, read_manifest

QUIET_SECONDS = 10.0  # between two progress lines of one stage where there is no terminal to redraw


class _Rate(ProgressColumn):
    """Units per second since the first one."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f} {task.fields['unit']}/s" if speed else "", style="cyan")


class LiveDisplay:
    """One redrawn line a stage: bar, count, rate, time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
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

    def message(self, key: str, text: str) -> None:
        """A line above the bars."""
        self._progress.console.print(assembled((key.replace("/", " "), "bold"), " ", text))


class PlainDisplay:
    """Lines for logs: a stage's progress at most every ten seconds, its first and its last unit always."""

    def __init__(self, log: logging.Logger | logging.LoggerAdapter[logging.Logger] | None = None) -> None:
        self._log = log
        self._last: dict[str, float] = {}
        self._begun: dict[
            tuple[str, str], tuple[float, int, int]
        ] = {}  # when, with how many, and how many the last time

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
        left = f", {rate:,.1f} {unit}/s, {(total - done) / rate:,.0f} s left" if rate else ""
        self.message(key, f"{done:,}/{total:,} {unit}{left} {detail}".rstrip())

    def message(self, key: str, text: str) -> None:
        """A line."""
        line = shown(f"{key.replace('/', ' '):<14} {text}")
        if self._log is not None:
            self._log.info(line)
        else:
            with contextlib.suppress(BrokenPipeError):  # progress that nobody reads any more stops nothing
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()


def progress_display() -> LiveDisplay | PlainDisplay:
    """Bars on a terminal, lines elsewhere."""
    console = plain_console(stderr=True)
    return LiveDisplay(console) if console.is_terminal else PlainDisplay()


ACTIVE_DISPLAY: ContextVar[LiveDisplay | PlainDisplay | None] = ContextVar("display", default=None)


def active_display() -> LiveDisplay | PlainDisplay:
    """The terminal's display, or, in a deployment, the flow run's log, so that the Prefect UI shows progress."""
    return ACTIVE_DISPLAY.get() or PlainDisplay(get_run_logger())


# ---------------------------------------------------------------- the tables at the end


SHOWN_TABLES = (  # stage, table, title, rows that are shown
    ("curation", "funnel", "Curation: what each step kept", {}),
    ("sft", "epochs", "SFT epochs", {}),
    ("selection", "candidates", "The chosen checkpoint", {}),
    ("evaluation", "summary", "Evaluation on problems never seen, 95 % intervals", {}),
    (
        "evaluation",
        "comparisons",
        "Paired differences over all domains",
        {"group": ("all",), "metric": ("greedy", "pass@1")},
    ),
    ("evaluation", "ledger", "Token efficiency", {}),
)


def show_chain(document: Mapping[str, Any], *, console: Console) -> None:
    """Stages, funnel, SFT epochs and the choice, arms, evaluation, comparisons, notes, and where to look next."""
    manifests = {
        (f"rl/{entry['arm']}" if entry["arm"] else entry["stage"]): read_manifest(Path(entry["artifact"]))
        for entry in document["stages"]
    }
    console.print(_stages_table(document))
    for key, name, title, wanted in SHOWN_TABLES:
        rows = manifests[key].tables().get(name, []) if key in manifests else []
        rows = [row for row in rows if all(row[column] in values for column, values in wanted.items())]
        if rows:
            console.print(rows_table(rows, title=title))
        if name == "candidates" and rows:
            _show_arms(manifests, console)
    for key, manifest in manifests.items():
        for note in manifest.document["notes"]:
            console.print(assembled((f"{key}:", "yellow"), " ", note))
    if "evaluation" in manifests:
        console.print(
            "In MLflow the numbers are named <model>/<group>/<metric>, with pass@1 written pass_at_1 (MLflow allows no @).",
            style="dim",
            highlight=False,
        )


def _show_arms(manifests: Mapping[str, Manifest], console: Console) -> None:
    rows = [
        {"arm": key.removeprefix("rl/"), **row}
        for key, manifest in manifests.items()
        for row in manifest.tables().get("phases", [])
    ]
    if rows:
        console.print(rows_table(rows, title="RL arms by phase"))


def _stages_table(document: Mapping[str, Any]) -> Table:
    rows = [
        {
            "stage": entry["stage"],
            "arm": entry["arm"] or "",
            "status": entry["status"],
            "seconds": round(entry["seconds"], 1),
            "fingerprint": entry["fingerprint"][:12],
        }
        for entry in document["stages"]
    ]
    return rows_table(rows, title=f"{document['recipe']}: {document['seconds']:.0f} s")


def rows_table(rows: list[dict[str, Any]], *, title: str) -> Table:
    """Rows of equal keys as a table; numbers to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in rows[0]:
        table.add_column(
            name,
            justify="right"
            if isinstance(rows[0][name], int | float) and not isinstance(rows[0][name], bool)
            else "left",
            overflow="fold",
        )
    for row in rows:
        style = "bold green" if row.get("chosen") is True else None
        table.add_row(*(_cell(value) for value in row.values()), style=style)
    return table


def _cell(value: Any) -> str:  # noqa: ANN401 - any table value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
