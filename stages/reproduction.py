"""To make a result again from what its manifest says, and to say how far the second one agrees with the first.

Bytes agree on machines of one kind (`records.machine`). On another kind they need not; there a number of the evaluation agrees where it
lies in the first one's interval.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.config import STAGES, Runtime
from stages.plan import FURTHER_SFT, MODULES, ONE_MODEL, PlannedStage, data_folders
from stages.records.artifact import Manifest, Store, file_digests
from stages.records.code_digest import code_digest
from stages.stage import STATE
from stages.training.ledger import STEPS
from stages.worker import CONFIGS

TABLES = "tables.json"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a second result compares with the sealed one. Numbers are (name, first, second)."""

    files: int  # that were compared
    differing: tuple[str, ...]  # files with other bytes, and files that one of the two lacks
    metrics: tuple[tuple[str, float, float], ...]  # that differ
    outside: tuple[str, ...]  # scores of the second that lie outside the first one's interval

    @property
    def is_exact(self) -> bool:
        """Whether every byte is the same."""
        return not self.differing


def planned_again(manifest: Manifest, *, data_dir: Path | None) -> PlannedStage:
    """The stage that made a result, from its manifest. Raises ValueError where the code or the data outside the store is another."""
    payload = manifest.document["payload"]
    module = _module(payload)
    if module == ONE_MODEL:
        raise ValueError("an evaluation of one model is made again by `ring evaluate ... --rerun`")
    _require_same_code(manifest, module)
    config = CONFIGS[module].model_validate(payload["config"])
    data = data_folders(config, data_dir)
    for name, digest in payload["inputs"].items():
        if "stage" not in manifest.inputs[name] and (name not in data or data[name].content != digest):
            raise ValueError(
                f"{name} is not there with the bytes that {manifest.fingerprint[:12]} was made from: give its folder as --data-dir"
            )
    return PlannedStage(
        key=f"{manifest.stage}/{payload['arm']}" if payload["arm"] else manifest.stage,
        stage=next(stage for stage in STAGES if stage == manifest.stage),
        arm=payload["arm"],
        module=module,
        config=config,
        inputs=tuple(name for name in payload["inputs"] if name not in data),
        ranks=manifest.document["ranks"],
        payload=payload,
        fingerprint=manifest.fingerprint,
        data=data,
    )


def sealed_inputs(spec: PlannedStage, *, store: Store) -> dict[str, Manifest]:
    """The results that a stage takes, every byte of them as sealed. Raises ValueError for one that is gone or damaged."""
    found = {}
    for key in spec.inputs:
        stage, fingerprint = key.split("/")[0], spec.payload["inputs"][key]
        manifest = store.find(stage, fingerprint)
        problems = store.problems(stage, fingerprint, reads_all=True) if manifest else ["it is gone"]
        if manifest is None or problems:
            raise ValueError(f"its input {key} {fingerprint[:12]} cannot be used: {problems[0]}")
        found[key] = manifest
    return found


def runtime_of(manifest: Manifest) -> Runtime:
    """How the stage was executed, without the cluster that may have helped."""
    return Runtime.model_validate({**manifest.document["runtime"], "dask_address": ""})


def _module(payload: Mapping[str, Any]) -> str:
    if payload["stage"] == "rl" and "training" in payload["config"]:
        return FURTHER_SFT
    if payload["stage"] == "evaluation" and "curation" not in payload["inputs"]:
        return ONE_MODEL
    return MODULES[payload["stage"]]


def _require_same_code(manifest: Manifest, module: str) -> None:
    if code_digest(module) != manifest.document["payload"]["code"]:
        code = manifest.document["code"]
        changed = ", with changes that were not committed" if code["dirty"] else ""
        raise ValueError(
            f"{manifest.fingerprint[:12]} was made by other code than stands here: by commit {code['commit'] or 'unknown'}{changed}. "
            "Check that commit out beside this one (git worktree add), and run the command there with the same RING_HOME"
        )


# ---------------------------------------------------------------- comparison


def agreement(first: Manifest, second: Path, *, metrics: Mapping[str, float]) -> Agreement:
    """Of a sealed result and a folder in which it was made again, with the metrics that came out."""
    sealed = {name: entry["sha256"] for name, entry in first.document["files"].items()}
    made = file_digests(_files(second), below=second)
    differing = sorted(name for name in sealed.keys() | made.keys() if sealed.get(name) != made.get(name))
    names = sorted(first.metrics.keys() & metrics.keys())
    changed = tuple(
        (name, first.metrics[name], metrics[name]) for name in names if first.metrics[name] != metrics[name]
    )
    return Agreement(len(sealed.keys() | made.keys()), tuple(differing), changed, tuple(_outside(first.folder, second)))


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.relative_to(folder).parts[0] != STATE]


def _outside(first: Path, second: Path) -> list[str]:
    """Scores of the evaluation that left the interval of the first."""
    if not (first / "results.json").exists():
        return []
    before, after = (json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in (first, second))
    return [name for name, one in before.items() if not one["low"] <= after[name]["value"] <= one["high"]]


def differing_steps(first: Path, second: Path, *, steps: int) -> list[int]:
    """Of the first `steps` lines of steps.jsonl, those that are not the same bytes, from 1. Raises ValueError where the first has fewer."""
    before, after = step_lines(first), step_lines(second)
    if len(before) < steps:
        raise ValueError(f"the result has {len(before)} steps, fewer than {steps}")
    return [number for number in range(1, steps + 1) if before[number - 1] != after[number - 1]]


def step_lines(folder: Path) -> Sequence[bytes]:
    """The whole lines of steps.jsonl; none where it is not there."""
    path = folder / STEPS
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []
