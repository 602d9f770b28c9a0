"""Evaluation on problems that no stage has seen (paper 4.1.2): greedy and K samples of each model, with intervals.

In: `curation` (heldout.parquet; benchmarks.parquet for those that the recipe names; the training splits), `sft`, `selection`, every arm,
and `codeforces-standings`, where there are any. Out: samples.parquet (SAMPLE_SCHEMA + `model`) and results.json
{`<model>/<group>/<metric>`: {value, low, high, n}}; the tables `results`, `comparisons`, `responses` and `ledger`, and of named benchmarks
`benchmarks`, `benchmark_scores`, `benchmark_responses`, `points` and `rating`.

Groups: `all` and each domain over the levels that RL trains on, `harder` for levels above them, each level and each domain's
levels, and each benchmark. Where `evaluation.benchmarks` names some, those are asked by their own protocols and no other is; where it
names none, curation's are asked as the held-out problems are. Metrics: `greedy`, `pass@1` (average over K samples), `pass@k` for
k = 4, 16 and K, `maj@K` from three samples on. Differences are paired by problem. Intervals, p and the smallest difference that would be
shown are those of `statistics`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.schema import write_table
from data.sources.procedural import describe
from stages.config import EvaluationConfig, Runtime
from stages.evaluation.asked import Asked, asked_of
from stages.evaluation.benchmarks import (
    benchmark_notes,
    benchmark_rows,
    benchmark_score_rows,
    require_room,
    response_rows,
)
from stages.evaluation.contamination import trained_rows
from stages.evaluation.groups import problem_clusters
from stages.evaluation.parts import GREEDY, Answers, Part, part_jobs, part_results, part_scores
from stages.evaluation.points import point_rows, rating_rows
from stages.evaluation.scores import Results, Scores, result_rows, score_text, shown_samples, with_model
from stages.evaluation.statistics import Difference, estimate_difference
from stages.local_files import STANDINGS
from stages.records.artifact import read_manifest, write_json
from stages.sampling.engines import chain_sampler
from stages.sampling.prompting import chosen_model, model_folder
from stages.sampling.requests import Policy, SamplingJob
from stages.sampling.sampler import sample_and_judge
from stages.sampling.scores import (
    checker_failures,
    judge_failures,
    num_weak,
    require_judged,
    status_counts,
)
from stages.seeds import derive_seed
from stages.stage import ROLLOUTS, STATE, Row, StageLog, StageRecord
from stages.training.checkpoints import checkpoints_of
from stages.training.ledger import flops_spent, tokens_trained

SFT = "sft"
_OF = "."  # between a model and a part in the name of a job; no name of a model has it


def run(
    config: EvaluationConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog
) -> StageRecord:
    """Answer, judge, and compare."""
    models = {SFT: chosen_model(inputs)} | {
        key.removeprefix("rl/"): model_folder(folder) for key, folder in inputs.items() if key.startswith("rl/")
    }
    asked = asked_of(config, inputs["curation"])
    for folder in models.values():
        require_room(asked.benchmarks, Policy.of(folder))
    with chain_sampler(models[SFT], runtime, published=out / STATE / "published") as sampler:
        jobs = _jobs(config, models, asked.parts)
        sampled = sample_and_judge(jobs, sampler=sampler, folder=out / STATE / "samples", log=log)
    write_table(with_model(sampled.tables.values(), map(_model_of, sampled.tables)), out / "samples.parquet")
    answers = {model: _of_model(sampled.tables, model) for model in models}
    scores = [(part, part_scores(part, answers)) for part in asked.parts]
    results: Results = {}
    for part, found in scores:
        results |= part_results(part, found, confidence=config.confidence)
    write_json(out / "results.json", results)
    pairs = _pairs([*models], rl_arms=_rl_arms(inputs))
    comparisons = [
        row
        for part, found in scores
        for row in _comparisons(
            found, part.groups, problem_clusters(part.problems), pairs=pairs, confidence=config.confidence
        )
    ]
    differences = {
        f"{row['model']} - {row['against']}/{row['group']}/{row['metric']}": row["difference"] for row in comparisons
    }
    failures = judge_failures(sampled.tables.values())
    require_judged(failures, sum(map(len, sampled.tables.values())), config=config, stage="evaluation")
    return StageRecord(
        metrics={name: entry["value"] for name, entry in results.items()}
        | differences
        | {
            "judge/total_failures": float(failures.total()),
            "judge/checker_failures": float(checker_failures(sampled.tables.values())),
            "judge/weak": float(num_weak(sampled.tables.values())),
        },
        tables={
            "summary": _summary(results, models, [group for part in asked.own for group in part.groups]),
            **_benchmark_tables(asked, answers, results, inputs=inputs),
            "results": result_rows(results),
            "comparisons": comparisons,
            "responses": _response_rows(asked.own, answers),
            "ledger": _ledger(inputs, results, starts=_starts(inputs)),
            "samples": shown_samples(_greedy(asked.parts, answers), asked.problems),
            "verdicts": [{"status": name, "count": n} for name, n in status_counts(sampled.tables.values()).items()],
        },
        notes=_notes(failures.total(), asked),
        timings=sampled.timings,
    )


# ---------------------------------------------------------------- sampling


def _jobs(config: EvaluationConfig, models: Mapping[str, Path], parts: Sequence[Part]) -> list[SamplingJob]:
    seed = derive_seed(config.seed, "evaluation")  # the same for all models: they differ by their weights alone
    return [
        job
        for model, folder in models.items()
        for job in part_jobs(
            parts, policy=Policy.of(folder), sampling=config.sampling, seed=seed, prefix=f"{model}{_OF}"
        )
    ]


def _model_of(job: str) -> str:
    return job.split(_OF, 1)[0]


def _of_model(tables: Mapping[str, pa.Table], model: str) -> dict[str, pa.Table]:
    """The responses of one model, by job of a part."""
    return {name.split(_OF, 1)[1]: table for name, table in tables.items() if _model_of(name) == model}


def _greedy(parts: Sequence[Part], answers: Answers) -> dict[str, pa.Table]:
    """Model -> its greedy responses."""
    return {model: pa.concat_tables([tables[part.job(GREEDY)] for part in parts]) for model, tables in answers.items()}


# ---------------------------------------------------------------- comparisons


def _pairs(models: Sequence[str], *, rl_arms: Sequence[str]) -> list[tuple[str, str]]:
    """What is compared: every arm against SFT, every RL arm against every control, RL arms against each other."""
    arms = [model for model in models if model != SFT]
    controls = [arm for arm in arms if arm not in rl_arms]
    pairs = [(arm, SFT) for arm in arms] + [(arm, control) for arm in rl_arms for control in controls]
    return pairs + [(first, second) for index, first in enumerate(rl_arms) for second in rl_arms[index + 1 :]]


def _comparisons(
    scores: Scores,
    groups: Mapping[str, Sequence[str]],
    clusters: Mapping[str, str],
    *,
    pairs: Sequence[tuple[str, str]],
    confidence: float,
) -> list[Row]:
    """Paired differences on the problems that were judged for both."""
    rows = []
    for model, against in pairs:
        for group, ids in groups.items():
            clusters_P = [clusters[problem_id] for problem_id in ids]
            for metric, ours in scores[model].items():
                theirs = scores[against][metric]
                differences_P = np.array([ours[problem_id] - theirs[problem_id] for problem_id in ids])
                found = estimate_difference(differences_P, confidence=confidence, clusters_P=clusters_P)
                if found is not None:
                    names = {"model": model, "against": against, "group": group, "metric": metric}
                    rows.append(names | _difference(found))
    return rows


def _difference(found: Difference) -> Row:
    return {
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.num_problems,
        "excludes_zero": found.low > 0 or found.high < 0,
        "p": found.p,
        "smallest_difference": found.smallest,
        "unequal": found.num_unequal,
    }


# ---------------------------------------------------------------- tables


def _response_rows(parts: Sequence[Part], answers: Answers) -> list[Row]:
    """How the responses of each model are, greedy and sampled."""
    return [{"model": model} | row for model, tables in answers.items() for row in response_rows(parts, tables)]


def _benchmark_tables(
    asked: Asked, answers: Answers, results: Results, *, inputs: Mapping[str, Path]
) -> dict[str, list[Row]]:
    """What is told of the benchmarks that the recipe names; nothing where it names none."""
    if not (asked.benchmarks or asked.absent):
        return {}
    trained = trained_rows(asked.sets, inputs["curation"]) or {}
    tables = {
        "benchmark_scores": benchmark_score_rows(
            asked.benchmarks, results, models=[*answers], trained=trained, absent=asked.absent
        ),
        "benchmarks": benchmark_rows(asked.benchmarks, asked.sets, trained),
        "benchmark_responses": _response_rows(asked.benchmarks, answers),
        "points": _by_model(answers, lambda found: point_rows(asked.sets, found)),
        "rating": _by_model(answers, lambda found: rating_rows(asked.sets, found, standings=inputs.get(STANDINGS))),
    }
    return {name: rows for name, rows in tables.items() if rows}


def _by_model(answers: Answers, rows_of: Callable[[Mapping[str, pa.Table]], list[Row]]) -> list[Row]:
    return [{"model": model} | row for model, tables in answers.items() for row in rows_of(tables)]


def _summary(results: Mapping[str, Mapping[str, float]], models: Iterable[str], groups: Iterable[str]) -> list[Row]:
    """A row a model and metric, a column a group: value and interval as text."""
    shown = [group for group in groups if "level" not in group]
    return [
        {"model": model, "metric": metric}
        | {group: score_text(results.get(f"{model}/{group}/{metric}")) for group in shown}
        for metric in ("greedy", "pass@1")
        for model in models
        if shown
    ]


def _rl_arms(inputs: Mapping[str, Path]) -> list[str]:
    """Arms that were trained by RL: those that keep rollouts."""
    return [key.removeprefix("rl/") for key, folder in inputs.items() if (folder / ROLLOUTS).is_dir()]


def _starts(inputs: Mapping[str, Path]) -> dict[str, str]:
    """Arms that name another start than the chosen checkpoint -> its folder."""
    configs = {
        key.removeprefix("rl/"): read_manifest(folder).document["payload"]["config"]
        for key, folder in inputs.items()
        if key.startswith("rl/")
    }
    named = {arm: one.get("start") for arm, config in configs.items() for one in config.get("arms", ())}
    return {arm: start for arm, start in named.items() if start}


def _ledger(
    inputs: Mapping[str, Path], results: Mapping[str, Mapping[str, float]], *, starts: Mapping[str, str]
) -> list[Row]:
    """Token efficiency (paper 4.3.2): tokens that an arm trained on, over those of its SFT start, and FLOPs, beside its scores."""
    checkpoints, chosen = checkpoints_of(inputs["sft"]), chosen_model(inputs).name
    sft_tokens = {name: checkpoint.tokens_trained for name, checkpoint in checkpoints.items()}
    arms = {key.removeprefix("rl/"): folder for key, folder in inputs.items() if key.startswith("rl/")}
    spent = {SFT: (0, 0.0)} | {arm: (tokens_trained(folder), flops_spent(folder)) for arm, folder in arms.items()}
    most = max(flops for _, flops in spent.values()) or 1.0
    return [
        {
            "model": model,
            "start": starts.get(model, chosen),
            "sft_tokens": sft_tokens[starts.get(model, chosen)],
            "further_tokens": tokens,
            "further / sft": tokens / sft_tokens[starts.get(model, chosen)],
            "further_flops": flops,
            "flops / most": flops / most,
            "greedy": results[f"{model}/all/greedy"]["value"],
            "pass@1": results[f"{model}/all/pass@1"]["value"],
        }
        for model, (tokens, flops) in spent.items()
        if f"{model}/all/greedy" in results and f"{model}/all/pass@1" in results
    ]


def _notes(failures: int, asked: Asked) -> tuple[str, ...]:
    judged = f"the judge failed on {failures} responses; they count neither as right nor as wrong" if failures else ""
    generated = describe(problem.source for problem in asked.problems)
    told = benchmark_notes(asked.benchmarks, asked.sets, absent=asked.absent)
    return tuple(note for note in (judged, generated, *told) if note)
