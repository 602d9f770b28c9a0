"""What the experiment records say of results, compared with the manifests: a record changed afterwards is found. Reads alone.

MLflow shows what the manifests hold and is no evidence itself. Compared are, of every run that made a result, its status, tags, final
metrics, parameters, and the metrics of each step with steps.jsonl; of every chain its scores over all problems and its page. Every other
score, and the ends of the intervals, are in the evaluation's own run.
"""

import ast
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.records.artifact import Manifest, Store, file_digest
from stages.records.tracking import MlflowClient, Run, find_run, metric_name, reading_client, recorded_metrics
from stages.results import chain_metrics
from stages.training.ledger import STEPS, steps_of

_LARGEST = 1.7976931348623157e308  # what MLflow keeps for an infinity
_LONGEST_VALUE = 6000  # characters of a parameter
_PARENT = "mlflow.parentRunId"
_CACHED = "ring.cached."
_REPORT = "report.html"
_MOST = 5  # lines a run


@dataclass(frozen=True, slots=True)
class Checked:
    """What was compared, and what does not hold."""

    num_runs: int  # of stages
    num_chains: int
    problems: Mapping[str, tuple[str, ...]]  # `<stage>/<fingerprint>` or `chain/<run id>` -> lines
    notes: tuple[str, ...] = ()


def check_records(manifests: Sequence[Manifest], store: Store) -> Checked:
    """Compare the records of a home folder with its results. Raises TrackingError where they cannot be read."""
    client = reading_client(store.home)
    if client is None:
        return Checked(0, 0, {}, ("there are no experiment records here to compare with",))
    known = [one for one in manifests if store.remote is None or find_run(client, one.document["mlflow_run_id"])]
    elsewhere = len(manifests) - len(known)
    told = f"{elsewhere} results were recorded where another machine keeps its records: not compared with these"
    found = {f"{one.stage}/{one.fingerprint}": tuple(_first([*_run_problems(client, one)])) for one in known}
    chains = [*_chains(client, store)]
    of_chains = {f"chain/{one.run.info.run_id}": tuple(_first([*_chain_problems(one, store)])) for one in chains}
    problems = {name: lines for name, lines in (found | of_chains).items() if lines}
    return Checked(len(found), len(chains), problems, (told,) if elsewhere else ())


def _first(lines: list[str]) -> list[str]:
    more = [f"records: {len(lines) - _MOST} more differ"] if len(lines) > _MOST else []
    return [f"records: {line}" for line in lines[:_MOST]] + more


# ---------------------------------------------------------------- the run of a stage


def _run_problems(client: MlflowClient, manifest: Manifest) -> Iterator[str]:
    document = manifest.document
    run_id = document["mlflow_run_id"]
    run = find_run(client, run_id)
    if run is None or run.info.lifecycle_stage != "active":
        yield f"MLflow's run {run_id[:8]}, which made it, {'is not there' if run is None else 'was deleted'}"
        return
    if run.info.status != "FINISHED":
        yield f"MLflow's run {run_id[:8]} has the status {run.info.status}"
    tags = {"ring.stage": manifest.stage, "ring.arm": manifest.arm or "", "ring.fingerprint": manifest.fingerprint}
    for name, value in tags.items():
        if run.data.tags.get(name) != value:
            yield f"the tag {name} is {run.data.tags.get(name)!r}, the manifest says {value!r}"
    yield from _metric_problems(run, _stated(run, manifest))
    yield from _parameter_problems(run.data.params, document["payload"]["config"], key=manifest.stage)
    if STEPS in document["files"] and (manifest.folder / STEPS).is_file():
        yield from _step_problems(client, run, steps_of(manifest.folder))


def _stated(run: Run, manifest: Manifest) -> dict[str, float]:
    """Records that hold no interval in the evaluation's run are older: they have all of them in the chain's."""
    final = recorded_metrics(manifest)
    ends = {name for name in final.keys() - manifest.metrics.keys() if name.endswith(("/low", "/high"))}
    is_older = not any(metric_name(name) in run.data.metrics for name in ends)
    return {name: value for name, value in final.items() if not (is_older and name in ends)}


def _metric_problems(run: Run, stated: Mapping[str, float]) -> Iterator[str]:
    for name, value in stated.items():
        recorded = run.data.metrics.get(metric_name(name))
        if recorded is None:
            yield f"the metric {name} is not there, the manifest says {value:.6g}"
        elif not _same(recorded, value):
            yield f"the metric {name} is {recorded:.6g}, the manifest says {value:.6g}"


def _same(recorded: float, stated: float) -> bool:
    if math.isnan(stated):
        return math.isnan(recorded)
    return recorded == (math.copysign(_LARGEST, stated) if math.isinf(stated) else stated)


def _parameter_problems(recorded: Mapping[str, str], value: Any, *, key: str) -> Iterator[str]:  # noqa: ANN401 - a JSON value
    """A table is recorded by its values where it is a record, whole where it is one value: the records tell which."""
    if key in recorded:
        if not _means(recorded[key], value):
            yield f"the parameter {key} is {recorded[key][:60]!r}, the manifest says {str(value)[:60]!r}"
    elif isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _parameter_problems(recorded, item, key=f"{key}.{name}")
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _parameter_problems(recorded, item, key=f"{key}.{index}")
    else:
        yield f"the parameter {key} is not there"


