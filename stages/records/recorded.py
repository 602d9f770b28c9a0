"""What the experiment records say of results, compared with the manifests: a record changed afterwards is found. Reads alone.

MLflow shows what the manifests hold and is no evidence itself. Compared are, of every run that made a result, its status, tags, final
metrics, parameters, and the metrics of each step with steps.jsonl; of every chain its scores over all problems and its page. Every other
score, and the ends of the intervals, are in the evaluation's own run. The ledger of runs (`run_ledger`) is compared with both: how runs
ended, and of each chain what it was to make, the seals of what it made, and the page as it was published.
"""

import ast
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.records.artifact import Manifest, Store, file_digest
from stages.records.chains import Chain, chains_here
from stages.records.run_ledger import (
    FAILED,
    FINISHED,
    LEDGER,
    STOPPED,
    LedgerError,
    RecordedRun,
    RunLedger,
    plan_digest,
)
from stages.records.tracking import (
    PARENT,
    TIME_FORMAT,
    MlflowClient,
    Run,
    find_run,
    metric_name,
    reading,
    recorded_metrics,
)
from stages.report.tries import without_tries
from stages.results import chain_metrics
from stages.training.ledger import STEPS, steps_of

_LARGEST = 1.7976931348623157e308  # what MLflow keeps for an infinity
_LONGEST_VALUE = 6000  # characters of a parameter
_REPORT = "report.html"
_ENDS = ("/low", "/high")  # of intervals
_MOST = 5  # lines a run


@dataclass(frozen=True, slots=True)
class Checked:
    """What was compared, and what does not hold."""

    num_runs: int  # of stages
    num_chains: int
    problems: Mapping[str, tuple[str, ...]]  # `<stage>/<fingerprint>` or `chain/<run id>` -> lines
    notes: tuple[str, ...] = ()


def check_records(manifests: Iterable[Manifest], store: Store) -> Checked:
    """Compare the records of a home folder with its results and its ledger. Raises TrackingError where they cannot be read.

    In a remote store lie results that other machines recorded; only those whose run is known here are compared.
    """
    with reading(store.home) as client:
        if client is None:
            return Checked(0, 0, {}, ("there are no experiment records here to compare with",))
        given = [*manifests]
        known = [one for one in given if store.remote is None or find_run(client, one.document["mlflow_run_id"])]
        found = {f"{one.stage}/{one.fingerprint}": [*_run_problems(client, one)] for one in known}
        chains = [*chains_here(client, store)]
        ledger = _read_ledger(store)
        of_chains = {f"chain/{one.name}": [*_chain_problems(one, store, ledger)] for one in chains}
        for run in ledger or ():
            of_chains.setdefault(f"chain/{run.run}", []).extend(_ending_problems(run, find_run(client, run.run)))
    problems = {name: tuple(_first(lines)) for name, lines in (found | of_chains).items() if lines}
    is_unknown = bool(chains) and ledger == []
    notes = [f"there is no {LEDGER}: how often these chains were tried is not known"] if is_unknown else []
    if elsewhere := len(given) - len(known):
        notes.append(f"{elsewhere} results were recorded where another machine keeps its records: not compared")
    return Checked(len(found), len(chains), problems, tuple(notes))


def _read_ledger(store: Store) -> list[RecordedRun] | None:
    """None where it is not what was written, which `ring verify` tells by itself."""
    try:
        return RunLedger(store.home).runs()
    except LedgerError:
        return None


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
    yield from _final_problems(client, run, manifest)
    yield from _parameter_problems(run.data.params, document["payload"]["config"], key=manifest.stage)
    if STEPS in document["files"] and (manifest.folder / STEPS).is_file():
        yield from _step_problems(client, run, steps_of(manifest.folder))


def _final_problems(client: MlflowClient, run: Run, manifest: Manifest) -> Iterator[str]:
    """Of the metrics that a run shows at its end: the value that stands there, and that its history has the point.

    Records of before the ends of intervals stood in the evaluation's run have all of them in the chain's; then they are compared there.
    """
    final = recorded_metrics(manifest)
    ends = {name: value for name, value in final.items() if name not in manifest.metrics and name.endswith(_ENDS)}
    parent = find_run(client, run.data.tags.get(PARENT, "")) if ends else None
    is_older = parent is not None and not any(map(_is_in(run), ends)) and all(map(_is_in(parent), ends))
    own = final if not is_older else {name: value for name, value in final.items() if name not in ends}
    yield from _metric_problems(run, own)
    if is_older and parent is not None:
        yield from _metric_problems(parent, ends)
    for name, value in own.items():
        if _is_in(run)(name) and not any(
            _same(point.value, value) for point in client.get_metric_history(run.info.run_id, metric_name(name))
        ):
            yield f"the metric {name} has no point of {value:.6g} in its history"


