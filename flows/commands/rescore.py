"""`ring rescore`: judge the stored responses of a result again, without sampling, and show what changes."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Any

from cyclopts import Parameter

from data.domains import Judge
from flows.console import plain_console
from flows.tables import rows_table
from flows.terminal import progress_display
from stages.records.artifact import Manifest, Store, open_store
from stages.sampling.rescoring import (
    Rescored,
    Tally,
    judged_responses,
    policy_of,
    problem_folders,
    problems_of,
    requires_thinking,
    rescore,
    sample_files,
)

_SHOWN = 20  # changed responses in the terminal
_LONGEST = 60  # characters of an answer there


def rescore_result(
    id_: Annotated[str, Parameter(name="ID")],
    *,
    policy: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    domain: str | None = None,
    unsafe_local_execution: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Judge the stored responses of a result again, without sampling, and show each verdict that changes.

    Without another policy or domain the verdicts must be the stored ones: exit code 1 where one is not.

    Parameters
    ----------
    id_
        The first characters of the fingerprint of an evaluation, a selection or an RL arm (`ring ls` lists them).
    policy
        CHOICE=VALUE for a choice on which honest graders differ, as percent_has_value=true; may be given several times.
    domain
        Judge by the rules of this domain instead of each problem's own: math, code or science.
    unsafe_local_execution
        Run code without a sandbox. Only on a machine that can be thrown away.
    json_
        Print one JSON object: responses, scores, moves, and every changed response.

    """
    store = open_store()
    manifest = store.by_id(id_)
    judge = Judge(
        unsafe_local_execution=unsafe_local_execution,
        requires_thinking=requires_thinking(manifest.folder),
        policy=policy_of(policy),
    )
    with judge:
        tally = _rescored(manifest, store, judge=judge, domain=domain, is_shown=not json_)
    if json_:
        sys.stdout.write(json.dumps(_document(manifest, tally)) + "\n")
    else:
        _show(manifest, tally, is_same=not policy and domain is None)
    return 1 if tally.changed and not policy and domain is None else 0


def _rescored(manifest: Manifest, store: Store, *, judge: Judge, domain: str | None, is_shown: bool) -> Tally:
    files = sample_files(manifest.folder)
    if not files:
        raise ValueError(
            f"{manifest.fingerprint[:8]} is a result of the stage {manifest.stage} and keeps no response; "
            "give one of an evaluation, a selection or an arm of RL: `ring ls`"
        )
    total, tally = sum(map(judged_responses, files)), Tally()
    problems = problems_of(problem_folders(manifest, store))
    with progress_display() if is_shown else nullcontext() as display:
        for file in files:
            for batch in rescore(file, problems, judge=judge, domain=domain):
                tally.note(batch)
                if display is not None:
                    display.progress(
                        "rescore", done=tally.num_responses, total=total, unit="responses", detail=file.name
                    )
    return tally


def _document(manifest: Manifest, tally: Tally) -> dict[str, Any]:
    return {
        "id": manifest.fingerprint,
        "stage": manifest.stage,
        "responses": tally.num_responses,
        "scores": tally.scores(),
        "moves": tally.moves(),
        "changed": [_changed(one) for one in tally.changed],
    }


def _changed(one: Rescored) -> dict[str, Any]:
    return {
        "model": one.where,
        "problem": one.problem.id,
        "sample": one.row["sample"],
        "gold": one.problem.answer,
        "stored": {name: one.row[name] for name in one.again},
        "now": dict(one.again),
    }


def _show(manifest: Manifest, tally: Tally, *, is_same: bool) -> None:
    out = plain_console()
    title = f"{manifest.stage} {manifest.fingerprint[:8]}"
    if not tally.changed:
        rules = "the same rules" if is_same else "these rules"
        out.print(
            f"{title}: {tally.num_responses:,} responses judged again by {rules}; every verdict is the stored one",
            soft_wrap=True,
        )
        return
    out.print(f"{title}: {len(tally.changed):,} of {tally.num_responses:,} verdicts change\n", highlight=False)
    out.print(rows_table(tally.scores(), title="mean score of the judged responses"))
    out.print(rows_table(tally.moves(), title="verdicts", num_keys=2))
    out.print(rows_table(_rows(tally.changed[:_SHOWN]), title="changed responses"))
    if len(tally.changed) > _SHOWN:
        out.print(f"{len(tally.changed) - _SHOWN:,} more: --json has all", highlight=False)


def _rows(changed: Sequence[Rescored]) -> list[Mapping[str, Any]]:
    return [
        {
            "problem": one.problem.id,
            "model": one.where,
            "gold": one.problem.answer[:_LONGEST],
            "extracted": one.again["extracted"][:_LONGEST],
            "stored": one.row["status"],
            "now": one.again["status"],
        }
        for one in changed
    ]
