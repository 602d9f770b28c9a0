"""Published results of the recipes, by seed and kind of machine, and how a chain of one's own compares with them.

`docs/reference.json` holds an entry a chain: fingerprint and content digest of each stage, and the main scores with their intervals.
On the same kind of machine the bytes must be equal; on another the scores are compared, by the intervals that stand there.
`python -m benchmarks.publish_reference` writes it from a home folder. The report is left out: it holds times.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stages.config import Record
from stages.records.artifact import Manifest, write_json
from stages.records.machine import kind_of, machine_line

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "reference.json"
METRICS = ("greedy", "pass@1")
GROUP = "all"
RUNTIME = (  # what of Runtime may change a byte: the order of sums over ranks, threads and rows
    "base_ranks",
    "sft_ranks",
    "rl_ranks",
    "zero_stage",
    "threads",
    "device",
    "micro_batch_tokens",
)
_SHOWN_SCORES = 3


class Made(Record):
    """A stage's result: what it was made from, and what it is."""

    fingerprint: str
    content: str


class Score(Record):
    """A mean over problems and its interval."""

    value: float
    low: float
    high: float


class Entry(Record):
    """A chain that someone ran."""

    recipe: str
    seed: int
    kind: str  # of machine
    machine: str  # in words
    commit: str | None
    runtime: dict[str, int | str]
    stages: dict[str, Made]
    scores: dict[str, Score]

    @property
    def name(self) -> tuple[str, int, str]:
        """One entry for each."""
        return (self.recipe, self.seed, self.kind)


_ENTRIES = TypeAdapter(tuple[Entry, ...])


def read_reference(path: Path = PUBLISHED) -> tuple[Entry, ...]:
    """The published entries, none where there is no such file. Raises ValueError for one that cannot be read."""
    if not path.is_file():
        return ()
    try:
        return _ENTRIES.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{path} is no list of references: {error.errors()[0]['msg']}; take it from the repository again"
        ) from error


def write_reference(entry: Entry, path: Path = PUBLISHED) -> None:
    """Add an entry, in place of the one for the same recipe, seed and kind of machine."""
    kept = {known.name: known for known in read_reference(path)} | {entry.name: entry}
    write_json(path, [kept[name].model_dump(mode="json") for name in sorted(kept)])


def entry_of(manifests: Mapping[str, Manifest], *, recipe: str, seed: int) -> Entry:
    """The entry of a finished chain, by stage. Raises ValueError where several kinds of machines made it, or several Runtimes."""
    made = _without_report(manifests)
    evaluation = made["evaluation"]
    for what, values in {
        "kinds of machines": {kind_of(manifest.document) for manifest in made.values()},
        "settings of [runtime]": {json.dumps(_runtime(manifest)) for manifest in made.values()},
    }.items():
        if len(values) > 1:
            raise ValueError(
                f"the stages come from {len(values)} {what} ({', '.join(sorted(map(str, values)))}): run the chain in a home of its own"
            )
    return Entry(
        recipe=recipe,
        seed=seed,
        kind=kind_of(evaluation.document),
        machine=machine_line(evaluation.document),
        commit=evaluation.document["code"]["commit"],
        runtime=_runtime(evaluation),
        stages={key: Made(fingerprint=one.fingerprint, content=one.content) for key, one in made.items()},
        scores=_scores(evaluation),
    )


def _without_report(manifests: Mapping[str, Manifest]) -> dict[str, Manifest]:
    return {key: manifest for key, manifest in manifests.items() if manifest.stage != "report"}


def _runtime(manifest: Manifest) -> dict[str, Any]:
    return {name: manifest.document["runtime"][name] for name in RUNTIME}


def _scores(evaluation: Manifest) -> dict[str, Score]:
    results = json.loads((evaluation.folder / "results.json").read_text(encoding="utf-8"))
    wanted = [name for name in results if name.split("/")[1] == GROUP and name.split("/")[2] in METRICS]
    return {name: Score(**{end: results[name][end] for end in ("value", "low", "high")}) for name in wanted}


# ---------------------------------------------------------------- comparison


def compare(
    manifests: Mapping[str, Manifest], *, recipe: str, seed: int, kind: str, entries: Sequence[Entry]
) -> list[str]:
    """At most three lines: bytes where an entry is of this kind of machine, scores where bytes part. None for a recipe without entries."""
    of_recipe = [entry for entry in entries if entry.recipe == recipe]
    candidates = [entry for entry in of_recipe if entry.seed == seed]
    if not candidates:
        return [f"nothing is published for seed {seed} of {recipe}"] if of_recipe else []
    made = _without_report(manifests)
    entry = max(candidates, key=lambda one: (one.kind == kind, len(_common(made, one))))
    common = _common(made, entry)
    if not common:
        return ["not compared with what is published: other code, settings or data, every fingerprint differs"]
    parted = [key for key in common if made[key].content != entry.stages[key].content]
    lines = [_bytes_line(made, entry, common=common, parted=parted, kind=kind)]
    return lines + (_score_lines(made["evaluation"], entry) if parted and "evaluation" in common else [])


def _common(made: Mapping[str, Manifest], entry: Entry) -> list[str]:
    return [
        key for key, one in made.items() if key in entry.stages and entry.stages[key].fingerprint == one.fingerprint
    ]


def _bytes_line(made: Mapping[str, Manifest], entry: Entry, *, common: list[str], parted: list[str], kind: str) -> str:
    others = [key for key in made if key not in common]
    rest = f"; not compared, as code, settings or data are other ones: {', '.join(others)}" if others else ""
    if not parted:
        return f"{_counted(common)} equal to what is published for {_where(entry, made, kind)}, byte for byte{rest}"
    first = parted[0]
    digests = f"{made[first].content[:12]} here, {entry.stages[first].content[:12]} there"
    return f"bytes part at {first} from what is published for {_where(entry, made, kind)} ({digests}){rest}"


def _counted(keys: Sequence[str]) -> str:
    return f"{keys[0]} is" if len(keys) == 1 else f"all {len(keys)} results are"


def _where(entry: Entry, made: Mapping[str, Manifest], kind: str) -> str:
    if entry.kind != kind:
        return f"another kind of machine, {entry.kind}"
    differing = sorted(
        {name for one in made.values() for name, value in _runtime(one).items() if value != entry.runtime[name]}
    )
    return "this kind of machine" + (f" with other runtime.{', runtime.'.join(differing)}" if differing else "")


def _score_lines(evaluation: Manifest, entry: Entry) -> list[str]:
    pairs = {name: (score, entry.scores[name]) for name, score in _scores(evaluation).items() if name in entry.scores}
    inside = [_pair(name, *pair) for name, pair in pairs.items() if pair[1].low <= pair[0].value <= pair[1].high]
    outside = [_pair(name, *pair) for name, pair in pairs.items() if not pair[1].low <= pair[0].value <= pair[1].high]
    agreed = f"{len(inside)} of {len(pairs)} scores lie in the intervals there"
    lines = [f"{agreed}: {inside[0]}: agrees" if inside else agreed]
    more = f"; and {len(outside) - _SHOWN_SCORES} more" if len(outside) > _SHOWN_SCORES else ""
    return lines + ([f"outside: {'; '.join(outside[:_SHOWN_SCORES])}{more}"] if outside else [])


def _pair(name: str, here: Score, there: Score) -> str:
    model, _, metric = name.split("/")
    return f"{model} {metric} {here.value:.3f} here, {there.value:.3f} [{there.low:.3f}, {there.high:.3f}] there"
