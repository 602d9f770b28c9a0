"""The chains that the records of a home folder hold: found by name, and what is recorded of each. Reads alone.

**A chain** is a run of a recipe (`ring run`, to whichever stage, or the same flow in Prefect) that ended well, was made from this home
folder, and of which at least one result is here. **`latest`** is the one that began last. A run of `ring evaluate` belongs to no recipe and
is no chain: its result has a name of its own. So has a run that failed, was stopped or goes on: `ring runs` lists it.

Several homes may share one tracking server. A run is this home's where its tag says so; a home that was moved, or that a container shows
under another name, knows its runs by the ledger (`runs.jsonl`) and by their pages, which move with it.
"""

import json
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.records.artifact import Manifest, Store
from stages.records.run_ledger import RunLedger
from stages.records.tracking import (
    CACHED,
    HOME,
    NOTE,
    PARENT,
    PROCESS,
    UNTIL,
    DatasetInput,
    MlflowClient,
    Run,
    find_run,
    place_of,
    reading,
)
from stages.stage import Row

LATEST = "latest"
_ENDED_WELL = "attributes.status = 'FINISHED' and tags.`ring.status` = 'done'"
_PAGE = 1000
_MOST_KNOWN = 5  # chains that a message names


@dataclass(frozen=True, slots=True)
class Chain:
    """A run that ended well, by its records. Keys are `sft`, `rl/<arm>`, ..."""

    run: Run
    results: Mapping[str, str]  # key -> fingerprint
    made_by: Mapping[str, str]  # key -> id of the run that made the result, as far as the records know it
    made: Mapping[str, Manifest]  # key -> the result as it stood when the chain ended; those that are gone are left out
    client: MlflowClient

    @property
    def name(self) -> str:
        """Id of its run, which `ring run --json` prints as `chain`."""
        return self.run.info.run_id

    @property
    def is_of_recipe(self) -> bool:
        """Whether a recipe asked for it; else it is an evaluation of a single model."""
        return UNTIL in self.run.data.params

    def rows(self, runs: Sequence[str]) -> dict[str, list[Row]]:
        """Tables `runs`, `params` and `metrics` (every step) of its own run and of others. A value that is no number is None."""
        found = self._runs(runs)
        return {
            "runs": [_run_row(run) for run in found],
            "params": [
                {"run_id": run.info.run_id, "name": name, "value": value}
                for run in found
                for name, value in sorted(run.data.params.items())
            ],
            "metrics": [row for run in found for row in self._history(run)],
        }

    def more_rows(self, runs: Sequence[str]) -> dict[str, list[Row]]:
        """Tables `tags`, `datasets` and `models` of the same runs: each with what it is to the run."""
        found = self._runs(runs)
        return {
            "tags": [
                {"run_id": run.info.run_id, "name": name, "value": value}
                for run in found
                for name, value in sorted({**_run_row(run)["tags"], "description": run.data.tags.get(NOTE, "")}.items())
            ],
            "datasets": [
                {"run_id": run.info.run_id, "name": one.dataset.name, **_tags_of(one), "source": one.dataset.source}
                for run in found
                for one in (run.inputs.dataset_inputs if run.inputs else [])
            ],
            "models": [row for run in found for row in self._models(run)],
        }

    def _runs(self, runs: Sequence[str]) -> list[Run]:
        """Its own and others, as far as they are there."""
        return [run for run_id in (self.name, *runs) if (run := find_run(self.client, run_id))]

    def _models(self, run: Run) -> Generator[Row]:
        outputs, inputs = run.outputs, run.inputs
        linked = [("output", one.model_id) for one in (outputs.model_outputs if outputs else [])]
        linked += [("input", one.model_id) for one in (inputs.model_inputs if inputs else [])]
        for context, identity in linked:
            model = self.client.get_logged_model(identity)
            told = {"name": model.name, "model_id": identity, "context": context}
            yield {"run_id": run.info.run_id, **told, "sha256": model.tags.get("ring.sha256", "")}

    def _history(self, run: Run) -> Generator[Row]:
        for name in sorted(run.data.metrics):
            for point in self.client.get_metric_history(run.info.run_id, name):
                value = point.value if math.isfinite(point.value) else None
                when = {"step": point.step, "timestamp": point.timestamp}
                yield {"run_id": run.info.run_id, "name": name, "value": value, **when}


