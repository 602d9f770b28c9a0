"""What a person meets first when browsing the experiment records: words, tables of responses, and which files a stage reads.

In: sealed results. Out: descriptions in Markdown, rows for tables. Nothing here knows where the records are kept (`tracking` does).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from data.schema import PROBLEM_SCHEMA
from stages.markdown import plain
from stages.records.artifact import Manifest, Store
from stages.records.rollouts import read_rollouts, rollout_rows, rollout_steps
from stages.report.curves import PROBE_PLOTS, STEP_PLOTS
from stages.report.findings import Findings, chain_findings
from stages.sampling.prompting import CHOICE
from stages.stage import Row

MOST_ROWS = 240  # of a table of responses
_MOST_STEPS = 8
_MOST_TEXT = 4000  # characters of a prompt or a response
_MOST_LINKS = 4000  # characters of the links to charts
_MOST_DESCRIPTION = 8000  # characters; MLflow takes no more
_MOST_CHANGE = 60  # characters of a changed value in a run's name
_MOST_CHANGES = 3

_SFT_READS = {"curation": ("sft", "validation"), "selection": ()}
READS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "stages.base": {"curation": ("base", "sft", "validation", "rl")},
    "stages.sft": _SFT_READS,
    "stages.sft.further": _SFT_READS,
    "stages.selection": {"curation": ("probe", "rl")},
    "stages.rl": {"curation": ("rl", "probe"), "selection": ("graded",)},
    "stages.evaluation.run": {"curation": ("heldout", "rl"), "selection": ()},
    "stages.report": {"curation": ("heldout", "rl"), "selection": (), "evaluation": ("samples",)},
}
"""Module of a stage -> stage before it -> its tables that are read. Where it names none, all are taken to be read."""
_LABELS = {**dict(STEP_PLOTS), **{f"probe/{name}": label for name, label in PROBE_PLOTS}}
ARM_CURVES: Mapping[str, str] = {
    name: _LABELS[name] for name in ("reward/mean", "probe/greedy", "response/mean_tokens", "policy/entropy")
}
"""Metric -> what a link to its chart says; every other one can be picked there."""
_BENCHMARKS = "benchmarks.parquet"  # of a curation that holds some: an evaluation then looks for them in every split


def stage_description(manifest: Manifest) -> str:
    """What a stage found, in sentences, what a reader must know of it, and where the result lies."""
    key = f"{manifest.stage}/{manifest.arm}" if manifest.arm else manifest.stage
    said = chain_findings({key: manifest}).sentences
    said = said[:1] if manifest.stage == "rl" else said  # the second says that nothing is evaluated yet
    lines = [f"- {plain(sentence)}" for sentence in said]
    lines += [f"- {plain(note)}" for note in manifest.document["notes"] if note not in " ".join(said)]
    place = f"The result lies in `{manifest.place}`; `ring lineage {manifest.fingerprint[:12]}` shows what it was made from."
    return _bounded([*lines, "", place])


def chain_description(
    manifests: Mapping[str, Manifest],
    *,
    ran: Sequence[str],
    changed: Sequence[str],
    page: Path | None,
    curves: Mapping[str, str],
) -> str:
    """What was found, what the chain is, what ran, and where to read on.

    `ran`: keys of the stages that did not come from the cache; `curves`: metric of `ARM_CURVES` -> address of the chart of all arms.
    """
    found = chain_findings(manifests)
    lines = _charts(curves)  # the first line: MLflow folds what comes after the third
    lines += ["**Found**", "", *(f"- {plain(sentence)}" for sentence in found.sentences), ""] if found.sentences else []
    lines += [*_scores(found), _what(manifests), "", _what_ran(manifests, ran), ""]
    lines += ["Changed with `--set`: " + ", ".join(f"`{change}`" for change in changed) + ".", ""] if changed else []
    if "evaluation" in manifests:
        lines += [
            "Metrics of this run are shares of right answers, from 0 to 1, over all problems that no stage has seen; `low` and `high` "
            "are the ends of the interval, `a - b` is a paired difference. Every domain, level and metric is in the run `evaluation`.",
            "",
        ]
    lines += [f"The page with plots and tables is `{page.name}` under Artifacts, and `{page}`."] if page else []
    return _bounded(lines)


def experiment_description(recipe: str) -> str:
    """What a reader of the list of experiments should know."""
    return (
        f"Chains of the recipe `{plain(recipe)}`. A row is a chain: its description says what was found, its parameters are the whole "
        "recipe. Unfold it to see its stages, each with the parameters, data sets, models, tables and curves of its own; a stage whose "
        "result was there already is not below it, and the tag `ring.cached.<stage>` names the run that made the result."
    )


def run_name(name: str, *, changed: Sequence[str], at: str) -> str:
    """`laptop 2026-11-27 23:18`, or `laptop rl.objective.token_budget=300 2026-11-27 23:18` where `--set` changed a value."""
    said = [
        change if len(change) <= _MOST_CHANGE else f"{change[:_MOST_CHANGE]}…" for change in changed[:_MOST_CHANGES]
    ]
    more = [f"and {len(changed) - _MOST_CHANGES} more"] if len(changed) > _MOST_CHANGES else []
    return " ".join([name, *said, *more, at])


def model_name(manifest: Manifest, folder: str) -> str:
    """`epoch-09 of sft`, `final of rl mixed`."""
    title = f"{manifest.stage} {manifest.arm}" if manifest.arm else manifest.stage
    return f"{'final' if folder == 'model' else folder} of {title}"


def _charts(curves: Mapping[str, str]) -> list[str]:
    """A link for each metric, as many as have room."""
    if not curves:
        return []
    links = [f"[{label}]({curves[name]})" for name, label in ARM_CURVES.items() if name in curves]
    while sum(map(len, links)) > _MOST_LINKS:
        links.pop()
    said = " · ".join(links) or "unfold the chain in the table of runs, tick the arms, press Compare"
    return [f"Curves of the RL arms on one chart: {said}", ""]


def _what(manifests: Mapping[str, Manifest]) -> str:
    arms = [key.removeprefix("rl/") for key in manifests if key.startswith("rl/")]
    words = {
        "curation": "curation of the data",
        "base": "a base model",
        "sft": "supervised fine-tuning (SFT)",
        "selection": "the choice of an SFT checkpoint",
        "evaluation": "the evaluation on problems that no stage has seen",
        "report": "the report",
    }
    parts = [words[key] for key in ("curation", "base", "sft", "selection") if key in manifests]
    parts += [f"further training in the arms {', '.join(arms)}"] if arms else []
    parts += [words[key] for key in ("evaluation", "report") if key in manifests]
    return f"From data to scores: {'; '.join(parts)}."


def _what_ran(manifests: Mapping[str, Manifest], ran: Sequence[str]) -> str:
    if not ran:
        return f"**Nothing ran**: all {len(manifests)} results were there already, and this run only shows them again."
    if len(ran) == len(manifests):
        return f"All {len(ran)} stages ran."
    return (
        f"{len(ran)} of {len(manifests)} stages ran ({', '.join(ran)}); the results of the others were there already."
    )


def _scores(found: Findings) -> list[str]:
    if not found.scores:
        return []
    names = [*found.scores[0]]
    rows = [f"| {' | '.join(plain(str(row[name])) for name in names)} |" for row in found.scores]
    return [f"{found.scored_on}:", "", f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}", *rows, ""]


def _bounded(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    return text if len(text) <= _MOST_DESCRIPTION else f"{text[: _MOST_DESCRIPTION - 60]} … (the report has the rest)"


# ---------------------------------------------------------------- tables of responses


def browsing_tables(manifest: Manifest, store: Store) -> dict[str, list[Row]]:
    """The stage's tables, with the right answers beside sampled responses; of an RL arm also `rollouts`."""
    tables = manifest.tables()
    if manifest.stage == "evaluation" and tables.get("samples"):
        tables["samples"] = _with_answers(tables["samples"], manifest, store)
    if manifest.stage == "rl" and (rows := rollout_table(manifest, store)):
        tables["rollouts"] = rows
    return tables


