"""The chain of a recipe as data: which stage takes what, and the fingerprint of each, known before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.benchmarks import find_benchmark
from data.domain_names import own_domain_files
from data.sources.formats import problem_files
from ring_model.model_types import is_ours
from stages.config import (
    PACKAGED,
    STAGES,
    BaseConfig,
    CurationConfig,
    EvaluationConfig,
    ModelEvaluationConfig,
    Recipe,
    Record,
    RlArm,
    SelectionConfig,
    SftArm,
    SftConfig,
    StageName,
)
from stages.local_files import DATA_DIR, PROBLEMS, STANDINGS, TRAINED_ON, Place, places
from stages.records.artifact import (
    Manifest,
    Store,
    content_digest,
    file_digests,
    fingerprint,
    matching_files,
)
from stages.records.code_digest import code_digest, file_digest
from stages.training.checkpoints import planned_checkpoints

MODULES: dict[str, str] = {
    "curation": "stages.curation",
    "base": "stages.base",
    "sft": "stages.sft",
    "selection": "stages.selection",
    "rl": "stages.rl",
    "evaluation": "stages.evaluation.run",
    "report": "stages.report",
}
FURTHER_SFT = "stages.sft.further"  # an arm of kind `sft` is SFT from another start
ONE_MODEL = "stages.evaluation.one_model"  # an evaluation that belongs to no chain
CHECKPOINT, STRONGER = "checkpoint", "stronger"
MODEL = "model"  # data of an evaluation that belongs to no chain: the model's folder
_EVERY_FILE = "**/*"
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
class DataFolder:
    """A place outside the store that a stage reads: a folder, or one file of it. `files`: relative path -> sha256 of each that counts."""

    folder: Path
    files: dict[str, str]
    file: str | None = None  # where the place is one file

    @property
    def path(self) -> Path:
        """The folder or the file."""
        return self.folder / self.file if self.file else self.folder

    @property
    def content(self) -> str:
        """One sha256 over the names and sha256 of the files."""
        return content_digest({name: {"sha256": sha256} for name, sha256 in self.files.items()})


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage of a chain. `inputs` are keys of earlier stages, `data` folders by name; `key` is the stage, or `rl/<arm>`."""

    key: str
    stage: StageName
    arm: str | None
    module: str
    config: Record
    inputs: tuple[str, ...]
    ranks: int
    payload: dict[str, Any]
    fingerprint: str
    data: dict[str, DataFolder] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name for people: `curation`, `rl mixed`."""
        return self.key.replace("/", " ")


def plan_chain(recipe: Recipe, *, until: StageName | None = None, data_dir: Path | None = None) -> list[PlannedStage]:
    """Every stage up to `until`, in an order in which inputs come first.

    Raises ValueError for an end that the recipe does not reach, for an arm's start that SFT will not keep, and for files that are missing
    or cannot be read.
    """
    _require_starts(recipe)
    last = STAGES.index(until or recipe.until)
    if last >= STAGES.index("rl"):
        _require_engine(recipe)
    if recipe.rl is None and last >= STAGES.index("rl"):
        raise ValueError(
            f"recipe {recipe.name!r} has no [rl], so it cannot go until {until!r}; it can go until selection: "
            "choose an earlier stage, or add [rl] with [[rl.arms]]"
        )
    planned: dict[str, PlannedStage] = {}
    for stage in STAGES[: last + 1]:
        for arm in _arms(recipe, stage):
            spec = _plan_stage(recipe, stage, arm, planned, data_dir)
            planned[spec.key] = spec
    return list(planned.values())


def plan_model_evaluation(
    config: ModelEvaluationConfig,
    *,
    rows: Mapping[str, str],
    model: Path | None,
    data_dir: Path | None = None,
    trained_on: Path | None = None,
    problems: Place | None = None,
) -> PlannedStage:
    """The evaluation of one model on named benchmarks, whose only inputs come from outside the store or are sealed there already.

    `rows` are digests of the benchmarks' rows by name: of what else lies in `data_dir` the standings of contests alone decide anything.
    `model` is its folder, None for a server's, of which nothing but its address is known. `problems` is a file or folder of one's own,
    every row of which is asked.

    Raises ValueError for a folder that holds nothing.
    """
    data = {MODEL: _model_folder(model, what="model")} if model else {}
    if data_dir:
        data[DATA_DIR] = _data_dir(data_dir)
    if problems:
        data[PROBLEMS] = _problems(problems)
    data |= _standings(config, data_dir)
    if trained_on:
        data[TRAINED_ON] = DataFolder(trained_on, matching_files(trained_on, "*.parquet"))
    digests = {name: item.content for name, item in data.items() if name != DATA_DIR}
    payload = {
        "stage": "evaluation",
        "arm": None,
        "config": config.model_dump(mode="json"),
        "code": code_digest(ONE_MODEL),
        "inputs": digests | {f"benchmark/{name}": sha256 for name, sha256 in rows.items()},
        **_own_domains(),
    }
    return PlannedStage(
        key="evaluation",
        stage="evaluation",
        arm=None,
        module=ONE_MODEL,
        config=config,
        inputs=(),
        ranks=1,
        payload=payload,
        fingerprint=fingerprint(payload),
        data=data,
    )


def _own_domains() -> dict[str, Any]:
    """Digests of the domains of one's own, which every stage knows: prompts, vocabulary, verdicts. Nothing where there is none."""
    digests = {name: file_digest(path) for name, path in own_domain_files().items()}
    return {"domains": digests} if digests else {}