def find_chain(name: str, store: Store) -> Chain:
    """The one chain whose id begins with `name`, or the `latest`, as the head of this module says what they are.

    Raises ValueError for none or several, TrackingError where the records cannot be read.
    """
    with reading(store.home) as client:
        chains = [one for one in chains_here(client, store) if one.is_of_recipe] if client is not None else []
    if not chains:
        raise ValueError("no chain of this home folder is finished, so there is none yet; `ring run RECIPE` makes one")
    found = chains[:1] if name == LATEST else [one for one in chains if one.name.startswith(name)]
    if len(found) != 1:
        known = ", ".join(f"{one.name} ({one.run.info.run_name})" for one in chains[:_MOST_KNOWN])
        what = f"{len(found)} finished chains begin with" if found else "no finished chain begins with"
        raise ValueError(f"{what} {name!r}; the last ones of this home folder: {known}; `latest` is the first of them")
    return found[0]


def chains_here(client: MlflowClient, store: Store) -> Iterator[Chain]:
    """Every run of this home that ended well and of which a result is here, evaluations of a single model among them; newest first."""
    ids = [one.experiment_id for one in _every(client.search_experiments, filter_string="name LIKE 'ring/%'")]
    if not ids:
        return
    by_run, place = _by_run(store), place_of(store.home)
    known = RunLedger(store.home).named_runs() | {page.stem for page in (store.home / "reports").glob("*.html")}
    newest = {"filter_string": _ENDED_WELL, "order_by": ["attributes.start_time DESC"]}
    for run in _every(client.search_runs, experiment_ids=ids, **newest):
        is_ours = run.data.tags.get(HOME, place) == place or run.info.run_id in known or not known
        if is_ours and (chain := _chain(run, client, by_run)).made:
            yield chain


def _chain(run: Run, client: MlflowClient, by_run: Mapping[str, Manifest]) -> Chain:
    tags = run.data.tags
    found = {name.removeprefix(CACHED): json.loads(tags[name]) for name in sorted(tags) if name.startswith(CACHED)}
    of_this = f"attributes.status = 'FINISHED' and tags.`{PARENT}` = '{run.info.run_id}'"
    for child in _every(client.search_runs, experiment_ids=[run.info.experiment_id], filter_string=of_this):
        tags = child.data.tags
        key = "/".join(filter(None, (tags.get("ring.stage"), tags.get("ring.arm"))))
        found[key] = {"fingerprint": tags.get("ring.fingerprint", ""), "run_id": child.info.run_id}
    made_by = {key: entry["run_id"] for key, entry in found.items() if entry["run_id"]}
    return Chain(
        run,
        results={key: entry["fingerprint"] for key, entry in found.items()},
        made_by=made_by,
        made={key: by_run[run_id] for key, run_id in made_by.items() if run_id in by_run},
        client=client,
    )


def _by_run(store: Store) -> dict[str, Manifest]:
    """Id of a run -> the manifest of the result that it made, also of one that was made again since."""
    return {
        one.document["mlflow_run_id"]: one
        for manifest in store.all()
        for one in store.history(manifest.stage, manifest.fingerprint)
    }


def _every(search: Callable[..., Any], **asked: Any) -> Iterator[Any]:  # noqa: ANN401 - entities of MLflow
    """All that a search finds, page by page."""
    token = None
    while True:
        page = search(**asked, max_results=_PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


# ---------------------------------------------------------------- rows


def _run_row(run: Run) -> Row:
    """A run without what names the machine, the folder and the process that made it."""
    kept = {key: value for key, value in sorted(run.data.tags.items()) if key not in (HOME, PROCESS)}
    info = run.info
    times = {"status": info.status, "start_time": info.start_time, "end_time": info.end_time}
    tags = {key: value for key, value in kept.items() if key.startswith("ring.")}
    return {"run_id": info.run_id, "name": info.run_name, **times, "tags": tags}


def _tags_of(one: DatasetInput) -> dict[str, str]:
    tags = {tag.key: tag.value for tag in one.tags}
    return {"context": tags.get("mlflow.data.context", ""), "sha256": tags.get("sha256", "")}
