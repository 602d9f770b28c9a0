"""One model, ours or anybody's, on named benchmarks (paper 4.1.2): what `ring evaluate` runs.

In: `data-dir`, the folder that holds the benchmarks' rows (none: the hub); `problems`, a file or folder of one's own, which is a set, too;
`codeforces-standings`, where there are any; and `trained-on`, the curation whose rows the model was trained on, where it is one of ours.
Out: problems.parquet (PROBLEM_SCHEMA), samples.parquet (SAMPLE_SCHEMA + `model`), and results.json {`<model>/<benchmark>/<metric>`:
{value, low, high, n}}; the tables `results`, `benchmarks`, `responses`, `samples`, `points`, `rating`, `verdicts`, and `left_out`, the rows
of one's own that could not be asked.

Metrics are those of `metrics` and `statistics`. A benchmark's points or rating stand in tables of their own: they are no share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from data.benchmarks import find_benchmark
from data.benchmarks.loading import load_benchmark
from data.benchmarks.own import OwnSet, load_own_set
from data.schema import table_from_problems, write_table
from stages.config import ModelEvaluationConfig, Runtime
from stages.evaluation.asked import ASKED
from stages.evaluation.benchmarks import (
    Sets,
    benchmark_notes,
    benchmark_parts,
    benchmark_rows,
    require_room,
    response_rows,
)
from stages.evaluation.contamination import trained_rows
from stages.evaluation.parts import GREEDY, Part, part_jobs, part_results, part_scores
from stages.evaluation.points import point_rows, rating_rows
from stages.evaluation.scores import Results, result_rows, shown_samples, with_model
from stages.local_files import DATA_DIR, PROBLEMS, STANDINGS, TRAINED_ON
from stages.records.artifact import write_json
from stages.sampling.models import Model, open_model
from stages.sampling.pacing import Limits
from stages.sampling.requests import SamplingJob
from stages.sampling.rescoring import write_judging
from stages.sampling.sampler import sample_and_judge
from stages.sampling.scores import checker_failures, judge_failures, num_weak, require_judged, status_counts
from stages.seeds import derive_seed
from stages.stage import STATE, StageLog, StageRecord


def run(
    config: ModelEvaluationConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog
) -> StageRecord:
    """Load the benchmarks, answer, judge, and count."""
    own = load_own_set(inputs[PROBLEMS], columns=config.columns) if config.problems else None
    sets = load_sets(config, data_dir=inputs.get(DATA_DIR), own=own)
    parts = benchmark_parts(config, sets)
    asked = [problem for part in parts for problem in part.problems]
    write_table(table_from_problems(problem for rows in sets.values() for problem in rows), out / ASKED)
    model = open_model(config.model)
    if model.kind == "own":  # of others' the samplers say it
        require_room(parts, model.policy)
    limits = Limits(runtime.server_requests, runtime.server_requests_per_minute)
    with model.sampler(runtime, published=out / STATE / "published", limits=limits) as sampler:
        sampled = sample_and_judge(
            _jobs(config, model, parts), sampler=sampler, folder=out / STATE / "samples", log=log
        )
    tables = sampled.tables
    write_table(with_model(tables.values(), [config.name] * len(tables)), out / "samples.parquet")
    write_judging(out, requires_thinking=model.requires_thinking)
    results = _results(config, parts, tables)
    write_json(out / "results.json", results)
    failures = judge_failures(tables.values())
    require_judged(failures, sum(map(len, tables.values())), config=config, stage="evaluation")
    return StageRecord(
        metrics={name: entry["value"] for name, entry in results.items()}
        | {
            "judge/total_failures": float(failures.total()),
            "judge/checker_failures": float(checker_failures(tables.values())),
            "judge/weak": float(num_weak(tables.values())),
        },
        tables={
            "results": result_rows(results),
            "benchmarks": benchmark_rows(parts, sets, trained_rows(sets, inputs.get(TRAINED_ON))),
            "responses": response_rows(parts, tables),
            "points": point_rows(sets, tables),
            "rating": rating_rows(sets, tables, standings=inputs.get(STANDINGS)),
            "samples": shown_samples({part.name: tables[part.job(GREEDY)] for part in parts}, asked),
            "left_out": [asdict(row) for row in own.left_out] if own else [],
            "verdicts": [{"status": name, "count": n} for name, n in status_counts(tables.values()).items()],
        },
        notes=(*_notes(failures.total(), own, trained_on=inputs.get(TRAINED_ON)), *benchmark_notes(parts, sets)),
        timings=sampled.timings,
    )


def load_sets(config: ModelEvaluationConfig, *, data_dir: Path | None, own: OwnSet | None) -> Sets:
    """The rows of every benchmark, and of the set of one's own. Raises ValueError as `load_benchmark`."""
    named = {
        name: load_benchmark(find_benchmark(name), data_dir=data_dir, another_version=config.another_version)
        for name in config.benchmarks
    }
    return named | ({own.name: own.problems} if own else {})


def _jobs(config: ModelEvaluationConfig, model: Model, parts: Sequence[Part]) -> list[SamplingJob]:
    """A server is asked problem by problem, so that progress is seen; what it answers depends on no other."""
    sampling = config.sampling.model_copy(update={"chunk_problems": 1}) if model.kind == "server" else config.sampling
    return part_jobs(parts, policy=model.policy, sampling=sampling, seed=derive_seed(config.seed, "evaluation"))


def _results(config: ModelEvaluationConfig, parts: Sequence[Part], tables: Mapping[str, pa.Table]) -> Results:
    results: Results = {}
    for part in parts:
        results |= part_results(part, part_scores(part, {config.name: tables}), confidence=config.confidence)
    return results


def _notes(failures: int, own: OwnSet | None, *, trained_on: Path | None) -> tuple[str, ...]:
    judged = f"the judge failed on {failures} responses; they count neither as right nor as wrong" if failures else ""
    unknown = "" if trained_on else "what the model was trained on is not known here, so that leaks cannot be counted"
    return tuple(filter(None, (own.describe() if own else "", judged, unknown)))