def _data_dir(folder: Path) -> DataFolder:
    files = problem_files(folder, what="--data-dir")
    return DataFolder(folder.absolute(), file_digests(files, below=folder))


def _standings(config: EvaluationConfig, data_dir: Path | None) -> dict[str, DataFolder]:
    """Those of the data folder, where it has any and a benchmark is rated by them."""
    folder = data_dir / STANDINGS if data_dir else None
    is_rated = any(find_benchmark(name).metric == "rating" for name in config.benchmarks)
    if folder is None or not is_rated or not folder.is_dir():
        return {}
    return {STANDINGS: DataFolder(folder.absolute(), matching_files(folder, "*.json"))}


def _require_starts(recipe: Recipe) -> None:
    kept = planned_checkpoints(recipe.sft.training)
    for arm in recipe.rl.arms if recipe.rl else ():
        if isinstance(arm, RlArm) and arm.start and arm.start not in kept:
            raise ValueError(
                f"rl.arms.{arm.name}.start = {arm.start!r}: SFT will keep {', '.join(kept)}; name one of them, or none for the chosen one"
            )


def _require_engine(recipe: Recipe) -> None:
    checkpoint = recipe.base.checkpoint
    if recipe.rl is None or recipe.rl.sampling.engine != "workers" or checkpoint is None:
        return
    if not any(isinstance(arm, RlArm) for arm in recipe.rl.arms):
        return
    if _is_another_architecture(Path(checkpoint)):
        raise ValueError(
            f"rl.sampling.engine = 'workers' draws from our own architecture alone, and base.checkpoint {checkpoint} holds another: "
            "set it to 'transformers', or to 'vllm'"
        )


def _is_another_architecture(folder: Path) -> bool:
    """Of a folder that holds a model; of others the base stage tells what is wrong."""
    try:
        return not is_ours(folder)
    except ValueError:
        return False


def _arms(recipe: Recipe, stage: StageName) -> list[str | None]:
    return [arm.name for arm in recipe.rl.arms] if stage == "rl" and recipe.rl else [None]


