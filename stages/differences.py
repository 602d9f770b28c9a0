"""In what two sealed results differ: what they were made from, by what code, packages and machine, and what came out.

In: two manifests. Out: rows of text and numbers, in this order of interest. Where both hold judged answers to the same problems, figures
are compared problem by problem, with the interval of a paired difference; else each stands with its own.
"""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stages.evaluation.statistics import estimate_difference
from stages.plan import FURTHER_SFT, MODULES, ONE_MODEL
from stages.records.artifact import Manifest, Store
from stages.records.code_digest import reached_modules
from stages.records.provenance import ROOT
from stages.recount import RESULTS, Counted, asked_again, counted_results, read_results
from stages.soundness import input_folders
from stages.stage import Row

_SAID = ("key", "a", "b")


@dataclass(frozen=True, slots=True)
class Differences:
    """Rows of {key, a, b}, None where one has no such key; metrics have more columns. Empty where nothing differs."""

    values: tuple[Row, ...]  # of the configuration
    inputs: tuple[Row, ...]  # by fingerprint and content
    code: tuple[Row, ...]  # modules whose sources differ
    packages: tuple[Row, ...]
    machine: tuple[Row, ...]  # hardware, arithmetic, and [runtime]
    files: tuple[Row, ...]  # by sha256
    metrics: tuple[Row, ...]  # metric, a, b, difference = b - a, low, high, n, and how it was compared
    notes: tuple[str, ...] = ()  # what could not be compared

    @property
    def is_same(self) -> bool:
        """Whether nothing differs that has to do with what the results are."""
        return not (
            self.values or self.inputs or self.code or self.packages or self.machine or self.files or self.metrics
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def differences(a: Manifest, b: Manifest, *, store: Store) -> Differences:
    """What differs between two results."""
    one, other = a.document, b.document
    code, notes = _code(a, b)
    metrics, more = _metrics(a, b, store)
    return Differences(
        values=_rows(flat(one["payload"]["config"]), flat(other["payload"]["config"])),
        inputs=_rows(_inputs(a), _inputs(b)),
        code=code,
        packages=_rows(one.get("packages", {}), other.get("packages", {})),
        machine=_rows(_machine(one), _machine(other)),
        files=_rows(_files(one), _files(other)),
        metrics=metrics,
        notes=(*notes, *more),
    )


def flat(node: Any, *, prefix: str = "") -> dict[str, Any]:  # noqa: ANN401 - a JSON value
    """Dotted key -> value; elements of lists of tables by number."""
    if isinstance(node, Mapping) and node:
        parts = [flat(value, prefix=f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items()]
    elif isinstance(node, list) and any(isinstance(item, Mapping) for item in node):
        parts = [flat(value, prefix=f"{prefix}.{number}") for number, value in enumerate(node)]
    else:
        return {prefix: node}
    return {key: value for part in parts for key, value in part.items()}


def _rows(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Row, ...]:
    names = [*a, *(name for name in b if name not in a)]
    return tuple(
        dict(zip(_SAID, (name, a.get(name), b.get(name)), strict=True)) for name in names if a.get(name) != b.get(name)
    )


def _inputs(manifest: Manifest) -> dict[str, str]:
    """By what they were named, and by their bytes where only those differ."""
    named = {name: entry.get("fingerprint", entry["content"])[:12] for name, entry in manifest.inputs.items()}
    return named | {f"{name}, bytes": entry["content"][:12] for name, entry in manifest.inputs.items()}


def _machine(document: Mapping[str, Any]) -> dict[str, Any]:
    return flat(
        {**document.get("hardware", {}), "runtime": document.get("runtime", {}), "ranks": document.get("ranks")}
    )


def _files(document: Mapping[str, Any]) -> dict[str, str]:
    return {name: entry["sha256"][:12] for name, entry in document["files"].items()}


# ---------------------------------------------------------------- code


def _code(a: Manifest, b: Manifest) -> tuple[tuple[Row, ...], list[str]]:
    """Modules by the digests that both manifests hold; of older ones the files that git has otherwise at their commits."""
    one, other = a.document, b.document
    if one["payload"]["code"] == other["payload"]["code"]:
        return (), []
    if "modules" in one and "modules" in other:
        return _rows(
            *({name: digest[:12] for name, digest in document["modules"].items()} for document in (one, other))
        ), []
    commits = [document["code"]["commit"] or "" for document in (one, other)]
    changed = ["working tree with changes" for document in (one, other) if document["code"]["dirty"]]
    doubt = " (one was made with changes that no commit holds)" if changed else ""
    files = _changed_between(*commits, stages=(a.stage, b.stage)) if all(commits) else None
    digests = [document["payload"]["code"][:12] for document in (one, other)]
    row = dict(zip(_SAID, ("digest of all", *digests), strict=True))
    if files is None:
        return (row,), [
            "which files of the code differ is not told: a manifest lists no modules, and git does not know both commits"
        ]
    return (row, *({"key": name, "a": commits[0][:8], "b": commits[1][:8]} for name in files)), [
        f"files of the code by git, as a manifest lists no modules{doubt}"
    ]


def _changed_between(a: str, b: str, *, stages: tuple[str, str]) -> list[str] | None:
    """Files that a stage reaches today and that differ between two commits; None where git cannot tell."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "diff", "--name-only", a, b]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    modules = (
        [MODULES[stage] for stage in stages]
        + ([FURTHER_SFT] if "rl" in stages else [])
        + ([ONE_MODEL] if "evaluation" in stages else [])
    )
    reached = {str(path.relative_to(ROOT)) for module in modules for path in reached_modules(module).values()}
    return [name for name in done.stdout.splitlines() if name in reached]


# ---------------------------------------------------------------- metrics


def _metrics(a: Manifest, b: Manifest, store: Store) -> tuple[tuple[Row, ...], list[str]]:
    """Every metric that differs, and every score that both have."""
    scores, notes = (
        _paired(a, b, store) if RESULTS in a.document["files"] and RESULTS in b.document["files"] else ({}, [])
    )
    names = [*a.metrics, *(name for name in b.metrics if name not in a.metrics)]
    rows = []
    for name in names:
        ours, theirs = a.metrics.get(name), b.metrics.get(name)
        if name in scores:
            rows.append(scores[name])
        elif ours != theirs and (ours == ours or theirs == theirs):
            difference = None if ours is None or theirs is None else theirs - ours
            rows.append(_metric(name, ours, theirs, difference=difference))
    return tuple(rows), notes


def _metric(name: str, a: Any, b: Any, *, difference: float | None, **more: Any) -> Row:  # noqa: ANN401 - numbers, or texts with intervals
    blank = {"low": None, "high": None, "n": None, "compared": ""}
    return {"metric": name, "a": a, "b": b, "difference": difference, **blank, **more}


def _paired(a: Manifest, b: Manifest, store: Store) -> tuple[dict[str, Row], list[str]]:
    """Scores of the same model and group, problem by problem where the problems are the same; metric -> row."""
    counted = [counted_results(one, input_folders(one, store)) for one in (a, b)]
    stated = [read_results(one.folder) for one in (a, b)]
    common = [name for name in stated[0] if name in stated[1]]
    if counted[0] is None or counted[1] is None:
        return {}, ["scores are not compared problem by problem: a curation is not there"]
    same = _same_problems(a, b, store)
    confidence = a.document["payload"]["config"]["confidence"]
    rows = {name: _score(name, stated, counted[0], counted[1], same=same, confidence=confidence) for name in common}
    return {name: row for name, row in rows.items() if row["a"] != row["b"] or row["difference"]}, []


def _same_problems(a: Manifest, b: Manifest, store: Store) -> set[str]:
    """Ids of the problems that are asked and judged alike in both."""
    found = []
    for one in (a, b):
        asked = asked_again(one, input_folders(one, store))
        problems = asked.problems if asked else []
        found.append({problem.id: (problem.prompt, problem.answer, problem.tests) for problem in problems})
    return {name for name, problem in found[0].items() if found[1].get(name) == problem}


def _score(
    name: str, stated: list[dict[str, dict[str, float]]], a: Counted, b: Counted, *, same: set[str], confidence: float
) -> Row:
    model, _, rest = name.partition("/")
    group, _, metric = rest.rpartition("/")
    texts = [f"{one[name]['value']:.4f} [{one[name]['low']:.4f}, {one[name]['high']:.4f}]" for one in stated]
    ids = [one for one in a[3][group] if one in same and one in set(b[3][group])]
    ours, theirs = a[0][model][metric], b[0][model][metric]
    values_P = np.array([theirs[one] - ours[one] for one in ids])
    found = estimate_difference(values_P, confidence=confidence, clusters_P=[a[2][one] for one in ids]) if ids else None
    if found is None or len(ids) < max(len(a[3][group]), len(b[3][group])):
        apart = stated[1][name]["value"] - stated[0][name]["value"]
        return _metric(name, *texts, difference=apart, compared=f"apart: {len(ids)} problems are the same")
    ends = {"low": found.low, "high": found.high, "n": found.num_problems}
    return _metric(name, *texts, difference=found.value, **ends, compared="paired by problem")


def told_metrics(metrics: tuple[Row, ...]) -> Iterator[Row]:
    """Rows for people: what is most asked for first, that is scores over all problems."""
    yield from sorted(metrics, key=lambda row: ("/all/" not in row["metric"], row["compared"] == ""))
