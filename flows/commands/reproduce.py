"""`ring reproduce`: make a result again in a clean folder and compare it byte for byte."""

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from flows.console import plain_console, program
from flows.launch import Display, job_of
from flows.tables import rows_table
from flows.terminal import progress_display
from flows.worker_process import Work, run_worker
from stages.plan import PlannedStage
from stages.records.artifact import Manifest, open_store
from stages.records.machine import kind_of, machine_kind
from stages.reproduction import (
    Agreement,
    agreement,
    differing_steps,
    planned_again,
    runtime_of,
    sealed_inputs,
    step_lines,
)
from stages.stage import STATE
from stages.training.ledger import STEPS
from stages.worker import RECORD

_MOST_FILES = 10
_MOST_METRICS = 12
_out = plain_console()


class _EnoughError(Exception):
    """The steps that were asked for are there."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a result is made again: a clean folder, and in it the result's own."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "result"


def reproduce(
    id_: Annotated[str, Parameter(name="ID")],
    *,
    steps: int | None = None,
    data_dir: Path | None = None,
    keep: Path | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Make a result again in a clean folder, from its sealed inputs and its manifest alone, and compare every byte.

    Exit code 0 where all bytes are the same, or where another kind of machine made it and every score lies in its interval; else 1.

    Parameters
    ----------
    id_
        The first characters of a fingerprint.
    steps
        Of SFT or an RL arm: only the first so many steps, compared line by line.
    data_dir
        The folder that curation read, where it read one.
    keep
        A new folder that the second result is moved to; without it, it is removed.
    json_
        Print one JSON object.

    """
    store = open_store()
    manifest = store.by_id(id_)
    _require_possible(manifest, steps=steps, keep=keep)
    spec = planned_again(manifest, data_dir=data_dir)
    inputs = sealed_inputs(spec, store=store)
    machines = {"made on": kind_of(manifest.document), "here": machine_kind(runtime_of(manifest).device)}
    with tempfile.TemporaryDirectory(prefix="ring-again-") as folder:
        place = _Place(Path(folder))
        _run(spec, manifest, inputs, place=place, steps=steps)
        told = _steps_told(manifest, place, steps=steps) if steps else _result_told(manifest, place)
        if keep:
            shutil.move(place.out, keep)
    document = {"fingerprint": manifest.fingerprint, **machines, **told}
    agrees = not document["differing"] or (
        machines["made on"] != machines["here"] and not document.get("outside", True)
    )
    if json_:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _show(document, is_other_machine=machines["made on"] != machines["here"])
    return 0 if agrees else 1


def _require_possible(manifest: Manifest, *, steps: int | None, keep: Path | None) -> None:
    if keep and keep.exists():
        raise ValueError(f"--keep {keep}: it is there already; name a new folder")
    if steps is None:
        return
    there = len(step_lines(manifest.folder))
    if not there:
        raise ValueError(
            f"--steps: {manifest.stage} {manifest.fingerprint[:12]} has no {STEPS}; only SFT and RL have steps"
        )
    if not 1 <= steps <= there:
        raise ValueError(f"--steps {steps}: {manifest.fingerprint[:12]} has {there}; give 1 to {there}")


def _run(
    spec: PlannedStage, manifest: Manifest, inputs: Mapping[str, Manifest], *, place: _Place, steps: int | None
) -> None:
    """Make the result, or as much of it as has the steps."""
    (place.out / STATE).mkdir(parents=True)
    runtime = runtime_of(manifest)
    job = job_of(spec, partial=place.out, inputs=inputs, runtime=runtime)
    work = Work(spec.title, "stages.worker", job, log=place.root / "log")

    def enough(_pid: int) -> None:
        if steps and len(step_lines(place.out)) >= steps:
            raise _EnoughError

    with contextlib.suppress(_EnoughError), progress_display() as display:
        display.message(spec.key, f"making {manifest.fingerprint[:12]} again; {_first_time(manifest, steps=steps)}")
        run_worker(work, tell=_teller(display, spec.key, steps=steps), meanwhile=enough)


def _first_time(manifest: Manifest, *, steps: int | None) -> str:
    seconds = manifest.document["seconds"]
    whole = f"the first time took {seconds:,.0f} s"
    return f"{whole} for {len(step_lines(manifest.folder)):,} steps" if steps else whole


def _teller(display: Display, key: str, *, steps: int | None) -> Callable[[Mapping[str, Any]], None]:
    """Progress as `ring run` shows it. Where so many steps are asked for, they are all; metrics are compared at the end."""

    def tell(event: Mapping[str, Any]) -> None:
        if event["event"] == "progress":
            total = min(steps, event["total"]) if steps and event["unit"] == "steps" else event["total"]
            done = min(event["done"], total)
            display.progress(key, done=done, total=total, unit=event["unit"], detail=event["detail"])
        elif event["event"] != "metrics":
            display.message(key, event["text"])

    return tell


# ---------------------------------------------------------------- what came out


def _result_told(manifest: Manifest, place: _Place) -> dict[str, Any]:
    record = json.loads((place.out / STATE / RECORD).read_text(encoding="utf-8"))
    found: Agreement = agreement(manifest, place.out, metrics=record["metrics"])
    told = {"compared": found.files, "unit": "files", "differing": list(found.differing)}
    told["metrics"] = [{"metric": name, "first": first, "second": second} for name, first, second in found.metrics]
    return told | ({"outside": list(found.outside)} if manifest.stage == "evaluation" else {})


def _steps_told(manifest: Manifest, place: _Place, *, steps: int) -> dict[str, Any]:
    differing = differing_steps(manifest.folder, place.out, steps=steps)
    return {"compared": steps, "unit": "steps", "differing": differing, "metrics": []}


def _show(document: Mapping[str, Any], *, is_other_machine: bool) -> None:
    compared, unit, differing = document["compared"], document["unit"], document["differing"]
    if not differing:
        _out.print(f"reproduced byte for byte: all {compared:,} {unit}", highlight=False)
        return
    first = ", ".join(map(str, differing[:_MOST_FILES]))
    more = f" and {len(differing) - _MOST_FILES} more" if len(differing) > _MOST_FILES else ""
    _out.print(f"{len(differing):,} of {compared:,} {unit} differ: {first}{more}", highlight=False, soft_wrap=True)
    if is_other_machine:
        kinds = f"it was made on {document['made on']}, this machine is {document['here']}"
        _out.print(f"Another kind of machine need not give the same bytes: {kinds}.", highlight=False, soft_wrap=True)
    if outside := document.get("outside"):
        _out.print(f"Scores outside the first intervals: {', '.join(outside)}", highlight=False, soft_wrap=True)
    elif "outside" in document:
        _out.print("Every score lies in the interval of the first.", highlight=False)
    if metrics := document["metrics"][:_MOST_METRICS]:
        _out.print(rows_table(metrics, title=f"Metrics that differ ({len(document['metrics'])})"), end="")
    if not is_other_machine:
        _out.print(
            f"The machine is of the same kind: `{program()} verify` says whether the first is whole.", highlight=False
        )
