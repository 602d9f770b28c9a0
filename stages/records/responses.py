"""Stored responses by a name that one can type: which there are, and everything that is known of one.

A name is `<result>/<step>/<group>/<sample>` for a rollout of RL, and `<result>/<model>/<problem>/<sample>` for an answer of an evaluation
or a selection, where the sample is `greedy` or its number, the model of a selection is a checkpoint or `graded`, and the result the first
characters of its fingerprint.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data.schema import PROBLEM_COLUMNS
from stages.curation.audit import Fate, fates
from stages.records.artifact import Manifest, Store, root_digest
from stages.records.code_digest import module_digests
from stages.records.rollouts import rollout_steps
from stages.stage import ROLLOUTS, step_file

GREEDY = "greedy"
GRADED = "graded"
_GREEDY_SAMPLE = -1
_TOKENS = ("prompt_ids", "token_ids", "logprobs", "token_versions", "reference_logprobs")
_FILES: dict[
    str, dict[str, str]
] = {  # stage -> file with its responses -> column that names the model; "" where it has none
    "evaluation": {"samples.parquet": "model"},
    "selection": {"probe.parquet": "checkpoint", "graded_samples.parquet": ""},
}
_JUDGE = re.compile(r"data\.(domains|sandbox)(\.|\Z)")


@dataclass(frozen=True, slots=True)
class Response:
    """A stored response, the problem, and what became of the problem in curation."""

    id: str
    manifest: Manifest  # of the result that holds it
    file: str
    model: str  # whose it is
    row: Mapping[str, Any]  # its columns, without those of a number a token
    problem: Mapping[str, Any]  # columns of PROBLEM_SCHEMA; empty where the problem is not to be had
    curation: Manifest | None
    fates: tuple[Fate, ...]  # of rows with the problem's id; empty for a benchmark's that no curation saw


def rollout_id(fingerprint: str, row: Mapping[str, Any]) -> str:
    """Name of a row of ROLLOUT_SCHEMA."""
    return f"{fingerprint[:8]}/{row['step']}/{row['group']}/{row['sample']}"


def sample_id(fingerprint: str, *, model: str, problem_id: str, sample: int) -> str:
    """Name of a row of SAMPLE_SCHEMA."""
    return f"{fingerprint[:8]}/{model}/{problem_id}/{GREEDY if sample == _GREEDY_SAMPLE else sample}"


def is_response_id(text: str, store: Store) -> bool:
    """Whether a text has the form of one, of a result that is here."""
    prefix, *rest = text.split("/")
    is_id = re.fullmatch(r"[0-9a-f]{4,32}", prefix) and len(rest) >= 3 and re.fullmatch(rf"\d+|{GREEDY}", rest[-1])
    return bool(is_id) and any(folder.name.startswith(prefix) for folder in store.folders())


def find_response(text: str, store: Store) -> Response:
    """Raises ValueError where there is none of this name; it says what the name wants."""
    prefix, *parts = text.split("/")
    if len(parts) < 3:
        raise ValueError(
            f"{text!r} names no response: give RESULT/STEP/GROUP/SAMPLE of an RL arm (`ring rollouts` shows them), or "
            "RESULT/MODEL/PROBLEM/SAMPLE of an evaluation or a selection, where SAMPLE is `greedy` or a number"
        )
    manifest = store.by_id(prefix)
    file, model, row = (
        _rollout(manifest, parts) if rollout_steps(manifest.folder_of_responses) else _sample(manifest, parts)
    )
    curation = _curation(manifest, store)
    problem_id = row["problem_id"]
    found = tuple(fates(curation.folder, problem_id)) if curation else ()
    problem = found[0].row if found else _own_problem(manifest, problem_id)
    return Response(text, manifest, file, model, row, problem, curation, found)


def _rollout(manifest: Manifest, parts: list[str]) -> tuple[str, str, dict[str, Any]]:
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"{'/'.join(parts)!r} is no STEP/GROUP/SAMPLE of the arm {manifest.arm}")
    step, group, sample = map(int, parts)
    steps = rollout_steps(manifest.folder_of_responses)
    if step not in steps:
        raise ValueError(f"no step {step}; the arm {manifest.arm} has the steps {steps[0]} to {steps[-1]}")
    file = f"{ROLLOUTS}/{step_file(step)}"
    rows = _rows(manifest.folder / file, {"group": group, "sample": sample})
    if not rows:
        raise ValueError(f"step {step} has no sample {sample} of a group {group}")
    return file, str(manifest.arm), rows[0]


def _sample(manifest: Manifest, parts: list[str]) -> tuple[str, str, dict[str, Any]]:
    model, problem_id, last = parts[0], "/".join(parts[1:-1]), parts[-1]
    sample = _GREEDY_SAMPLE if last == GREEDY else int(last) if last.isdecimal() else None
    files = _FILES.get(manifest.stage)
    if files is None or sample is None:
        raise ValueError(
            f"a result of the stage {manifest.stage} holds no response {'/'.join(parts)!r}; evaluations, selections and arms hold some"
        )
    for file, column in files.items():
        if not column and model != GRADED:
            continue
        rows = _rows(
            manifest.folder / file, {"problem_id": problem_id, "sample": sample} | ({column: model} if column else {})
        )
        if rows:
            return file, model, rows[0]
    raise ValueError(
        f"{manifest.stage} {manifest.fingerprint[:8]} has no response of {model!r} to {problem_id!r}, sample {last}"
    )


def _rows(path: Path, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = [name for name in pq.read_schema(path).names if name not in _TOKENS]
    return pq.read_table(
        path, columns=columns, filters=[(name, "=", value) for name, value in values.items()]
    ).to_pylist()


def _curation(manifest: Manifest, store: Store) -> Manifest | None:
    """The curation that it was made from, with the bytes that were read."""
    entry = manifest.inputs.get("curation")
    found = store.find(entry["stage"], entry["fingerprint"]) if entry else None
    return found if found and entry and found.content == entry["content"] else None


def _own_problem(manifest: Manifest, problem_id: str) -> dict[str, Any]:
    path = manifest.folder / "problems.parquet"  # of an evaluation that belongs to no chain
    rows = _rows(path, {"id": problem_id}) if path.is_file() else []
    return {name: rows[0][name] for name in PROBLEM_COLUMNS} if rows else {}


def judge_version(manifest: Manifest) -> dict[str, str]:
    """By what a result's verdicts were made: digest of the stage's code, commit, digest over the judge's own modules, math-verify."""
    document, judge = manifest.document, _judge_modules(manifest)
    return {
        "code": document["payload"]["code"],
        "commit": (document["code"]["commit"] or "") + (" with changes" if document["code"]["dirty"] else ""),
        "judge": root_digest(judge) if judge else "",
        "math-verify": document.get("packages", {}).get("math-verify", ""),
    }


