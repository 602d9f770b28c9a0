"""`ring export`: a model as a folder to give away, with a card made from the records."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.console import near, plain_console, program, say, waiting
from flows.models import find_model
from stages.records.artifact import open_store

if TYPE_CHECKING:
    from flows.export.folder import Exported


def export(
    model: str,
    out: Path,
    *,
    name: str | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Write a model as a new folder to give away: weights, tokenizer, chat template, sampling, and a model card made from the records.

    Parameters
    ----------
    model
        As for `ring model info`.
    out
        The folder to make; one that is there already is refused.
    name
        The model's in its card; without it that of the folder.
    json_
        Print one JSON object instead of lines as `sha256sum` has them.

    """
    folder = find_model(model, store=open_store())
    with waiting("importing PyTorch, reading the records, copying and hashing the files"):
        from flows.export.folder import export_model

        exported = export_model(folder, out, name=name)
    files = [asdict(one) for one in exported.files]
    evaluations = [] if exported.records is None else [one.manifest.fingerprint for one in exported.records.evaluations]
    if json_:
        result = None if exported.records is None else exported.records.manifest.fingerprint
        document = {"folder": str(exported.folder), "result": result, "evaluations": evaluations, "files": files}
        sys.stdout.write(json.dumps(document) + "\n")
        return 0
    _show(exported)
    return 0


def _show(exported: "Exported") -> None:
    """Digests in the form that `sha256sum --check` reads, and what they say."""
    console = plain_console()
    for one in exported.files:
        console.print(f"{one.sha256}  {exported.folder / one.name}", soft_wrap=True, highlight=False)
    sealed = [one.name for one in exported.files if one.is_sealed]
    new = ", ".join(one.name for one in exported.files if not one.is_sealed)
    if exported.records is None:
        say("The folder lies in no result: its card says nothing of how it was made.")
    else:
        result = exported.records.manifest
        say(f"Byte for byte as sealed in {result.stage} {result.fingerprint[:8]}: {', '.join(sealed)}. New: {new}.")
        if not exported.records.evaluations:
            say("No evaluation has asked this model: its card has no scores.")
    say(f'Ask it: {program()} model ask {near(exported.folder)} "PROBLEM"')