def rollout_table(arm: Manifest, store: Store, *, most: int = MOST_ROWS) -> list[Row]:
    """At most `most` responses of at most 8 steps from first to last, by domain, reward and step: each domain and verdict has its share."""
    steps = rollout_steps(arm.folder_of_responses)
    shown = (
        [steps[round(place * (len(steps) - 1) / (_MOST_STEPS - 1))] for place in range(_MOST_STEPS)] if steps else []
    )
    shown = sorted({*shown})
    names = (
        "step",
        "problem_id",
        "domain",
        "reward",
        "status",
        "extracted",
        "reason",
        "advantage",
        "num_tokens",
        "response",
    )
    picked = [(step, _spread(arm.folder, step, most=most // len(shown))) for step in shown]
    rows = [row for step, indices in picked for row in rollout_rows(arm.folder, step, indices, names)]
    known = _problems(_input(arm, "curation", store), {row["problem_id"] for row in rows}, files=("rl.parquet",))
    rows.sort(key=lambda row: (row["domain"], -_number(row["reward"]), row["step"]))
    return [_rollout_row(row, known.get(row["problem_id"], {})) for row in rows]


def _spread(folder: Path, step: int, *, most: int) -> list[int]:
    """Places of rows in a step: in turn the next of each domain and verdict."""
    columns = read_rollouts(folder, step, ("domain", "status")).to_pydict()
    by_kind: dict[tuple[str, str], list[int]] = {}
    for place, kind in enumerate(zip(columns["domain"], columns["status"], strict=True)):
        by_kind.setdefault(kind, []).append(place)
    turns = sorted((turn, kind, place) for kind, places in by_kind.items() for turn, place in enumerate(places))
    return sorted(place for _, _, place in turns[:most])


def _number(value: float | None) -> float:
    return value if value is not None and value == value else float("-inf")


def _rollout_row(row: Row, problem: Mapping[str, str]) -> Row:
    return {
        "domain": row["domain"],
        "reward": row["reward"],
        "verdict": row["status"],
        "step": row["step"],
        "problem": _cut(problem.get("prompt", "")),
        "right answer": _right_answer(problem),
        "answer read out": row["extracted"],
        "response": _cut(row["response"]),
        "reason": row["reason"],
        "advantage": row["advantage"],
        "tokens": row["num_tokens"],
        "problem id": row["problem_id"],
    }


def _with_answers(samples: Sequence[Row], manifest: Manifest, store: Store) -> list[Row]:
    ids = {row["problem"] for row in samples}
    places = [_input(manifest, "curation", store), manifest]
    files = ("heldout.parquet", "benchmarks.parquet", "problems.parquet")
    known = {name: row for place in places for name, row in _problems(place, ids, files=files).items()}
    first = ("problem", "prompt")
    return [
        {name: row[name] for name in first if name in row}
        | {"right answer": _right_answer(known.get(row["problem"], {}))}
        | {name: value for name, value in row.items() if name not in first}
        for row in samples
    ]


def _input(manifest: Manifest, key: str, store: Store) -> Manifest | None:
    """The result that it was made from, as far as it is still there with the same bytes."""
    entry = manifest.inputs.get(key)
    found = store.find(entry["stage"], entry["fingerprint"]) if entry and "stage" in entry else None
    return found if found is not None and entry is not None and found.content == entry["content"] else None


def _problems(place: Manifest | None, ids: set[str], *, files: Sequence[str]) -> dict[str, dict[str, str]]:
    """Id -> prompt, answer and tests of problems, as far as the tables of a result hold them."""
    names = [name for name in files if place is not None and name in place.document["files"]]
    if place is None or not names or not ids:
        return {}
    columns = [name for name in ("id", "prompt", "answer", "tests") if name in PROBLEM_SCHEMA.names]
    tables = [pq.read_table(place.folder / name, columns=columns, filters=[("id", "in", ids)]) for name in names]
    return {row["id"]: row for table in tables for row in table.to_pylist()}


def _right_answer(problem: Mapping[str, str]) -> str:
    return _cut(problem.get("answer") or problem.get("tests") or "")


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} … ({len(text) - _MOST_TEXT:,} more characters)"


# ---------------------------------------------------------------- what was read, and what was chosen


def tables_read(module: str, key: str, manifest: Manifest) -> dict[str, str]:
    """File -> sha256 of the tables of the earlier stage `key` that a stage reads; rollouts lie in a folder, and no stage reads them."""
    files = manifest.document["files"]
    tables = {name: entry["sha256"] for name, entry in files.items() if name.endswith(".parquet") and "/" not in name}
    read = READS.get(module, {}).get(key)
    if read is None or (module == "stages.evaluation.run" and _BENCHMARKS in tables):
        return tables
    return {name: sha256 for name, sha256 in tables.items() if name.removesuffix(".parquet") in read}


def chosen_of(manifest: Manifest) -> tuple[str, str] | None:
    """The checkpoint that a selection chose, and why; None for another stage."""
    path = manifest.folder / CHOICE
    if manifest.stage != "selection" or not path.is_file():
        return None
    choice = json.loads(path.read_text(encoding="utf-8"))
    return choice["checkpoint"], choice["why"]