def _judge_modules(manifest: Manifest) -> dict[str, str]:
    return {name: sha256 for name, sha256 in manifest.document.get("modules", {}).items() if _JUDGE.match(name)}


def is_judge_here(manifest: Manifest) -> bool:
    """Whether every module of the judge that gave a result's verdicts stands here as it was."""
    here = module_digests("data.domains") | module_digests("data.sandbox")
    return all(here.get(name) == sha256 for name, sha256 in _judge_modules(manifest).items())


def passed_steps(curation: Manifest, fate: Fate) -> list[str]:
    """The steps of curation that let a row through, in order; of a dropped one those before the step that dropped it."""
    steps = [row["step"] for row in curation.tables().get("funnel", ())]
    last = fate.why.get("step")
    return steps[: steps.index(last)] if last in steps else steps


def as_json(response: Response) -> dict[str, Any]:
    """Everything, as one object; NaN as null."""
    curation = response.curation
    return json.loads(
        json.dumps(
            {
                "id": response.id,
                "result": {
                    "stage": response.manifest.stage,
                    "arm": response.manifest.arm,
                    "fingerprint": response.manifest.fingerprint,
                },
                "file": {"name": response.file, **response.manifest.document["files"][response.file]},
                "model": response.model,
                "response": {name: None if value != value else value for name, value in response.row.items()},
                "problem": dict(response.problem),
                "judged_by": judge_version(response.manifest),
                "curation": None
                if curation is None
                else {
                    "fingerprint": curation.fingerprint,
                    "rows": [
                        {
                            "outcome": fate.outcome,
                            "passed": passed_steps(curation, fate),
                            "dropped": fate.why,
                            "stands_for": fate.copies,
                        }
                        for fate in response.fates
                    ],
                },
            }
        )
    )
