"""`ring runs`: every run in this home folder, also those that failed, were stopped or killed."""

import json
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from flows.console import near, plain_console, program
from flows.tables import rows_table
from stages.records.artifact import ring_home
from stages.records.run_ledger import LedgerError, RecordedRun, RunLedger, run_row, tries_in_words

_out = plain_console()


def list_runs(
    recipe: str | None = None, /, *, json_: Annotated[bool, Parameter(name="--json", negative="")] = False
) -> int:
    """List every run of this home folder, oldest first: when, what, how it ended, and how many tries of the same chain it makes.

    The ledger is written before a run begins. It is appended to alone, and each line holds the hash of the one before it.

    Parameters
    ----------
    recipe
        Only runs of this recipe.
    json_
        Print one JSON object, with the whole entries, instead of a table.

    """
    ledger = RunLedger(ring_home())
    runs = [run for run in ledger.runs() if recipe in (None, run.start["recipe"])]
    if json_:
        sys.stdout.write(json.dumps({"head": ledger.head(), "runs": [_document(run) for run in runs]}) + "\n")
    elif runs:
        _out.print(rows_table([run_row(run) for run in runs], title=f"Runs in {near(ledger.home)}"), end="")
        _out.print(
            f"Kept elsewhere, this shows that no run was cut off: {ledger.head()}", soft_wrap=True, highlight=False
        )
    else:
        of = f" of {recipe}" if recipe else ""
        _out.print(f"no run{of} is recorded in {near(ledger.home)}; `{program()} run` writes the first", soft_wrap=True)
    return 0


def tries_behind(run: str, ledger: RunLedger) -> str:
    """How many runs stand behind one; what is wrong with the ledger where it cannot say, which is no fault of this run."""
    try:
        return tries_in_words(ledger.runs(), run)
    except LedgerError as error:
        return f"unknown: {error}"


def _document(run: RecordedRun) -> dict[str, Any]:
    return {
        "run": run.run,
        "outcome": run.outcome,
        "try": run.tries,
        "start": dict(run.start),
        "end": run.end and dict(run.end),
    }
