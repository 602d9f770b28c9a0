"""What a person reads when a chain is done, on standard output: words by default, every table with `--verbose`."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from data.benchmarks import BENCHMARKS
from flows.commands.runs import tries_behind
from flows.console import near, program
from flows.request import Request
from flows.tables import RowsTable, rows_table, wrapped
from stages.config import STAGES
from stages.recipe import load_recipe
from stages.records.artifact import Manifest, read_manifest
from stages.records.run_ledger import RunLedger
from stages.records.tracking_uri import browse_command
from stages.report.findings import chain_findings
from stages.sampling.prompting import chosen_model, model_folder

MOST_LINES = 40  # of the words
_MOST_NOTES = 3
_BENCHMARKS = "pass@1 on benchmarks, and how many of them the training data give away"
Manifests = Mapping[str, Manifest]


def show_ending(document: Mapping[str, Any], *, request: Request, home: Path, console: Console, verbose: bool) -> None:
    """What ran, what was found, where it is and what to do next. `document` is what `ring run --json` prints."""
    manifests = {_key(entry): read_manifest(Path(entry["artifact"])) for entry in document["stages"]}
    if verbose:
        for table in chain_tables(document, manifests):
            console.print(table)
    lines = ending_lines(document, manifests, request=request, home=home, width=console.width, verbose=verbose)
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def ending_lines(
    document: Mapping[str, Any], manifests: Manifests, *, request: Request, home: Path, width: int, verbose: bool
) -> list[str]:
    """At most `MOST_LINES`, unless verbose; what is left out then is counted. Paths and commands are never broken."""
    found = chain_findings(manifests)
    head = [*wrapped(what_ran(document, request.overrides), width=width), ""]
    if found.scores:
        head += _rendered(rows_table(found.scores, title=found.scored_on), width=width)
    if "evaluation" in manifests and (rows := benchmark_rows(manifests["evaluation"].tables())):
        head += _rendered(rows_table(rows, title=_BENCHMARKS), width=width)
    models = chain_models(manifests)
    tail = ["", *_models(models, document["results"]), *_places(document, home=home), *_next(document, request)]
    notes = _notes(manifests, most=None if verbose else _MOST_NOTES, unless_in=" ".join(found.sentences))
    said = [[*wrapped(f"- {sentence}", width=width, indent="  ")] for sentence in [*found.sentences, *notes]]
    room = None if verbose else MOST_LINES - len(head) - len(tail)
    return [*head, *_fitting(said, room=room), *tail]


def benchmark_rows(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """A row a benchmark that the recipe names: pass@1 of every model, beside how many of its problems the training data give away."""
    rows: dict[str, dict[str, Any]] = {}
    models = dict.fromkeys(row["model"] for row in tables.get("benchmark_scores", ()) if row["model"])
    for row in tables.get("benchmark_scores", ()):
        about = {"benchmark": row["benchmark"], "problems": row["problems"], "trained on": row["trained_on"]}
        found = rows.setdefault(row["benchmark"], about | dict.fromkeys(models, row["pass@1"]))
        if row["model"]:
            found[row["model"]] = row["pass@1"]
    return [*rows.values()]


def _fitting(said: Sequence[list[str]], *, room: int | None) -> list[str]:
    """Sentences until the lines are full; the rest is counted."""
    lines = [line for sentence in said for line in sentence]
    if room is None or len(lines) <= room:
        return lines
    kept: list[str] = []
    for number, sentence in enumerate(said):
        if len(kept) + len(sentence) > room - 1:
            return [*kept, f"- {len(said) - number} more: add --verbose, or see the report"]
        kept += sentence
    return kept


def _key(entry: Mapping[str, Any]) -> str:
    return f"rl/{entry['arm']}" if entry["arm"] else entry["stage"]


def what_ran(document: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """One sentence: which part came from the cache, and what was changed by hand."""
    counts = Counter("cached" if entry["status"] == "cached" else "ran" for entry in document["stages"])
    changed = f" with {' '.join(overrides)}" if overrides else ""
    name, seconds = f"{document['recipe']}{changed}", f"{document['seconds']:.0f} s"
    if not counts["ran"]:
        return f"{name}: all {_stages(counts['cached'])} answered from the cache in {seconds}; nothing was computed."
    cached = f", {_stages(counts['cached'])} came from the cache" if counts["cached"] else ""
    return f"{name}: {_stages(counts['ran'])} ran{cached}; {seconds}."


def _stages(number: int) -> str:
    return f"{number} stage{'' if number == 1 else 's'}"


def _notes(manifests: Manifests, *, most: int | None, unless_in: str) -> Iterator[str]:
    """What the stages want noted and no sentence has said yet."""
    notes = [(key, note) for key, manifest in manifests.items() for note in manifest.document["notes"]]
    notes = [f"{key.replace('/', ' ')}: {note}" for key, note in notes if note not in unless_in]
    yield from notes[:most]
    if most is not None and len(notes) > most:
        yield f"{len(notes) - most} more notes: add --verbose, or see the report"


# ---------------------------------------------------------------- where things are


def chain_models(manifests: Manifests) -> dict[str, tuple[str, Path]]:
    """Name -> (id for `ring model`, folder) of the models that a chain made: the arms and where they started, else the last one."""
    folders = {key: manifest.folder for key, manifest in manifests.items()}
    found: dict[str, tuple[str, Path]] = {}
    if "sft" in manifests:
        model = chosen_model(folders) if "selection" in manifests else sorted(folders["sft"].glob("epoch-*"))[-1]
        found["sft"] = f"{_short(manifests['sft'])}/{model.name}", model
    elif "base" in manifests:
        found["base"] = _short(manifests["base"]), model_folder(folders["base"])
    arms = {key.removeprefix("rl/"): manifest for key, manifest in manifests.items() if key.startswith("rl/")}
    return found | {arm: (_short(manifest), model_folder(manifest.folder)) for arm, manifest in arms.items()}


def _short(manifest: Manifest) -> str:
    return manifest.fingerprint[:8]


def _models(models: Mapping[str, tuple[str, Path]], results: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Folders, and the commands to use the one with the best greedy score."""
    if not models:
        return
    wide = max(map(len, models))
    yield "Models:"
    yield from (f"  {name:<{wide}}  {near(folder)}" for name, (_, folder) in models.items())
    scores = {name: results.get(f"{name}/all/greedy", {}).get("value", 0.0) for name in models}
    best = max(reversed([*models]), key=lambda name: scores[name])
    yield f"Use one, as {best}:"
    yield f"  {program()} model info {models[best][0]}"
    yield f'  {program()} model ask {models[best][0]} "PROBLEM"'


