"""What RL gains over seeds: the laptop chain for seeds 0, 1, 2, pooled paired differences on problems used for no choice.

    python -m benchmarks seeds

Runs `ring run laptop --set seed=N` for each seed (finished ones come from the cache), and prints two Markdown tables: the scores of
each seed and model, and the differences with 95 % intervals, by seed and pooled. Every seed draws its own problems, traces,
weights and samples. An interval is a percentile bootstrap over problems; pooled, over the problems of all seeds.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.schema import problems_from_table, read_table
from stages.evaluation.groups import problem_groups
from stages.evaluation.statistics import estimate_mean
from stages.records.artifact import read_manifest
from stages.sampling.scores import scores_by_problem

SEEDS = (0, 1, 2)
METRICS = ("greedy", "pass@1")
MODELS = ("sft", "mixed", "phased", "more-sft")
PAIRS = (
    ("mixed", "sft"),
    ("phased", "sft"),
    ("more-sft", "sft"),
    ("mixed", "more-sft"),
    ("phased", "more-sft"),
    ("phased", "mixed"),
)
Scores = dict[tuple[str, str], dict[str, float]]  # (model, metric) -> problem id -> mean over samples


def main() -> None:
    by_seed = {seed: _scores(_run(seed)) for seed in SEEDS}
    sys.stdout.write("\n".join([*_score_table(by_seed), "", *_difference_table(by_seed)]) + "\n")


def _run(seed: int) -> Path:
    command = [sys.executable, "-m", "flows.cli", "run", "laptop", "--set", f"seed={seed}", "--json"]
    document = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    return Path(next(entry["artifact"] for entry in document["stages"] if entry["stage"] == "evaluation"))


def _scores(artifact: Path) -> Scores:
    """Of the problems at the levels that RL trains on (`all` of the evaluation); what the judge failed on is left out."""
    made_from = read_manifest(artifact).inputs["curation"]["fingerprint"]
    curation = artifact.parents[1] / "curation" / made_from
    heldout = problems_from_table(read_table(curation / "heldout.parquet"))
    trained = [problem.level for problem in problems_from_table(read_table(curation / "rl.parquet"))]
    wanted = pa.array(problem_groups(heldout, trained_levels=trained)["all"])
    samples = pq.read_table(artifact / "samples.parquet")
    samples = samples.filter(pc.field("problem_id").isin(wanted))
    scores: Scores = {}
    for model in MODELS:
        rows = samples.filter(pc.field("model") == model)
        for metric, part in (
            ("greedy", rows.filter(pc.field("sample") < 0)),
            ("pass@1", rows.filter(pc.field("sample") >= 0)),
        ):
            scores[model, metric] = {
                name: float(np.mean(values)) for name, values in scores_by_problem(part).items() if values
            }
    return scores


def _score_table(by_seed: dict[int, Scores]) -> list[str]:
    lines = [
        "| model | metric | " + " | ".join(f"seed {seed}" for seed in by_seed) + " |",
        "| --- | --- |" + " --- |" * len(by_seed),
    ]
    for model in MODELS:
        for metric in METRICS:
            means = [f"{np.mean(list(scores[model, metric].values())):.3f}" for scores in by_seed.values()]
            lines.append(f"| {model} | {metric} | " + " | ".join(means) + " |")
    return lines


def _difference_table(by_seed: dict[int, Scores]) -> list[str]:
    titles = [f"seed {seed}" for seed in by_seed] + ["pooled"]
    lines = ["| difference | metric | " + " | ".join(titles) + " |", "| --- | --- |" + " --- |" * len(titles)]
    for model, against in PAIRS:
        for metric in METRICS:
            parts = [_differences(scores, model, against, metric) for scores in by_seed.values()]
            cells = [_cell(part) for part in (*parts, np.concatenate(parts))]
            lines.append(f"| {model} - {against} | {metric} | " + " | ".join(cells) + " |")
    return lines


def _differences(scores: Scores, model: str, against: str, metric: str) -> np.ndarray:
    ours, theirs = scores[model, metric], scores[against, metric]
    return np.array([ours[name] - theirs[name] for name in sorted(ours.keys() & theirs.keys())])


def _cell(differences: np.ndarray) -> str:
    estimate = estimate_mean(differences, seed=0, num_resamples=9_999, confidence=0.95)
    assert estimate is not None
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
