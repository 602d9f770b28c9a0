"""`ring evaluate`: one model, ours or anybody's, on named benchmarks and problems of one's own."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from data.benchmarks import BENCHMARKS
from data.benchmarks.loading import ABSENT, whereabouts
from flows.console import near, plain_console, program, waiting
from flows.evaluation_request import EXPERIMENT, benchmark_names, plan_evaluation, request_of
from flows.request import column_pairs
from flows.running import prepared_home, run_flow
from flows.tables import rows_table
from stages.records.artifact import read_manifest

NOT_AVAILABLE = ABSENT
_METRICS = ("greedy", "pass@1")


def evaluate(
    model: str | None = None,
    *,
    benchmarks: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    problems: Path | None = None,
    columns: str | None = None,
    data_dir: Path | None = None,
    samples: int | None = None,
    recipe: str = "evaluate",
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    another_version: Annotated[bool, Parameter(negative="")] = False,
    rerun: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Evaluate one model on named benchmarks or a file of problems: greedy and sampled accuracy, pass@k, maj@k, with intervals.

    Finished samples are kept.

    Parameters
    ----------
    model
        An id of `ring ls`, a folder that transformers opens, or an OpenAI-compatible server as http://127.0.0.1:8000/v1#name. The key of
        a server is read from RING_API_KEY, or OPENAI_API_KEY.
    benchmarks
        Names, as math500,aime25; without any the command lists them, and where their rows are.
    problems
        A file of problems of your own (CSV, TSV, JSON, JSON lines, parquet), or a folder of them; every row is asked (docs/own-data.md).
    columns
        Which column of that file is what, where their names do not tell: `prompt=question,answer=result,domain=science`.
    data_dir
        Folder that holds the benchmarks' rows; without it they come from the hub.
    samples
        Responses to each problem at the sampling temperature; without it as many as each benchmark's protocol says, 4 of a file's.
    recipe
        Recipe whose [evaluation] and [runtime] count.
    set_
        KEY=VALUE changes one value of it, for example `--set evaluation.sampling.max_new_tokens=2048`.
    another_version
        Take rows that are not those of a benchmark's frozen manifest.
    rerun
        Ask again although the result stands there.
    json_
        Print one JSON object instead of words.

    """
    if not benchmarks and problems is None and columns is None:
        return _list_benchmarks(data_dir)
    if model is None:
        raise ValueError("name the model: an id of `ring ls`, a folder, or the address of a server")
    home = prepared_home()
    parameters = {
        "model": model,
        "benchmarks": list(benchmark_names(benchmarks)),
        "samples": samples,
        "data_dir": str(data_dir) if data_dir else None,
        "recipe": recipe,
        "overrides": list(set_),
        "another_version": another_version,
        "rerun": rerun,
        "problems": str(problems) if problems else None,
        "columns": column_pairs(columns),
    }
    with waiting("reading the rows that are asked, and the code that the stage runs"):
        plan_evaluation(request_of(**parameters))  # a mistake is told before a server starts
    document = run_flow("flows.evaluation:evaluate_model", parameters, home=home, experiment=EXPERIMENT)
    if json_:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _show(document, console=plain_console())
    return 0


def _list_benchmarks(data_dir: Path | None) -> int:
    """The table of benchmarks, and where the rows of each are."""
    places = {one.name: one for one in whereabouts(data_dir=data_dir)}
    rows = [
        {
            "benchmark": name,
            "domain": benchmark.domain,
            "samples": benchmark.samples,
            "metric": benchmark.metric,
            "rows": places[name].place,
        }
        for name, benchmark in BENCHMARKS.items()
    ]
    console = plain_console()
    console.print(rows_table(rows, title="benchmarks"))
    where = f"in {near(data_dir)}" if data_dir else "of the hub; --data-dir DIR looks in a folder instead"
    console.print(
        f"`rows` says where they are: {where}. Name some with --benchmarks, or ask a file of your own: --problems FILE.",
        soft_wrap=True,
    )
    return 0


def _show(document: Mapping[str, Any], *, console: Console) -> None:
    """Scores with intervals, a row a benchmark, then what is not there, points, ratings, leaks and notes."""
    manifest = read_manifest(Path(document["artifact"]))
    tables = manifest.tables()
    console.print(rows_table(_score_rows(document, tables["benchmarks"]), title="95 % intervals"))
    for name in ("points", "rating"):
        if tables[name]:
            console.print(rows_table(tables[name], title=name))
    for line in (*_words(document), *manifest.document["notes"]):
        console.print(f"- {line}", soft_wrap=True, highlight=False)
    console.print(f"Responses and verdicts: {near(manifest.folder)}", soft_wrap=True, highlight=False)
    console.print(f"Judge them again: {program()} rescore {manifest.fingerprint[:8]}", soft_wrap=True, highlight=False)


def _score_rows(document: Mapping[str, Any], benchmarks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Every metric of each benchmark; one that is not at hand has a row without numbers."""
    found: dict[str, dict[str, str]] = {}
    for name, entry in document["results"].items():
        _, benchmark, metric = name.split("/")
        found.setdefault(benchmark, {})[metric] = f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
    leaks = {row["benchmark"]: row["trained_on"] for row in benchmarks}
    sizes = {row["benchmark"]: row["problems"] for row in benchmarks}
    rows = [
        {"benchmark": name, "problems": sizes[name], "trained on": leaks[name], **{m: scores.get(m) for m in _METRICS}}
        for name, scores in found.items()
    ]
    blank = dict.fromkeys(("problems", "trained on"))
    absent = dict.fromkeys(_METRICS, NOT_AVAILABLE)
    return [*rows, *({"benchmark": name, **blank, **absent} for name in document["not_available"])]


def _words(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"{document['status']} in {document['seconds']:.0f} s"
    for reason in document["not_available"].values():
        yield f"{NOT_AVAILABLE}: {reason}"
