"""What a person means who asks for the lineage of something: a result, a number, a row or a response, by the words that were typed.

In: words and the store. Out: what was found, each with the result that it stands in and what is known of it beside that result's own
lineage. Several are found where a number stands in several places.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flows.console import program
from stages.curation.audit import fates
from stages.evaluation.statistics import estimate_mean
from stages.records.artifact import Manifest, Store
from stages.records.responses import as_json, find_response, is_response_id, passed_steps, sample_id
from stages.records.rollouts import verdict_words
from stages.recount import RESULTS, SAMPLES, counted_results, read_results
from stages.soundness import input_folders

_ID = re.compile(r"[0-9a-f]{4,32}")
_NUMBER = re.compile(r"-?\d+(\.(\d+))?(%?)")
_MOST = 10  # figures that one number is told to be
_GREEDY, _FIRST = -1, 0  # of the column `sample`


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that was asked for, and the result that it stands in."""

    kind: str  # result, figure, row or response
    title: str
    manifest: Manifest
    lines: tuple[str, ...] = ()  # what is known of it, for people
    facts: dict[str, Any] = field(default_factory=dict)  # the same, for programs
    without: frozenset[str] = frozenset()  # inputs of the result on which it does not depend


def find_subjects(words: Sequence[str], store: Store) -> list[Subject]:
    """Raises ValueError where nothing of the name is here; it says what can be asked for."""
    text = " ".join(words)
    if _ID.fullmatch(text) and any(folder.name.startswith(text) for folder in store.folders()):
        manifest = store.by_id(text)
        return [Subject("result", f"{manifest.stage} {manifest.arm or ''} {manifest.fingerprint[:8]}", manifest)]
    if is_response_id(text, store):
        return [_response(text, store)]
    scope, rest = _scope(words, store)
    found = [*_figures(rest, scope, store)] or [*_rows(rest, scope)]
    if not found:
        raise ValueError(
            f"{text!r} names nothing here: give the first characters of a result's fingerprint (`{program()} ls`), a figure "
            "(`mixed/all/greedy`, `selection/pass@1`, or a number of the report), the id of a row of curation, or a response "
            "(RESULT/STEP/GROUP/SAMPLE, RESULT/MODEL/PROBLEM/greedy). A chain or a result may stand before a figure"
        )
    return found


def _scope(words: Sequence[str], store: Store) -> tuple[list[Manifest], str]:
    """Results in which to look, newest first, and what to look for: the first word may name a chain or a result."""
    first, rest = words[0], " ".join(words[1:])
    everything = sorted(store.all(), key=lambda one: one.document["made_at"], reverse=True)
    if not rest or not (first == "latest" or _ID.fullmatch(first)):
        return everything, " ".join(words)
    if first != "latest" and any(one.fingerprint.startswith(first) for one in everything):
        return [store.by_id(first)], rest
    from stages.records.chains import find_chain  # imports MLflow, which takes seconds

    return list(find_chain(first, store).made.values()), rest


# ---------------------------------------------------------------- figures


def _figures(text: str, scope: Sequence[Manifest], store: Store) -> Iterator[Subject]:
    """By name: of the newest result that has it, of each arm one. By number: of every result of one chain, at most `_MOST`."""
    number = _NUMBER.fullmatch(text.strip())
    if number:
        found = [(one, name) for one in _one_chain(scope, store) for name in _named(one, number)]
        yield from (_figure(one, name, store) for one, name in found[:_MOST])
        return
    wanted, told = _normal(text), set()
    for manifest in scope:
        for name in _values(manifest):
            names = {
                _normal(name),
                _normal(f"{manifest.arm or manifest.stage} {name}"),
                _normal(f"rl {manifest.arm} {name}"),
            }
            if wanted in names and (manifest.stage, manifest.arm) not in told:
                told.add((manifest.stage, manifest.arm))
                yield _figure(manifest, name, store)


def _normal(name: str) -> str:
    """As it stands in the report, in MLflow and in a manifest."""
    return " ".join(re.split(r"[/\s]+", name.replace("_at_", "@").lower().strip()))


def _values(manifest: Manifest) -> dict[str, float]:
    """Metrics, and the ends of the intervals of an evaluation."""
    ends = {f"{name}/{end}": entry[end] for name, entry in _results(manifest).items() for end in ("low", "high", "n")}
    return {**manifest.metrics, **ends}


def _results(manifest: Manifest) -> dict[str, dict[str, float]]:
    is_there = manifest.stage == "evaluation" and manifest.file(RESULTS).is_file()
    return read_results(manifest.place) if is_there else {}


def _one_chain(scope: Sequence[Manifest], store: Store) -> list[Manifest]:
    """Of all results those behind the newest evaluation, itself first: what the newest report shows."""
    newest = next((one for one in scope if one.stage == "evaluation"), None)
    if newest is None:
        return list(scope)
    entries = [entry for entry in newest.inputs.values() if "stage" in entry]
    parents = (store.find(entry["stage"], entry["fingerprint"]) for entry in entries)
    return [newest, *(one for one in parents if one is not None)]


