"""What a person asks of one model, and the stage that answers it; a mistake is told before anything starts."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.benchmarks import find_benchmark
from data.benchmarks.loading import NotAvailableError, load_benchmark
from data.benchmarks.manifest import manifest_of
from data.benchmarks.own import columns_asked, load_own_set
from flows.models import find_model
from stages.config import ModelEvaluationConfig, Runtime
from stages.local_files import PROBLEMS, Place
from stages.plan import PlannedStage, plan_model_evaluation
from stages.recipe import load_recipe
from stages.records.artifact import Manifest, Store, open_store, read_manifest
from stages.sampling.address import Address, is_address
from stages.sampling.models import open_model

EXPERIMENT = "evaluate"  # of the records
_CURATION = "curation"


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What a person asks."""

    model: str  # an id of `ring ls`, a folder, or the address of a server
    benchmarks: tuple[str, ...]
    samples: int | None = None
    data_dir: Path | None = None
    recipe: str = EXPERIMENT
    overrides: tuple[str, ...] = ()
    another_version: bool = False
    rerun: bool = False
    problems: Path | None = None  # a file or folder of one's own
    columns: Mapping[str, str] = field(default_factory=dict)  # of it: ours -> theirs


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """A request, made definite: the stage, how it runs, and which benchmarks are not at hand, with the reason."""

    request: EvaluationRequest
    spec: PlannedStage
    runtime: Runtime
    absent: dict[str, str]


def request_of(**parameters: Any) -> EvaluationRequest:  # noqa: ANN401 - a flow's parameters, which are plain values
    """The parameters of the flow as a request."""
    return EvaluationRequest(
        parameters["model"],
        tuple(parameters["benchmarks"]),
        samples=parameters["samples"],
        data_dir=Path(parameters["data_dir"]) if parameters["data_dir"] else None,
        recipe=parameters["recipe"],
        overrides=tuple(parameters["overrides"] or ()),
        another_version=parameters["another_version"],
        rerun=parameters["rerun"],
        problems=Path(parameters["problems"]) if parameters["problems"] else None,
        columns=parameters["columns"] or {},
    )


def plan_evaluation(request: EvaluationRequest) -> EvaluationPlan:
    """Find the model and the benchmarks' rows.

    Raises ValueError for a model that is none, an unknown benchmark, changed rows, a file of one's own that cannot be asked, and where no
    benchmark is at hand.
    """
    if any(item.startswith("evaluation.samples_per_problem=") for item in request.overrides):
        raise ValueError("--set evaluation.samples_per_problem is for chains; --samples sets those of benchmarks")
    recipe = load_recipe(request.recipe, overrides=request.overrides).recipe
    own_place = _own_place(request)
    own_set = load_own_set(own_place.path, columns=request.columns) if own_place else None
    another_version = request.another_version or recipe.evaluation.another_version
    rows, absent = _rows(request, another_version=another_version)
    store = open_store()
    folder = None if is_address(request.model) else find_model(request.model, store=store).absolute()
    open_model(str(folder or request.model))
    asked = recipe.evaluation.model_dump()
    own = {
        "model": str(folder or request.model),
        "name": _name(request.model, folder),
        "benchmarks": tuple(rows),
        "benchmark_samples": {name: count for name, count in asked["benchmark_samples"].items() if name in rows},
        "samples": request.samples,
        "another_version": another_version,
        "problems": own_set.name if own_set else "",
        "columns": dict(request.columns),
    }
    config = ModelEvaluationConfig.model_validate({**asked, **own})
    spec = plan_model_evaluation(
        config,
        rows=rows,
        model=folder,
        data_dir=request.data_dir,
        trained_on=_curation_of(folder, store),
        problems=own_place,
    )
    return EvaluationPlan(request, spec, recipe.runtime, absent)


def _own_place(request: EvaluationRequest) -> Place | None:
    """The file or folder of one's own, which can be read."""
    if request.problems is None:
        if request.columns:
            raise ValueError(
                "--columns says how the file of --problems is read, and none was given: add --problems FILE"
            )
        return None
    place = Place(PROBLEMS, request.problems, columns_asked(request.columns))
    place.files()
    return place


def _rows(request: EvaluationRequest, *, another_version: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Digest of the rows of each benchmark that is at hand, and why each other one is not."""
    rows, absent = {}, {}
    for benchmark in dict.fromkeys(map(find_benchmark, request.benchmarks)):
        try:
            problems = load_benchmark(benchmark, data_dir=request.data_dir, another_version=another_version)
        except NotAvailableError as error:
            absent[benchmark.name] = str(error)
        else:
            rows[benchmark.name] = manifest_of(benchmark.name, problems).sha256
    if not rows and request.problems is None:
        raise ValueError("no benchmark is at hand: " + "; ".join(absent.values() or ["name one with --benchmarks"]))
    return rows, absent


def _name(text: str, folder: Path | None) -> str:
    """What results call a model: its arm or stage where it is one of ours, its folder's name, or the server's for it."""
    if folder is None:
        return Address.parse(text).model.replace("/", "-")
    manifest = _result_of(folder)
    if manifest is None:
        return folder.resolve().name
    return manifest.arm or (manifest.stage if folder.name == "model" else folder.name)


def _result_of(folder: Path) -> Manifest | None:
    """The sealed result that a model's folder lies in."""
    with contextlib.suppress(ValueError, OSError):
        return read_manifest(folder.resolve().parent)
    return None


def _curation_of(folder: Path | None, store: Store) -> Path | None:
    """The curation that a model of ours was made from; None where that is not known, or it is not in this home folder."""
    manifest = _result_of(folder) if folder else None
    while manifest is not None and manifest.stage != _CURATION:
        entry = manifest.inputs.get(_CURATION)
        if entry is None or "stage" not in entry:
            return None
        manifest = store.find(entry["stage"], entry["fingerprint"])
    return manifest.folder if manifest else None


def benchmark_names(text: Sequence[str]) -> tuple[str, ...]:
    """`math500,aime25`, or several of them, as names. Raises ValueError for an unknown one."""
    names = [name.strip() for part in text for name in part.split(",") if name.strip()]
    return tuple(find_benchmark(name).name for name in names)