def _means(recorded: str, value: Any) -> bool:  # noqa: ANN401 - a JSON value
    """Whether a recorded text is that of a value: JSON knows no tuples, no numbers as keys, and a configuration takes 0 for 0.0."""
    values = [_frozen(value, has_numbers=has_numbers) for has_numbers in (False, True)]
    if recorded in [str(one)[:_LONGEST_VALUE] for one in values]:
        return True
    try:
        return ast.literal_eval(recorded) in values and not isinstance(value, str | bool)
    except (ValueError, SyntaxError):  # a text
        return False


def _frozen(value: Any, *, has_numbers: bool) -> Any:  # noqa: ANN401 - a JSON value
    """Lists as the tuples that a configuration holds; keys that JSON made texts as the numbers that they may have been."""
    if isinstance(value, list):
        return tuple(_frozen(item, has_numbers=has_numbers) for item in value)
    if not isinstance(value, dict):
        return value
    items = {key: _frozen(item, has_numbers=has_numbers) for key, item in value.items()}
    return {int(key) if has_numbers and key.isdecimal() else key: item for key, item in items.items()}


def _step_problems(client: MlflowClient, run: Run, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A point that a step should have left, and did not. An attempt that was rolled back leaves points of its own."""
    stated: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.items():
            if "/" in name and isinstance(value, int | float):
                stated.setdefault(name, {})[row["step"]] = float(value)
    for name, points in stated.items():
        if metric_name(name) not in run.data.metrics:
            yield f"the metric {name} of {len(points)} steps is not there"
            continue
        history: dict[int, list[float]] = {}
        for point in client.get_metric_history(run.info.run_id, metric_name(name)):
            history.setdefault(point.step, []).append(point.value)
        for step, value in points.items():
            if not any(_same(recorded, value) for recorded in history.get(step, ())):
                yield f"the metric {name} of step {step} is {history.get(step, ['none'])[-1]}, {STEPS} says {value:.6g}"
                break


# ---------------------------------------------------------------- the run of a chain


@dataclass(frozen=True, slots=True)
class Chain:
    """A finished chain by its records."""

    run: Run
    made: Mapping[
        str, Manifest
    ]  # by stage, or `rl/<arm>`, as the results stood when it ended; those that are gone are left out


def _chains(client: MlflowClient, store: Store) -> Iterator[Chain]:
    """Those of which results are here, oldest first: a server may keep the records of other homes, too."""
    experiments = client.search_experiments(filter_string="name LIKE 'ring/%'", max_results=1000)
    ids = [one.experiment_id for one in experiments]
    runs = client.search_runs(ids, "attributes.status = 'FINISHED'", max_results=10_000) if ids else []
    by_run = _by_run(store)
    for run in sorted(runs, key=lambda run: run.info.start_time):
        if _PARENT not in run.data.tags:
            stages = _stage_runs(run, runs)
            made = {key: by_run[run_id] for key, run_id in stages.items() if run_id in by_run}
            if made:
                yield Chain(run, made)


def _stage_runs(chain: Run, runs: Iterable[Run]) -> dict[str, str]:
    """Stage, or `rl/<arm>`, -> id of the run that made the result which a chain made or took as it stood."""
    cached = {
        name.removeprefix(_CACHED): json.loads(value)["run_id"]
        for name, value in chain.data.tags.items()
        if name.startswith(_CACHED)
    }
    children = [run for run in runs if run.data.tags.get(_PARENT) == chain.info.run_id]
    return cached | {_key(child.data.tags): child.info.run_id for child in children}


def _key(tags: Mapping[str, str]) -> str:
    return f"{tags.get('ring.stage')}/{tags['ring.arm']}" if tags.get("ring.arm") else tags.get("ring.stage", "")


def find_chain(name: str, store: Store) -> Chain:
    """A chain by what `ring run --json` prints as `chain`, or its first characters, or `latest`. Raises ValueError for none or several."""
    client = reading_client(store.home)
    chains = [*_chains(client, store)] if client is not None else []
    found = chains[-1:] if name == "latest" else [one for one in chains if one.run.info.run_id.startswith(name)]
    if len(found) != 1:
        known = ", ".join(f"{one.run.info.run_id[:8]} ({one.run.info.run_name})" for one in chains[-5:]) or "none"
        raise ValueError(f"{len(found)} chains are called {name!r}; the last that ended here: {known}")
    return found[0]


def _by_run(store: Store) -> dict[str, Manifest]:
    """Id of a run -> the manifest of the result that it made, also of one that was made again since."""
    return {
        one.document["mlflow_run_id"]: one
        for manifest in store.all()
        for one in store.history(manifest.stage, manifest.fingerprint)
    }


def _chain_problems(chain: Chain, store: Store) -> Iterator[str]:
    evaluation, report = chain.made.get("evaluation"), chain.made.get("report")
    current = evaluation and store.find(evaluation.stage, evaluation.fingerprint)
    if evaluation is not None and current is not None and current.content == evaluation.content:
        yield from _metric_problems(chain.run, chain_metrics({"evaluation": evaluation}))
    page = store.home / "reports" / f"{chain.run.info.run_id}.html"
    if report is not None and not page.is_file():
        yield f"{page.name}, the page of the chain, is not there"
    elif report is not None and file_digest(page) != report.document["files"][_REPORT]["sha256"]:
        yield f"{page.name} is another page than the sealed {_REPORT} of report {report.fingerprint[:12]}"