def _places(document: Mapping[str, Any], *, home: Path) -> Iterator[str]:
    yield f"Report:  {near(Path(document['report']))}"
    yield f"Records: {browse_command(home)}   (or: {program()} up)"
    if tries := tries_behind(document.get("chain", ""), RunLedger(home)):
        yield f"Tries:   {tries} ({program()} runs)"


def _next(document: Mapping[str, Any], request: Request) -> Iterator[str]:
    """To the recipe's end, or to an experiment."""
    recipe = shlex.quote(request.recipe)
    last, end = document["stages"][-1]["stage"], load_recipe(request.recipe).recipe.until
    if STAGES.index(last) < STAGES.index(end):
        changes = [part for item in request.overrides for part in ("--set", item)]
        data = ["--data-dir", str(request.data_dir)] if request.data_dir else []
        yield f"Next:    {program()} run {shlex.join([request.recipe, *changes, *data])}   (goes on until {end})"
    else:
        yield f"Next:    {program()} show {recipe} --changed, then {program()} run {recipe} --set KEY=VALUE"


# ---------------------------------------------------------------- every table


def chain_tables(document: Mapping[str, Any], manifests: Manifests) -> Iterator[RenderableType]:
    """Stages, funnel, SFT epochs, the choice, arms by phase, evaluation, differences, token ledger."""
    yield _stages_table(document)
    tables = {key: manifest.tables() for key, manifest in manifests.items()}
    for key, name, title, num_keys in SHOWN_TABLES:
        rows = _phases(tables) if key == "rl" else tables.get(key, {}).get(name, [])
        if shown := [*_shown_rows(rows)]:
            yield rows_table(shown, title=title, num_keys=num_keys)
    if "evaluation" in manifests:
        yield Text(
            "In MLflow numbers are named <model>/<group>/<metric>, pass@1 as pass_at_1 (no @ there).", style="dim"
        )


SHOWN_TABLES = (  # stage, table, title, columns that name a row
    ("curation", "funnel", "Curation: what each step kept", 1),
    ("sft", "epochs", "SFT epochs", 1),
    ("selection", "candidates", "The chosen checkpoint", 1),
    ("selection", "rules", "What each rule would choose", 1),
    ("rl", "phases", "RL arms by phase", 2),
    ("evaluation", "summary", "Evaluation on problems never seen, 95 % intervals", 2),
    ("evaluation", "benchmark_scores", "Benchmarks, 95 % intervals", 2),
    ("evaluation", "comparisons", "Paired differences over all domains", 2),
    ("evaluation", "ledger", "Token efficiency", 1),
)


def _shown_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of differences those over all domains and on benchmarks, of two metrics; `why` is a sentence, not a column."""
    for row in rows:
        if "against" not in row or (row["group"] in ("all", *BENCHMARKS) and row["metric"] in ("greedy", "pass@1")):
            yield {name: value for name, value in row.items() if name != "why"}


def _phases(tables: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"arm": key.removeprefix("rl/"), **row} for key, found in tables.items() for row in found.get("phases", [])]


def _stages_table(document: Mapping[str, Any]) -> RowsTable:
    rows = [
        {
            "stage": entry["stage"],
            "arm": entry["arm"] or "",
            "status": entry["status"] + (" (waited for another run)" if entry["waited_seconds"] else ""),
            "seconds": round(entry["seconds"], 1),
            "fingerprint": entry["fingerprint"][:12],
        }
        for entry in document["stages"]
    ]
    return rows_table(rows, title=f"{document['recipe']}: {document['seconds']:.0f} s")


def _rendered(table: RowsTable, *, width: int) -> list[str]:
    console = Console(width=width, color_system=None, markup=False, emoji=False)
    with console.capture() as printed:
        console.print(table)
    return [line.rstrip() for line in printed.get().splitlines()]
