"""`ring crosscheck`: lm-eval judges the stored responses of a result again, and what the two judges say is compared."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from flows.console import plain_console, waiting
from flows.tables import rows_table
from stages.evaluation.second_opinion import (
    TASKS,
    Opinion,
    agreement_rows,
    disagreements,
    library_version,
    second_opinions,
)
from stages.records.artifact import Manifest, Store, open_store
from stages.sampling.rescoring import Judged, judged_batches, problem_folders, problems_of, sample_files

_SHOWN = 20  # disagreements in the terminal
_LONGEST = 60  # characters of an answer there


def crosscheck(
    id_: Annotated[str, Parameter(name="ID")],
    *,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Let lm-eval judge the stored responses of a result again, without sampling, and show where it and our judge part.

    For MATH-500, AIME 2024, AIME 2025 and GSM8K. Needs the extra `crosscheck`.

    Parameters
    ----------
    id_
        The first characters of the fingerprint of a result that keeps responses (`ring ls` lists them).
    json_
        Print one JSON object: the tables of agreement, and every response that one side alone calls right.

    """
    version = library_version()
    store = open_store()
    manifest = store.by_id(id_)
    judged = _judged(manifest, store)
    with waiting(f"lm-eval {version} judges {len(judged):,} responses"):
        opinions = list(second_opinions(judged))
    document = {
        "id": manifest.fingerprint,
        "stage": manifest.stage,
        "library": f"lm-eval {version}",
        "agreement": agreement_rows(opinions),
        "disagreements": disagreements(opinions),
    }
    if json_:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _show(document, opinions)
    return 0


def _judged(manifest: Manifest, store: Store) -> list[Judged]:
    """Its responses to problems that lm-eval has a task for. Raises ValueError where there is none."""
    problems = problems_of(problem_folders(manifest, store))
    stored = [
        one
        for file in sample_files(manifest.folder)
        for batch in judged_batches(file, problems)
        for one in batch
        if one.problem.source in TASKS
    ]
    if not stored:
        raise ValueError(
            f"{manifest.fingerprint[:8]} is a result of the stage {manifest.stage} and keeps no response to a problem of "
            f"{', '.join(TASKS)}; evaluate a model on one of them: ring evaluate MODEL --benchmarks math500"
        )
    return stored


def _show(document: Mapping[str, Any], opinions: Sequence[Opinion]) -> None:
    out = plain_console()
    title = f"{document['stage']} {document['id'][:8]}, judged by us and by {document['library']}"
    out.print(rows_table(document["agreement"], title=title, num_keys=2))
    apart = document["disagreements"]
    if not apart:
        out.print(f"The two agree in all {len(opinions):,} verdicts.", highlight=False)
        return
    out.print(rows_table([_short(one) for one in apart[:_SHOWN]], title="one side alone calls it right", num_keys=2))
    if len(apart) > _SHOWN:
        out.print(f"{len(apart) - _SHOWN:,} more: --json has all", highlight=False)


def _short(one: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: one[name] for name in ("task", "problem", "sample", "gold", "extracted", "ours", "theirs", "reason")}
    return row | {name: row[name][:_LONGEST] for name in ("gold", "extracted", "reason")}
