"""A flow called from the command line: a home folder that can be written, a Prefect server, records, and progress on the terminal."""

import importlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.console import say, waiting
from flows.settings import choose_server, use_home
from stages.imports import heavy_imports
from stages.records.artifact import ring_home

LEAST_FREE_BYTES = 20_000_000  # the databases of a first run alone take 8 MB


def writable_home() -> Path:
    """The home folder, made where there is none. Raises ValueError where it cannot be written, or its disk is full."""
    home = ring_home()
    probe = home / f".write-{os.getpid()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"cannot write to the home folder {home} ({error.strerror}); set RING_HOME to a folder of yours"
        ) from error
    if (free := shutil.disk_usage(home).free) < LEAST_FREE_BYTES:
        raise ValueError(
            f"the disk of the home folder {home} is full: {free:,} bytes are free, at least {LEAST_FREE_BYTES:,} are needed; "
            "free some, or set RING_HOME to a folder on another disk"
        )
    return home


def prepared_home() -> Path:
    """The home folder, with Prefect and MLflow told to write there, and the Prefect server chosen. Call before anything imports Prefect."""
    home = writable_home()
    use_home(home)
    choose_server(home)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    return home


def run_flow(place: str, parameters: Mapping[str, Any], *, home: Path, experiment: str) -> dict[str, Any]:
    """Call a flow, named as `flows.chain:full_chain`, with a Prefect server of its own where none is named; returns what it returns.

    `experiment` is that of its records.
    """
    from flows.serve import refusals_told, temporary_server

    say("starting Prefect's server, importing Prefect and MLflow ...")
    with temporary_server(home) as wait, refusals_told():
        with heavy_imports():  # Prefect reads its settings when it is imported
            from prefect.exceptions import TerminationSignal

            module, _, name = place.partition(":")
            flow = getattr(importlib.import_module(module), name)
            from flows.terminal import ACTIVE_DISPLAY, progress_display
            from stages.records.tracking import Tracker

        with waiting("opening the records", after_seconds=5.0):
            tracker = Tracker(home, experiment)  # MLflow's database is made, where there is none, beside the server's
        for note in tracker.notes:
            say(note)
        with waiting("waiting for Prefect's server, which makes its database in a new home folder", after_seconds=5.0):
            wait()
        with progress_display() as display:
            ACTIVE_DISPLAY.set(display)
            try:
                return flow(**parameters)
            except TerminationSignal as error:  # Prefect's own handler of SIGTERM, while a flow runs
                raise KeyboardInterrupt from error
