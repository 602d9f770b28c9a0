"""The chain of a recipe as data: which stage takes what, and the fingerprint of each, known before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.artifact import Manifest, Store, fingerprint, folder_content
from stages.code_digest import code_digest
from stages.config import STAGES, Recipe, Record, SftArm, SftConfig, StageName

MODULES: dict[str, str] = {
    "curation": "stages.curation",
    "base": "stages.base",
    "sft": "stages.sft",
    "selection": "stages.selection",
    "rl": "stages.rl",
    "evaluation": "stages.evaluation",
    "report": "stages.report",
}
FURTHER_SFT = "stages.sft.further"  # an arm of kind `sft` is SFT from another start
DATA_DIR = "data-dir"
_INPUTS: dict[str, tuple[str, ...]] = {
    "curation": (),
    "base": ("curation",),
    "sft": ("curation", "base"),
    "selection": ("curation", "sft"),
    "rl": ("curation", "sft", "selection"),
    "evaluation": ("curation", "sft", "selection"),
    "report": ("curation", "base", "sft", "selection", "evaluation"),
}


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage of a chain. `inputs` are keys of earlier stages; `key` is the stage, or `rl/<arm>`."""

    key: str
    stage: StageName
    arm: str | None
    module: str
    config: Record
    inputs: tuple[str, ...]
    ranks: int
    payload: dict[str, Any]
    fingerprint: str
    data_dir: Path | None = None

    @property
    def title(self) -> str:
        """Name for people: `curation`, `rl mixed`."""
        return self.key.replace("/", " ")


def plan_chain(recipe: Recipe, *, until: StageName | None = None, data_dir: Path | None = None) -> list[PlannedStage]:
    """Every stage up to `until`, in an order in which inputs come first.

    Raises ValueError for a data folder that is missing or holds no parquet file.
    """
    last = STAGES.index(until or recipe.until)
    planned: dict[str, PlannedStage] = {}
    for stage in STAGES[: last + 1]:
        for arm in _arms(recipe, stage):
            spec = _plan_stage(recipe, stage, arm, planned, data_dir if stage == "curation" else None)
            planned[spec.key] = spec
    return list(planned.values())


def _arms(recipe: Recipe, stage: StageName) -> list[str | None]:
    return [arm.name for arm in recipe.rl.arms] if stage == "rl" and recipe.rl else [None]


def _plan_stage(
    recipe: Recipe, stage: StageName, arm: str | None, planned: Mapping[str, PlannedStage], data_dir: Path | None
) -> PlannedStage:
    inputs = _INPUTS[stage] + (
        tuple(key for key in planned if key.startswith("rl/")) if stage in ("evaluation", "report") else ()
    )
    config, module = _config(recipe, stage, arm)
    digests = {key: planned[key].fingerprint for key in inputs}
    if data_dir is not None:
        digests[DATA_DIR] = data_folder_content(data_dir)
    payload = {
        "stage": stage,
        "arm": arm,
        "config": config.model_dump(mode="json"),
        "code": code_digest(module),
        "inputs": digests,
    }
    return PlannedStage(
        key=f"{stage}/{arm}" if arm else stage,
        stage=stage,
        arm=arm,
        module=module,
        config=config,
        inputs=inputs,
        ranks=_ranks(recipe, module),
        payload=payload,
        fingerprint=fingerprint(payload),
        data_dir=data_dir,
    )


def _config(recipe: Recipe, stage: StageName, arm: str | None) -> tuple[Record, str]:
    if stage != "rl" or recipe.rl is None:
        return getattr(recipe, stage), MODULES[stage]
    config = recipe.rl.for_arm(arm)
    chosen = config.arms[0]
    if isinstance(chosen, SftArm):
        return SftConfig(seed=config.seed, training=chosen.training), FURTHER_SFT
    return config, MODULES["rl"]


def _ranks(recipe: Recipe, module: str) -> int:
    runtime = recipe.runtime
    ranks = {MODULES["base"]: runtime.base_ranks, MODULES["sft"]: runtime.sft_ranks, FURTHER_SFT: runtime.sft_ranks}
    return {**ranks, MODULES["rl"]: runtime.rl_ranks}.get(module, 1)


def data_folder_content(folder: Path) -> str:
    """Content digest of a data folder's parquet files. Raises ValueError where there are none."""
    if not folder.is_dir():
        raise ValueError(
            f"--data-dir {folder}: no such folder; give one that holds *.parquet files in the schema of data/schema.py"
        )
    if not any(folder.glob("*.parquet")):
        raise ValueError(f"--data-dir {folder}: holds no *.parquet file; every parquet file in it is a source")
    return folder_content(folder, "*.parquet")


def input_contents(spec: PlannedStage, manifests: Mapping[str, Manifest]) -> dict[str, dict[str, str]]:
    """What a stage's manifest says of each input: its stage, fingerprint and content."""
    known = {
        key: {
            "stage": manifests[key].stage,
            "fingerprint": manifests[key].fingerprint,
            "content": manifests[key].content,
        }
        for key in spec.inputs
    }
    return known | ({DATA_DIR: {"content": spec.payload["inputs"][DATA_DIR]}} if spec.data_dir else {})


def up_to_date(spec: PlannedStage, *, store: Store) -> bool:
    """Whether the stage's result is there and was made from inputs with the bytes that stand there now."""
    manifest = store.find(spec.stage, spec.fingerprint)
    return manifest is not None and all(_input_holds(entry, store) for entry in manifest.inputs.values())


def _input_holds(entry: Mapping[str, str], store: Store) -> bool:
    if "stage" not in entry:
        return True  # a data folder: its content is in the fingerprint
    current = store.find(entry["stage"], entry["fingerprint"])
    return current is not None and current.content == entry["content"]
