"""`ring bundle`: a finished chain as one folder to publish, which a stranger checks with Python alone."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.bundle.building import Made, make_bundle
from flows.console import near, plain_console, waiting
from stages.records.artifact import ring_home

_out = plain_console()


def bundle(
    chain: str,
    out: Path,
    *,
    sign: Path | None = None,
    slim: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Put a finished chain in one folder: results, code, records, report, and a check that needs Python alone (docs/bundle.md).

    Parameters
    ----------
    chain
        The id that `ring run --json` prints as `chain`, its first characters, or `latest`: the finished run of a recipe in this home folder
        that began last.
    out
        The folder to make; it must not be there.
    sign
        File of a private key of an elliptic curve (PEM): sign the folder. Needs the extra `attest`.
    slim
        Leave weights and rollouts out; their digests stay, and the root digest is the same.
    json_
        Print one JSON object.

    """
    with waiting("reading the results and their records, and hashing every file"):
        made = make_bundle(chain, out, home=ring_home(), key=sign, is_slim=slim)
    if json_:
        sys.stdout.write(json.dumps(_document(made)) + "\n")
    else:
        for line in _lines(made):
            _out.print(line, highlight=False, soft_wrap=True)
    return 0


def _document(made: Made) -> dict[str, object]:
    return {
        "bundle": str(made.folder.absolute()),
        "chain": made.chain,
        "root": made.root,
        "files": made.num_files,
        "bytes": made.num_bytes,
        "left_out": made.num_left_out,
        "source": {"commit": made.source.commit, "gives": made.source.gives},
        "notes": list(made.notes),
    }


def _lines(made: Made) -> list[str]:
    left_out = f", {made.num_left_out} files of weights and rollouts left out" if made.num_left_out else ""
    return [
        f"{near(made.folder)}: {made.num_files} files, {made.num_bytes / 1e6:.1f} MB{left_out}",
        *(f"note: {note}" for note in made.notes),
        f"root {made.root}",
        f"Keep the root digest elsewhere. To check: python3 {near(made.folder)}/check.py --root {made.root[:8]}...",
    ]