def _plan_stage(
    recipe: Recipe, stage: StageName, arm: str | None, planned: Mapping[str, PlannedStage], data_dir: Path | None
) -> PlannedStage:
    inputs = _INPUTS[stage] + (
        tuple(key for key in planned if key.startswith("rl/")) if stage in ("evaluation", "report") else ()
    )
    config, module = _config(recipe, stage, arm)
    data = data_folders(config, data_dir)
    digests = {key: planned[key].fingerprint for key in inputs} | {name: item.content for name, item in data.items()}
    payload = {
        "stage": stage,
        "arm": arm,
        "config": config.model_dump(mode="json"),
        "code": code_digest(module),
        "inputs": digests,
        **_own_domains(),
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
        data=data,
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


def data_folders(config: Record, data_dir: Path | None) -> dict[str, DataFolder]:
    """What a stage reads from outside the store, by the name it has in manifests.

    Names: `data-dir`, `source/<name>`, `<step>/embeddings`, `checkpoint`, `stronger`, `codeforces-standings`.

    Raises ValueError for a place that is missing or holds nothing to read, and for a file of problems whose first rows cannot be.
    """
    match config:
        case CurationConfig():
            return {place.key: _problems(place) for place in places(config, data_dir)} | _models(config)
        case BaseConfig() if config.checkpoint is not None:
            return {CHECKPOINT: _model_folder(Path(config.checkpoint), what="base.checkpoint")}
        case SelectionConfig() if config.stronger is not None:
            return {STRONGER: _model_folder(Path(config.stronger), what="selection.stronger")}
        case EvaluationConfig():
            return _standings(config, data_dir)
        case _:
            return {}


def _problems(place: Place) -> DataFolder:
    place.readings()  # a file that cannot be read is told before anything starts
    path = place.path.absolute()
    if path.is_dir():
        return DataFolder(folder=path, files=place.digests())
    return DataFolder(folder=path.parent, files=place.digests(), file=path.name)


def _models(config: CurationConfig) -> dict[str, DataFolder]:
    """Sentence models that are folders of the user's."""
    named = {"duplicates": config.duplicates.embeddings, "decontamination": config.decontamination.embeddings}
    return {
        f"{step}/embeddings": _model_folder(Path(model), what=f"curation.{step}.embeddings")
        for step, model in named.items()
        if model and model != PACKAGED
    }


def _model_folder(folder: Path, *, what: str) -> DataFolder:
    kind = "config.json, model*.safetensors and the tokenizer's files"
    if not folder.is_dir():
        raise ValueError(
            f"{what} {folder}: no such folder (looked for {folder.absolute()}); give one that holds {kind}"
        )
    files = matching_files(folder, _EVERY_FILE)
    if not files:
        raise ValueError(f"{what} {folder}: holds no file; it needs {kind}")
    return DataFolder(folder=folder.absolute(), files=files)


def input_contents(spec: PlannedStage, manifests: Mapping[str, Manifest]) -> dict[str, dict[str, str]]:
    """What a stage's manifest says of each input: its stage, fingerprint, content and seal; of a data folder its content."""
    known = {
        key: {
            "stage": manifests[key].stage,
            "fingerprint": manifests[key].fingerprint,
            "content": manifests[key].content,
            "seal": manifests[key].seal,
        }
        for key in spec.inputs
    }
    return known | {name: {"content": item.content} for name, item in spec.data.items()}


def up_to_date(spec: PlannedStage, *, store: Store) -> bool:
    """Whether the stage's result is there and was made from inputs with the bytes that stand there now."""
    manifest = store.find(spec.stage, spec.fingerprint)
    return manifest is not None and all(_input_holds(entry, store) for entry in manifest.inputs.values())


def damage_of(spec: PlannedStage, *, store: Store, reads_all: bool) -> str:
    """What does not hold of the bytes of the result that stands there; empty where all does, or there is none.

    Unless `reads_all`, files that have not changed since they were hashed are not read again.
    """
    return "; ".join(store.problems(spec.stage, spec.fingerprint, reads_all=reads_all)[:3])


def outdated(specs: Sequence[PlannedStage], *, store: Store) -> set[str]:
    """Keys of the stages whose result is not there, was made from other bytes, or follows from such a one."""
    found: set[str] = set()
    for spec in specs:  # inputs come first
        if found.intersection(spec.inputs) or not up_to_date(spec, store=store):
            found.add(spec.key)
    return found


def kept_results(specs: Sequence[PlannedStage], *, store: Store) -> dict[str, Manifest]:
    """By stage the results that a run would take as they stand, as far as manifests tell."""
    stale = outdated(specs, store=store)
    found = {spec.key: store.find(spec.stage, spec.fingerprint) for spec in specs if spec.key not in stale}
    return {key: manifest for key, manifest in found.items() if manifest}


def _input_holds(entry: Mapping[str, str], store: Store) -> bool:
    if "stage" not in entry:
        return True  # a data folder: its content is in the fingerprint
    current = store.find(entry["stage"], entry["fingerprint"])
    return current is not None and current.content == entry["content"]
