"""Benchmarks in an evaluation, of one model or of all those of a chain: their rows, what is asked, and the tables about them.

In: rows by benchmark, from `data.benchmarks.loading` or as a curation set them aside. A row without an answer or test, as a proof, is
not asked: it is counted as `unjudged`, and its points are in no total.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from data.benchmarks.catalogue import measured_set
from data.benchmarks.loading import ABSENT
from data.benchmarks.manifest import frozen, require_frozen
from data.schema import PROBLEM_SCHEMA, Problem, problems_from_table, read_table
from ring_model.model_types import max_positions
from ring_model.tokenizer import Tokenizer
from stages.config import EvaluationConfig
from stages.curation.splits import BENCHMARK_ROWS, can_be_judged
from stages.evaluation.metrics import describe_responses
from stages.evaluation.parts import GREEDY, SAMPLED, Part
from stages.evaluation.scores import Results, score_text
from stages.sampling.prompting import prompt_ids
from stages.sampling.requests import Policy
from stages.stage import Row

Sets = Mapping[str, Sequence[Problem]]  # benchmark -> its rows
Trained = Mapping[str, Sequence[str]]  # benchmark -> ids of the rows that the training data give away
_SHOWN_IDS = 5
_SHOWN_METRICS = ("greedy", "pass@1")


def rows_set_aside(config: EvaluationConfig, curation: Path) -> dict[str, list[Problem]]:
    """The rows of every benchmark, as a curation set them aside and compared the training data with them; those it has none of are absent.

    Raises:
        ValueError: rows that are not those of the frozen manifest, unless another version is meant.

    """
    path = curation / BENCHMARK_ROWS
    problems = problems_from_table(read_table(path, PROBLEM_SCHEMA)) if path.is_file() else []
    found = {name: [row for row in problems if row.source == name] for name in config.benchmarks}
    for name, rows in found.items():
        manifest = frozen(name) if rows and not config.another_version else None
        if manifest is not None:
            require_frozen(name, rows, manifest)
    return {name: rows for name, rows in found.items() if rows}


def benchmark_parts(config: EvaluationConfig, sets: Sets) -> list[Part]:
    """What is asked of each benchmark: the rows that can be judged, as often as its protocol or the config says."""
    parts = []
    for name, rows in sets.items():
        asked = tuple(row for row in rows if can_be_judged(row))
        parts.append(Part(name, asked, config.samples_of(name), {name: [row.id for row in asked]}))
    return parts


def require_room(parts: Sequence[Part], policy: Policy) -> None:
    """Raises ValueError for a prompt that fills a model's positions, before anything is asked."""
    room = max_positions(policy.weights)
    tokenizer = Tokenizer.from_folder(policy.tokenizer)
    for part in parts:
        for problem in part.problems:
            if (length := len(prompt_ids(tokenizer, problem))) >= room:
                raise ValueError(
                    f"benchmark {part.name}: the prompt of {problem.id} has {length} tokens, and the model {room} positions for prompt and "
                    "response; leave the benchmark out"
                )


# ---------------------------------------------------------------- tables


def benchmark_rows(parts: Sequence[Part], sets: Sets, trained: Trained | None) -> list[Row]:
    """What was measured: problems, samples, and how many of the rows stand in what the model was trained on; None: not known."""
    return [
        {
            "benchmark": part.name,
            "title": measured_set(part.name).title,
            "problems": len(part.problems),
            "unjudged": len(sets[part.name]) - len(part.problems),
            "samples": part.num_samples,
            "licence": measured_set(part.name).licence or ", ".join(sorted({row.licence for row in sets[part.name]})),
            "trained_on": None if trained is None else len(trained[part.name]),
            "trained_on_ids": None if trained is None else ", ".join(trained[part.name][:_SHOWN_IDS]),
        }
        for part in parts
    ]


def response_rows(parts: Sequence[Part], tables: Mapping[str, pa.Table]) -> list[Row]:
    """How the responses of a model to each part are, greedy and sampled; `tables` by `Part.job`."""
    return [
        ({"benchmark": part.name} if part.name else {})
        | {"mode": mode}
        | asdict(describe_responses(tables[part.job(mode)]))
        for part in parts
        for mode in (GREEDY, SAMPLED)
    ]


def benchmark_score_rows(
    parts: Sequence[Part], results: Results, *, models: Sequence[str], trained: Trained, absent: Sequence[str]
) -> list[Row]:
    """A row a benchmark and model: scores with intervals, beside how many of the rows the training data give away."""
    rows = [
        {"benchmark": part.name, "model": model, "problems": len(part.problems), "trained_on": len(trained[part.name])}
        | {metric: score_text(results.get(f"{model}/{part.name}/{metric}")) for metric in _SHOWN_METRICS}
        for part in parts
        for model in models
    ]
    blank: Row = {"model": "", "problems": None, "trained_on": None}
    return rows + [{"benchmark": name, **blank, **dict.fromkeys(_SHOWN_METRICS, ABSENT)} for name in absent]


def benchmark_notes(parts: Sequence[Part], sets: Sets, *, absent: Sequence[str] = ()) -> list[str]:
    """What could not be asked, and why."""
    notes = [f"benchmark {name}: {ABSENT}; curation found no row of it" for name in absent]
    for part in parts:
        if unjudged := len(sets[part.name]) - len(part.problems):
            notes.append(
                f"benchmark {part.name}: {unjudged} of {len(sets[part.name])} rows have no answer that could be judged, and were not asked"
            )
    return notes
