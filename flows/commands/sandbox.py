"""`ring sandbox check`: what the sandbox stops on this machine, tried for real on every rung."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import App, Parameter

from data.sandbox import RUNGS, Probe, Rehearsal, Sandbox, SandboxError, rehearse
from flows.console import plain_console, waiting
from flows.tables import rows_table

app = App(name="sandbox", help="Where answers that are code run.")


@app.command
def check(*, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """Try to get out of every rung of the sandbox and print what happened; judging uses the first rung that holds.

    Exit code 1 if something gets out of a rung that starts, or no rung works. Takes about half a minute.

    Parameters
    ----------
    json_
        Print one JSON object instead of a table.

    """
    with waiting("trying to get out of every rung of the sandbox, about half a minute"):
        rehearsals = rehearse()
    used = next((rehearsal.rung for rehearsal in rehearsals if rehearsal.works), None)
    if json_:
        sys.stdout.write(json.dumps(_document(rehearsals, used=used)) + "\n")
    else:
        _show(rehearsals, used=used)
    leaks = any(not probe.stopped for rehearsal in rehearsals for probe in rehearsal.probes)
    return 1 if leaks or used is None else 0


def _document(rehearsals: list[Rehearsal], *, used: str | None) -> dict[str, Any]:
    rungs = [{**asdict(rehearsal), "works": rehearsal.works} for rehearsal in rehearsals]
    return {"rung": used, "why_no_cpp": _why_no_cpp(used), "rungs": rungs}


def _why_no_cpp(used: str | None) -> str:
    """Empty where C++ can be judged."""
    if used is None:
        return "no rung works"
    with Sandbox(rung=used) as sandbox:
        try:
            sandbox.require_compiler()
        except SandboxError as error:
            return str(error)
    return ""


def _show(rehearsals: list[Rehearsal], *, used: str | None) -> None:
    console = plain_console()
    started = [rehearsal for rehearsal in rehearsals if rehearsal.probes]
    if started:
        console.print(rows_table([*probe_rows(started)], title=""))
        console.print(f"{_GOOD} {GOT_OUT}: it is not stopped. The last line must say {RUNS!r}.\n", highlight=False)
    for rehearsal in rehearsals:
        state = (
            "holds" if rehearsal.works else f"does not work here: {rehearsal.why_not}" if rehearsal.why_not else "LEAKS"
        )
        what = f"rung {rehearsal.rung} ({RUNGS[rehearsal.rung].what}): {state}"
        console.print(what, highlight=False, soft_wrap=True)
    console.print(f"used: {f'rung {used}' if used else 'none, code is not judged on this machine'}", highlight=False)
    console.print(f"C++: {_why_no_cpp(used) or 'compiled and judged'}", highlight=False, soft_wrap=True)


GOT_OUT, RUNS = "GOT OUT", "runs"
_GOOD = "Refused, absent and killed are good: the attempt was stopped."
_WORDS = {  # how an attempt ended that was stopped, by exception or status
    "PermissionError": "refused",
    "OSError": "refused",
    "BlockingIOError": "refused",
    "FileNotFoundError": "absent",
    "KeyError": "absent",
    "memory": "killed",
    "output": "killed",
    "timeout": "killed",
    "ok": RUNS,
}


def probe_rows(rehearsals: Sequence[Rehearsal]) -> Iterator[dict[str, str]]:
    """A row an attempt, a column a rung, in words."""
    for probes in zip(*(rehearsal.probes for rehearsal in rehearsals), strict=True):
        yield {"attempt": probes[0].probe, **{probe.rung: _word(probe) for probe in probes}}


def _word(probe: Probe) -> str:
    return _WORDS.get(probe.detail, f"stopped: {probe.detail}") if probe.stopped else GOT_OUT