def _is_in(run: Run) -> Callable[[str], bool]:
    return lambda name: metric_name(name) in run.data.metrics


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


def _chain_problems(chain: Chain, store: Store, ledger: Sequence[RecordedRun] | None) -> Iterator[str]:
    """`ledger` is None where it is damaged: nothing can be compared with it then."""
    evaluation = chain.made.get("evaluation")
    current = evaluation and store.find(evaluation.stage, evaluation.fingerprint)
    if evaluation is not None and current is not None and current.content == evaluation.content:
        yield from _metric_problems(chain.run, chain_metrics({"evaluation": evaluation}))
    if (report := chain.made.get("report")) is not None:
        yield from _page_problems(chain, report, store)
    if ledger is not None:
        yield from _entry_problems(chain, store, ledger)


def _page_problems(chain: Chain, report: Manifest, store: Store) -> Iterator[str]:
    """The page where people look is the sealed one but for its place for the ledger of runs."""
    page = store.home / "reports" / f"{chain.name}.html"
    if not page.is_file():
        yield f"{page.name}, the page of the chain, is not there"
        return
    sealed = without_tries(page.read_text(encoding="utf-8"))
    if hashlib.sha256(sealed.encode()).hexdigest() != report.document["files"][_REPORT]["sha256"]:
        yield f"{page.name} is another page than the sealed {_REPORT} of report {report.fingerprint[:12]}"


# ---------------------------------------------------------------- the ledger of runs


def _ending_problems(entry: RecordedRun, run: Run | None) -> Iterator[str]:
    """What MLflow says of how a run ended. One that was cut short between its two records may stand as killed in either."""
    if run is None or run.info.lifecycle_stage != "active":
        if entry.outcome == FINISHED:
            yield f"{LEDGER} says finished, MLflow's run {'is not there' if run is None else 'was deleted'}"
        return
    has_ended = entry.outcome in (FINISHED, FAILED, STOPPED)
    if has_ended and (run.info.status == "FINISHED") != (entry.outcome == FINISHED):
        yield f"{LEDGER} says {entry.outcome}, MLflow's run has the status {run.info.status}"


def _entry_problems(chain: Chain, store: Store, ledger: Sequence[RecordedRun]) -> Iterator[str]:
    """A chain is in the ledger, with what it was to make and what came of it; one of before the ledger began is not."""
    entry = next((one for one in ledger if one.run == chain.name), None)
    if entry is None:
        if _tells_runs(chain, store) or (ledger and _began(chain) > ledger[0].start["at"]):
            yield f"{LEDGER} does not name it: lines were cut off its end, or it is another file"
        return
    if plan_digest(chain.results) != entry.start["digest"]:
        yield f"its stages are not those that {LEDGER} says were to be made"
    if entry.outcome == FINISHED and entry.end is not None:
        yield from _end_problems(chain, store, entry.end)


def _tells_runs(chain: Chain, store: Store) -> bool:
    """Whether its page was published with what a ledger said."""
    page = store.home / "reports" / f"{chain.name}.html"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    return without_tries(text) != text


def _end_problems(chain: Chain, store: Store, end: Mapping[str, Any]) -> Iterator[str]:
    """The seals of the results, and the page as it was published, with its tries; older lines do not name the page."""
    for key, manifest in chain.made.items():
        if (sealed := end["seals"].get(key, "none")) != manifest.seal:
            yield f"{LEDGER} holds the seal {sealed[:12]} of {key}, the result has {manifest.seal[:12]}"
    for name, sha256 in end.get("pages", {}).items():
        page = store.home / "reports" / name
        if page.is_file() and file_digest(page) != sha256:
            yield f"{name} is another page than was published, by {LEDGER}"


def _began(chain: Chain) -> str:
    """As the ledger writes times."""
    return time.strftime(TIME_FORMAT, time.gmtime(chain.run.info.start_time / 1000))