def _named(manifest: Manifest, number: re.Match[str]) -> Iterator[str]:
    """Names of the values that are written so: to as many places, and as a share where it ends with %."""
    scale = 100.0 if number[3] else 1.0
    written, half = float(number[0].rstrip("%")), 0.5 * 10.0 ** -len(number[2] or "")
    for name, value in _values(manifest).items():
        if abs(value * scale - written) <= half * (1 + 1e-9) and (number[2] or value * scale == written):
            yield name


def _figure(manifest: Manifest, name: str, store: Store) -> Subject:
    value = _values(manifest)[name]
    entry = _results(manifest).get(name)
    title = f"{name} = {value:.6g}"
    lines, facts = [], {"name": name, "value": value}
    if entry:
        title += f" [{entry['low']:.6g}, {entry['high']:.6g}], n {entry['n']:,.0f}"
        facts |= {end: entry[end] for end in ("low", "high", "n")}
    without: frozenset[str] = frozenset()
    parts = re.fullmatch(r"(?P<model>[^/]+)/(?P<group>.+)/(?P<metric>[^/]+)", name)
    if manifest.stage == "evaluation" and parts and (SAMPLES in manifest.document["files"]):
        models = parts["model"].split(" - ")
        without = frozenset(
            key for key in manifest.inputs if key.startswith("rl/") and key.removeprefix("rl/") not in models
        )
        if entry:
            lines, more = _behind(manifest, parts["model"], parts["group"], parts["metric"], store)
            facts |= more
    return Subject(
        "figure",
        f"{title}, a figure of {manifest.stage} {manifest.fingerprint[:8]}",
        manifest,
        tuple(lines),
        facts,
        without,
    )


def _behind(manifest: Manifest, model: str, group: str, metric: str, store: Store) -> tuple[list[str], dict[str, Any]]:
    """The rows behind a score, counted again, and how to look at them."""
    counted = counted_results(manifest, input_folders(manifest, store))
    if counted is None:
        return ["its curation is not there, so that its rows cannot be counted"], {}
    scores, _, clusters, groups = counted
    ids = groups[group]
    values_P = np.array([scores[model][metric][one] for one in ids])
    confidence = manifest.document["payload"]["config"]["confidence"]
    found = estimate_mean(values_P, confidence=confidence, clusters_P=[clusters[one] for one in ids])
    which = "sample -1 (greedy)" if metric == "greedy" else "samples from 0 on"
    sha256 = manifest.document["files"][SAMPLES]["sha256"]
    lines = [
        f"rows: {SAMPLES} (sha256 {sha256[:12]}), model {model}, {which}, the {len(ids):,} problems of the group {group}",
        f"counted again: {found.value:.6g} [{found.low:.6g}, {found.high:.6g}], n {found.num_problems:,}"
        if found
        else "none was judged",
    ]
    sample = _GREEDY if metric == "greedy" else _FIRST
    for word, wanted in (("right", values_P == 1), ("wrong", values_P == 0)):
        if wanted.any():
            name = sample_id(
                manifest.fingerprint, model=model, problem_id=ids[int(np.flatnonzero(wanted)[0])], sample=sample
            )
            lines.append(f"{int(wanted.sum()):,} {word} in all samples, the first: {program()} why {name}")
    rows = {"file": SAMPLES, "sha256": sha256, "model": model, "samples": which, "problems": ids}
    counted_again = (
        {"value": found.value, "low": found.low, "high": found.high, "n": found.num_problems} if found else None
    )
    return lines, {"rows": rows, "counted_again": counted_again}


# ---------------------------------------------------------------- rows and responses


def _rows(text: str, scope: Sequence[Manifest]) -> Iterator[Subject]:
    """A row by its id, in the newest curation that saw it."""
    for manifest in scope:
        found = fates(manifest.folder, text) if manifest.stage == "curation" else []
        for fate in found:
            row, why = fate.row, fate.why
            lines = [
                f"from {row['source']}, licence {row['licence'] or 'not stated'}",
                f"passed {', '.join(passed_steps(manifest, fate)) or 'no step'}",
                *([f"dropped by {why['step']}: {why['reason']} ({why['evidence']})"] if why else []),
                *(f"stands for {copy['id']}: {copy['reason']}" for copy in fate.copies),
            ]
            facts = {
                "row": row,
                "outcome": fate.outcome,
                "passed": passed_steps(manifest, fate),
                "dropped": why,
                "stands_for": fate.copies,
            }
            title = f"{text}, {fate.outcome}, a row of curation {manifest.fingerprint[:8]}"
            yield Subject("row", title, manifest, tuple(lines), facts)
        if found:
            return


def _response(text: str, store: Store) -> Subject:
    found = find_response(text, store)
    manifest, problem = found.manifest, found.problem
    name = manifest.arm or found.model
    lines = [
        f"stored in {found.file}, sha256 {manifest.document['files'][found.file]['sha256'][:12]}",
        f"answers {found.row['problem_id']}"
        + (f", from {problem['source']}, licence {problem['licence'] or 'not stated'}" if problem else ""),
        f"why: {program()} why {text}",
    ]
    title = f"{text}, {verdict_words({'weak': False, **found.row})}, a response of {name} in {manifest.stage} {manifest.fingerprint[:8]}"
    others = frozenset(key for key in manifest.inputs if key.startswith("rl/") and key != f"rl/{found.model}")
    return Subject("response", title, manifest, tuple(lines), as_json(found), others)
