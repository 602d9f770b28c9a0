"""One model, ours or anybody's, on named benchmarks (paper 4.1.2): what `ring evaluate` runs.

In: `data-dir`, the folder that holds the benchmarks' rows (none: the hub); `problems`, a file or folder of one's own, which is a set, too;
and `trained-on`, the curation whose rows the model was trained on, where it is one of ours. Out: problems.parquet (PROBLEM_SCHEMA),
samples.parquet (SAMPLE_SCHEMA + `model`), and results.json {`<model>/<benchmark>/<metric>`: {value, low, high, n}}; the tables `results`,
`benchmarks`, `responses`, `samples`, `points`, `rating`, `verdicts`, and `left_out`, the rows of one's own that could not be asked.

Metrics are those of `metrics` and `statistics`. A benchmark's points or rating stand in tables of their own: they are no share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from data.benchmarks import BENCHMARKS, Benchmark, find_benchmark
from data.benchmarks.loading import load_benchmark
from data.benchmarks.own import OwnSet, load_own_set, measured_set
from data.schema import Problem, table_from_problems, write_table
from ring_model.configuration import BailingMoeConfig
from ring_model.tokenizer import Tokenizer
from stages.config import ModelEvaluationConfig, Runtime
from stages.evaluation.contamination import trained_rows
from stages.evaluation.groups import problem_clusters
from stages.evaluation.metrics import describe_responses
from stages.evaluation.points import point_rows, rating_rows
from stages.evaluation.scores import Results, model_scores, result_rows, score_results, shown_samples, with_model
from stages.local_files import DATA_DIR, PROBLEMS, TRAINED_ON
from stages.records.artifact import write_json
from stages.sampling.models import Model, open_model
from stages.sampling.pacing import Limits
from stages.sampling.prompting import prompt_ids
from stages.sampling.requests import SamplingJob
from stages.sampling.rescoring import write_judging
from stages.sampling.sampler import Sampled, sample_and_judge
from stages.sampling.scores import checker_failures, judge_failures, num_weak, require_judged, status_counts
from stages.seeds import derive_seed
from stages.stage import STATE, Row, StageLog, StageRecord

ASKED = "problems.parquet"
Sets = Mapping[str, Sequence[Problem]]  # benchmark -> its rows


def run(
    config: ModelEvaluationConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog
) -> StageRecord:
    """Load the benchmarks, answer, judge, and count."""
    own = load_own_set(inputs[PROBLEMS], columns=config.columns) if config.problems else None
    sets = load_sets(config, data_dir=inputs.get(DATA_DIR), own=own)
    write_table(table_from_problems(problem for rows in sets.values() for problem in rows), out / ASKED)
    model = open_model(config.model)
    _require_room(model, sets)
    limits = Limits(runtime.server_requests, runtime.server_requests_per_minute)
    with model.sampler(runtime, published=out / STATE / "published", limits=limits) as sampler:
        jobs = _jobs(config, model, sets)
        sampled = sample_and_judge(jobs, sampler=sampler, folder=out / STATE / "samples", log=log)
    write_table(with_model(sampled.tables.values(), [config.name] * len(sampled.tables)), out / "samples.parquet")
    write_judging(out, requires_thinking=model.requires_thinking)
    results = _results(config, sets, sampled)
    write_json(out / "results.json", results)
    failures = judge_failures(sampled.tables.values())
    require_judged(failures, sum(map(len, sampled.tables.values())), config=config, stage="evaluation")
    return StageRecord(
        metrics={name: entry["value"] for name, entry in results.items()}
        | {
            "judge/total_failures": float(failures.total()),
            "judge/checker_failures": float(checker_failures(sampled.tables.values())),
            "judge/weak": float(num_weak(sampled.tables.values())),
        },
        tables={
            "results": result_rows(results),
            "benchmarks": _benchmark_rows(config, sets, trained_rows(sets, inputs.get(TRAINED_ON))),
            "responses": _response_rows(sampled),
            "points": point_rows(sets, sampled.tables),
            "rating": rating_rows(sets, sampled.tables, data_dir=inputs.get(DATA_DIR)),
            "samples": shown_samples(_greedy(sampled), [problem for rows in sets.values() for problem in rows]),
            "left_out": [asdict(row) for row in own.left_out] if own else [],
            "verdicts": [{"status": name, "count": n} for name, n in status_counts(sampled.tables.values()).items()],
        },
        notes=_notes(failures.total(), own, trained_on=inputs.get(TRAINED_ON)),
        timings=sampled.timings,
    )


def load_sets(config: ModelEvaluationConfig, *, data_dir: Path | None, own: OwnSet | None) -> Sets:
    """The rows of every benchmark, and of the set of one's own. Raises ValueError as `load_benchmark`."""
    named = {
        name: load_benchmark(find_benchmark(name), data_dir=data_dir, another_version=config.another_version)
        for name in config.benchmarks
    }
    return named | ({own.name: own.problems} if own else {})


