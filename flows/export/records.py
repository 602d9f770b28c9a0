"""What the records say of a model folder: the result that holds it, all that this follows from, and the evaluations that asked it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.commands.lineage import raw_rows, trace
from stages.config import STAGES
from stages.records.artifact import MANIFEST, Manifest, Store, content_digest, open_store, read_manifest, ring_home
from stages.sampling.prompting import CHOICE, MODEL

METRICS = ("greedy", "pass@1")
_OF_SAMPLES = ["problem_id", "model", "sample", "token_ids"]
_SFT = "sft"  # the name of the chosen checkpoint in results


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over problems, with its interval."""

    group: str
    metric: str
    value: float
    low: float
    high: float
    num_problems: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation that asked the model."""

    manifest: Manifest
    name: str  # of the model, there
    scores: tuple[Score, ...]
    benchmarks: frozenset[str]  # groups that are public sets

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Temperature, top_p and max_new_tokens of its responses."""
        return self.manifest.document["payload"]["config"]["sampling"]

    @property
    def confidence(self) -> float:
        """Of the intervals."""
        return self.manifest.document["payload"]["config"]["confidence"]


@dataclass(frozen=True, slots=True)
class Example:
    """A problem that the project generated, and the greedy response that was recorded."""

    domain: str
    prompt: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelRecords:
    """Everything that is known of a model of a home."""

    manifest: Manifest
    part: str  # the folder inside the result: `model`, `epoch-02`
    made_from: tuple[Manifest, ...]  # in the order in which a chain runs; the model's own result is the last
    evaluations: tuple[Evaluation, ...]  # newest first

    @property
    def title(self) -> str:
        """For people."""
        stage = self.manifest.arm or self.manifest.stage
        return f"{self.manifest.document['recipe']} {stage}" + ("" if self.part == MODEL else f" {self.part}")

    @property
    def sources(self) -> list[dict[str, Any]]:
        """A row a source and licence of the rows that curation read."""
        return [row for one in self.made_from if one.stage == "curation" for row in raw_rows(one)]

    @property
    def sampling(self) -> Mapping[str, Any] | None:
        """How the model was sampled: by its newest evaluation, else by its own stage; None where neither did."""
        if self.evaluations:
            return self.evaluations[0].sampling
        return self.manifest.document["payload"]["config"].get("sampling")

    def examples(self) -> Iterator[Example]:
        """Of the newest evaluation on generated problems the first of each domain. Rows of public sets are not given on."""
        curation = next((one.folder / "heldout.parquet" for one in self.made_from if one.stage == "curation"), None)
        found = [one for one in self.evaluations if "curation" in one.manifest.inputs]
        if curation is None or not found or not curation.is_file():
            return
        rows = pq.read_table(curation, columns=["id", "domain", "prompt", "source"]).to_pylist()
        generated = {row["id"]: row for row in rows if row["source"].startswith("procedural/")}
        samples = pq.read_table(found[0].manifest.folder / "samples.parquet", columns=_OF_SAMPLES)
        greedy = samples.filter((pc.field("model") == found[0].name) & (pc.field("sample") < 0)).to_pylist()
        told: set[str] = set()
        for sample in greedy:
            problem = generated.get(sample["problem_id"])
            if problem is not None and problem["domain"] not in told:
                told.add(problem["domain"])
                yield Example(problem["domain"], problem["prompt"], tuple(sample["token_ids"]))


def find_records(folder: Path) -> ModelRecords | None:
    """Records of a model folder that lies in a result; None of any other."""
    folder = folder.resolve()
    result = folder.parent
    if not (result / MANIFEST).is_file():
        return None
    manifest = read_manifest(result)
    store = _store_of(result)
    found = [one for one in trace(manifest, store=store).manifests if one.fingerprint != manifest.fingerprint]
    before = sorted(found, key=lambda one: STAGES.index(one.stage))
    evaluations = [found for one in store.all() if (found := _evaluation(one, manifest, folder, store)) is not None]
    newest = sorted(evaluations, key=lambda one: one.manifest.document["made_at"], reverse=True)
    return ModelRecords(manifest, folder.name, (*before, manifest), tuple(newest))


def _store_of(result: Path) -> Store:
    """The store in which a result lies, else the one of the home."""
    home = result.parents[2]
    is_other = Store(home).root == result.parents[1] and home != ring_home().resolve()
    return Store(home) if is_other else open_store()


def _evaluation(one: Manifest, model: Manifest, folder: Path, store: Store) -> Evaluation | None:
    """An evaluation of this very model, of the bytes that lie there now."""
    if one.stage != "evaluation":
        return None
    name = _name_in(one, model, folder, store)
    rows = one.tables().get("results", []) if name else []
    scores = tuple(
        Score(row["group"], row["metric"], row["value"], row["low"], row["high"], row["n"])
        for row in rows
        if row["model"] == name and row["metric"] in METRICS
    )
    if name is None or not scores:
        return None
    benchmarks = one.document["payload"]["config"].get("benchmarks", ())
    return Evaluation(one, name, scores, frozenset(benchmarks))


def _name_in(one: Manifest, model: Manifest, folder: Path, store: Store) -> str | None:
    """What an evaluation calls the model; None where it asked others."""
    config = one.document["payload"]["config"]
    if "model" in config:  # one model, by `ring evaluate`
        asked = one.inputs.get(MODEL, {}).get("content")
        return (
            config["name"] if Path(config["model"]).resolve() == folder and asked == _content(model, folder) else None
        )
    key = next(
        (
            name
            for name, entry in one.inputs.items()
            if entry.get("fingerprint") == model.fingerprint and entry["content"] == model.content
        ),
        None,
    )
    if key is None:
        return None
    if model.stage == "rl":
        return key.removeprefix("rl/") if folder.name == MODEL else None
    return _SFT if key == _SFT and folder.name == _chosen(one, store) else None


def _content(model: Manifest, folder: Path) -> str:
    """Digest of a model's files, as an evaluation by `ring evaluate` holds it."""
    files = model.document["files"].items()
    inside = f"{folder.name}/"
    return content_digest({name.removeprefix(inside): entry for name, entry in files if name.startswith(inside)})


def _chosen(one: Manifest, store: Store) -> str | None:
    """The checkpoint that the selection behind an evaluation chose."""
    selection = store.find("selection", one.inputs["selection"]["fingerprint"])
    return json.loads(selection.file(CHOICE).read_text(encoding="utf-8"))["checkpoint"] if selection else None