def _require_room(model: Model, sets: Sets) -> None:
    """Raises ValueError for a prompt that fills our own model, before anything is asked; of others' the samplers say it."""
    if model.kind != "own":
        return
    room = BailingMoeConfig.from_folder(model.policy.weights).max_position_embeddings
    tokenizer = Tokenizer.from_folder(model.policy.tokenizer)
    for name, rows in sets.items():
        for problem in rows:
            if (length := len(prompt_ids(tokenizer, problem))) >= room:
                raise ValueError(
                    f"benchmark {name}: the prompt of {problem.id} has {length} tokens, and the model {room} positions for prompt and "
                    "response; leave the benchmark out"
                )


def num_samples(config: ModelEvaluationConfig, benchmark: Benchmark) -> int:
    """Responses to each of its problems beside the greedy one."""
    return config.samples or benchmark.samples


def _jobs(config: ModelEvaluationConfig, model: Model, sets: Sets) -> list[SamplingJob]:
    """A server is asked problem by problem, so that progress is seen; what it answers depends on no other."""
    seed = derive_seed(config.seed, "evaluation")
    sampling = config.sampling.model_copy(update={"chunk_problems": 1}) if model.kind == "server" else config.sampling
    return [
        SamplingJob(f"{name}.{mode}", model.policy, tuple(rows), count, sampling, seed)
        for name, rows in sets.items()
        for mode, count in (("greedy", 0), ("sampled", num_samples(config, measured_set(name))))
    ]


def _results(config: ModelEvaluationConfig, sets: Sets, sampled: Sampled) -> Results:
    results: Results = {}
    for name, rows in sets.items():
        benchmark = measured_set(name)
        greedy, drawn = (sampled.tables[f"{name}.{mode}"] for mode in ("greedy", "sampled"))
        scores = {config.name: model_scores(greedy, drawn, num_samples=num_samples(config, benchmark))}
        groups = {name: [problem.id for problem in rows]}
        results |= score_results(scores, groups, problem_clusters(rows), confidence=config.confidence)
    return results


def _greedy(sampled: Sampled) -> dict[str, pa.Table]:
    """Benchmark -> its greedy responses."""
    return {name.removesuffix(".greedy"): table for name, table in sampled.tables.items() if name.endswith(".greedy")}


# ---------------------------------------------------------------- tables


def _benchmark_rows(
    config: ModelEvaluationConfig, sets: Sets, trained: Mapping[str, Sequence[str]] | None
) -> list[Row]:
    """What was measured: problems, samples, and how many of the problems stand in the rows that the model was trained on."""
    return [
        {
            "benchmark": name,
            "title": measured_set(name).title,
            "problems": len(rows),
            "samples": num_samples(config, measured_set(name)),
            "licence": _licence(name, rows),
            "trained_on": None if trained is None else len(trained[name]),
            "trained_on_ids": None if trained is None else ", ".join(trained[name][:5]),
        }
        for name, rows in sets.items()
    ]


def _licence(name: str, rows: Sequence[Problem]) -> str:
    """The benchmark's; of a set of one's own those of its rows."""
    return find_benchmark(name).licence if name in BENCHMARKS else ", ".join(sorted({row.licence for row in rows}))


def _response_rows(sampled: Sampled) -> list[Row]:
    """How the responses to each benchmark are, greedy and sampled."""
    return [
        dict(zip(("benchmark", "mode"), name.rsplit(".", 1), strict=True)) | asdict(describe_responses(table))
        for name, table in sampled.tables.items()
    ]


def _notes(failures: int, own: OwnSet | None, *, trained_on: Path | None) -> tuple[str, ...]:
    judged = f"the judge failed on {failures} responses; they count neither as right nor as wrong" if failures else ""
    unknown = "" if trained_on else "what the model was trained on is not known here, so that leaks cannot be counted"
    return tuple(filter(None, (own.describe() if own else "", judged, unknown)))
