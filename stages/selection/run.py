"""Choice of the SFT checkpoint that RL starts from (paper 4.3.1, 4.3.2), then grading of the RL pool by it (2.3).

In: `curation` (probe.parquet, rl.parquet) and `sft` (checkpoints.json and the folders that it names).
Out: choice.json, with what every rule would have chosen; probe.parquet (samples + `checkpoint`), graded.parquet (`GRADED_SCHEMA`), the
samples from which it follows (graded_samples.parquet and, with a stronger model, stronger_samples.parquet); the tables `candidates`,
`rules` and `grading`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from data.schema import PROBLEM_SCHEMA, Problem, problems_from_table, read_table, write_table
from ring_model.checkpoint import check_folder
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime, SelectionConfig, SelectionRule
from stages.records.artifact import write_json
from stages.sampling.engines import chain_sampler
from stages.sampling.prompting import CHOICE
from stages.sampling.requests import Policy, SamplingJob
from stages.sampling.sampler import Sampled, sample_and_judge
from stages.sampling.scores import (
    checker_failures,
    count_solved,
    judge_failures,
    mean_pass_at_k,
    mean_score,
    mean_tokens,
    num_weak,
    policy_entropy,
    require_judged,
    scores_by_problem,
)
from stages.seeds import derive_seed
from stages.selection.rule import RULES, Candidate, Choice, NoChoiceError, by_validation_loss, choose, is_inside
from stages.stage import STATE, Row, StageLog, StageRecord
from stages.training.checkpoints import Checkpoint, checkpoint_folders, checkpoints_of

STRONGER = "stronger"
Ask = Callable[[Sequence[SamplingJob]], Sampled]


def run(
    config: SelectionConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog
) -> StageRecord:
    """Probe every checkpoint, choose one, and let it grade the RL pool.

    Raises ValueError for a broken folder of the stronger model, and where the rule has nothing to go by.
    """
    if config.stronger is not None:
        check_folder(config.stronger)
        Tokenizer.from_folder(config.stronger)
    checkpoints = checkpoints_of(inputs["sft"])
    if config.rule == "validation-loss":  # it is known whether it can choose before anything is sampled
        by_validation_loss({name: checkpoint.validation_loss for name, checkpoint in checkpoints.items()})
    first = checkpoint_folders(inputs["sft"])[0]
    with chain_sampler(first, runtime, published=out / STATE / "published") as sampler:
        ask = partial(sample_and_judge, sampler=sampler, folder=out / STATE / "samples", log=log)
        probed, probe_seconds = _probe(config, checkpoints, inputs=inputs, out=out, ask=ask)
        candidates = [_candidate(checkpoint, probed, config) for checkpoint in checkpoints.values()]
        choice = choose(candidates, config)
        _log_candidates(candidates, choice, config, log)
        grading = _grade(config, choice, inputs=inputs, out=out, ask=ask)
    chosen = next(candidate for candidate in candidates if candidate.checkpoint == choice.checkpoint)
    rules = [_rule_row(rule, candidates, config) for rule in RULES]
    write_json(
        out / CHOICE,
        {
            "checkpoint": choice.checkpoint,
            "inside_window": is_inside(chosen, config.entropy_window),
            "why": choice.why,
            "window": list(config.entropy_window),
            "rule": config.rule,
            "rules": rules,
        },
    )
    judged = [*probed.values(), *grading.samples.values()]
    failures = judge_failures(judged)
    require_judged(failures, sum(map(len, judged)), config=config, stage="selection")
    return StageRecord(
        metrics=_choice_metrics(chosen, rules, checkpoints, config) | _grading_metrics(grading),
        tables={
            "candidates": [_row(candidate, choice, checkpoints, config) for candidate in candidates],
            "rules": rules,
            "grading": [_grader_row(model, samples) for model, samples in grading.samples.items()],
        },
        notes=_notes(choice, failures.total()),
        timings={f"probe_{name}": value for name, value in probe_seconds.items()}
        | {f"grading_{name}": value for name, value in grading.seconds.items()},
    )


# ---------------------------------------------------------------- the probe


def _probe(
    config: SelectionConfig,
    checkpoints: Iterable[str],
    *,
    inputs: Mapping[str, Path],
    out: Path,
    ask: Ask,
) -> tuple[dict[str, pa.Table], dict[str, float]]:
    problems = _problems(inputs["curation"] / "probe.parquet")
    seed = derive_seed(
        config.seed, "selection", "probe"
    )  # the same for every checkpoint: they differ by the model alone
    jobs = [
        SamplingJob(
            f"{checkpoint}.{mode}",
            Policy.of(inputs["sft"] / checkpoint),
            problems,
            num_samples,
            config.sampling,
            seed,
        )
        for checkpoint in checkpoints
        for mode, num_samples in (("greedy", 0), ("sampled", config.samples_per_problem))
    ]
    sampled = ask(jobs)
    named = [
        table.append_column("checkpoint", pa.array([name.rpartition(".")[0]] * len(table), pa.string()))
        for name, table in sampled.tables.items()
    ]
    write_table(pa.concat_tables(named), out / "probe.parquet")
    return sampled.tables, sampled.timings


def _problems(path: Path) -> tuple[Problem, ...]:
    problems = tuple(problems_from_table(read_table(path, PROBLEM_SCHEMA)))
    if not problems:
        raise ValueError(f"{path} holds no problem: give curation a source for the split `{path.stem}`")
    return problems


def _candidate(checkpoint: Checkpoint, probed: Mapping[str, pa.Table], config: SelectionConfig) -> Candidate:
    greedy, sampled = (probed[f"{checkpoint.checkpoint}.{mode}"] for mode in ("greedy", "sampled"))
    scores = scores_by_problem(sampled)
    return Candidate(
        checkpoint.checkpoint,
        entropy=policy_entropy(sampled),
        pass_at_1=mean_score(scores),
        pass_at_k=mean_pass_at_k(scores, k=config.samples_per_problem),
        greedy=mean_score(scores_by_problem(greedy)),
        mean_tokens=mean_tokens(sampled),
        validation_loss=checkpoint.validation_loss,
    )


# ---------------------------------------------------------------- grading


@dataclass(frozen=True, slots=True)
class _Grading:
    """What grading found."""

    table: pa.Table  # GRADED_SCHEMA
    samples: dict[str, pa.Table]  # SAMPLE_SCHEMA by who answered: the checkpoint, and `stronger` where there is one
    seconds: dict[str, float]  # by activity, summed over models and workers


def _grade(config: SelectionConfig, choice: Choice, *, inputs: Mapping[str, Path], out: Path, ask: Ask) -> _Grading:
    """The checkpoint answers every RL problem; the stronger model only those that the checkpoint never solves: no other depends on it."""

    def responses(name: str, model: Path, asked: tuple[Problem, ...], stream: str) -> tuple[pa.Table, dict[str, float]]:
        seed = derive_seed(config.seed, "selection", stream)
        job = SamplingJob(name, Policy.of(model), asked, config.grading_samples, config.sampling, seed)
        sampled = ask([job])
        return sampled.tables[name], sampled.timings

    problems = _problems(inputs["curation"] / "rl.parquet")
    model = inputs["sft"] / choice.checkpoint
    own, seconds = responses(f"grading.{choice.checkpoint}", model, problems, "grading")
    write_table(own, out / "graded_samples.parquet")
    samples = {choice.checkpoint: own}
    if config.stronger is not None:
        scores = scores_by_problem(own)
        unsolved = tuple(row for row in problems if scores[row.id] and not any(scores[row.id]))
        stronger, more = responses("grading.stronger", Path(config.stronger), unsolved, "stronger")
        write_table(stronger, out / "stronger_samples.parquet")
        samples[STRONGER] = stronger
        seconds = {activity: spent + more[activity] for activity, spent in seconds.items()}
    graded = count_solved(own, num_samples=config.grading_samples, stronger=samples.get(STRONGER))
    write_table(graded, out / "graded.parquet")
    return _Grading(graded, samples, seconds)


# ---------------------------------------------------------------- what is said about it


def _row(candidate: Candidate, choice: Choice, checkpoints: Mapping[str, Checkpoint], config: SelectionConfig) -> Row:
    chosen = candidate.checkpoint == choice.checkpoint
    tokens = {name: checkpoint.tokens_trained for name, checkpoint in checkpoints.items()}
    return {
        "checkpoint": candidate.checkpoint,
        **_figures(candidate, config),
        "sft_tokens": tokens[candidate.checkpoint],
        "share of SFT": tokens[candidate.checkpoint] / max(tokens.values()),
        "chosen": chosen,
        "why": choice.why if chosen else "",
    }


def _rule_row(rule: SelectionRule, candidates: Sequence[Candidate], config: SelectionConfig) -> Row:
    """What a rule would have chosen and why; None and the reason where it cannot choose."""
    try:
        found = RULES[rule](candidates, config)
        checkpoint, why = found.checkpoint, found.why
    except NoChoiceError as reason:
        checkpoint, why = None, str(reason)
    return {"rule": rule, "checkpoint": checkpoint, "why": why, "applied": rule == config.rule}


def _grader_row(model: str, samples: pa.Table) -> Row:
    judged = {problem_id: scores for problem_id, scores in scores_by_problem(samples).items() if scores}
    return {
        "model": model,
        "asked": len(samples["problem_id"].unique()),
        "judged": len(judged),
        "solved": sum(any(scores) for scores in judged.values()),
        "always solved": sum(min(scores) == 1 for scores in judged.values()),
        "solve rate": mean_score(judged) if judged else None,
    }


def _log_candidates(candidates: list[Candidate], choice: Choice, config: SelectionConfig, log: StageLog) -> None:
    for number, candidate in enumerate(candidates, start=1):
        log.metrics(number, {f"candidate/{name}": value for name, value in _measured(candidate, config).items()})
    log.message(f"{choice.checkpoint}: {choice.why}")


def _figures(candidate: Candidate, config: SelectionConfig) -> dict[str, float | None]:
    return {
        "entropy": candidate.entropy,
        "pass@1": candidate.pass_at_1,
        f"pass@{config.samples_per_problem}": candidate.pass_at_k,
        "greedy": candidate.greedy,
        "mean_tokens": candidate.mean_tokens,
        "validation_loss": candidate.validation_loss,
    }


def _measured(candidate: Candidate, config: SelectionConfig) -> dict[str, float]:
    return {name: value for name, value in _figures(candidate, config).items() if value is not None}


def _choice_metrics(
    chosen: Candidate, rules: Sequence[Row], checkpoints: Mapping[str, Checkpoint], config: SelectionConfig
) -> dict[str, float]:
    """Of the chosen checkpoint, and how many epochs the one of each rule has seen."""
    chosen_by = {row["rule"]: row["checkpoint"] for row in rules if row["checkpoint"] is not None}
    return {
        "selection/epoch": float(checkpoints[chosen.checkpoint].epoch),
        "selection/is_mean": float(bool(checkpoints[chosen.checkpoint].mean_of)),
        "selection/inside_window": float(is_inside(chosen, config.entropy_window)),
        **{f"selection/{name}": value for name, value in _measured(chosen, config).items()},
        **{f"rule/{rule}_epoch": float(checkpoints[name].epoch) for rule, name in chosen_by.items()},
        "rule/num_choices": float(len(set(chosen_by.values()))),
    }


def _grading_metrics(grading: _Grading) -> dict[str, float]:
    graded = grading.table
    counts = zip(graded["num_correct"].to_pylist(), graded["num_samples"].to_pylist(), strict=True)
    rates = [correct / judged for correct, judged in counts if judged]
    return {
        "grading/num_problems": float(len(graded)),
        "grading/solve_rate": sum(rates) / max(len(rates), 1),
        "grading/always_solved": sum(rate == 1 for rate in rates) / max(len(rates), 1),
        "grading/never_solved": sum(rate == 0 for rate in rates) / max(len(rates), 1),
        "grading/judge_failures": float(judge_failures(grading.samples.values()).total()),
        "grading/checker_failures": float(checker_failures(grading.samples.values())),
        "judge/weak": float(num_weak(grading.samples.values())),
        **_stronger_metrics(grading),
    }


def _stronger_metrics(grading: _Grading) -> dict[str, float]:
    if STRONGER not in grading.samples:
        return {}
    row = _grader_row(STRONGER, grading.samples[STRONGER])
    return {"grading/stronger_asked": float(row["asked"]), "grading/stronger_solved": float(row["solved"])}


def _notes(choice: Choice, failures: int) -> tuple[str, ...]:
    notes = [choice.why] if choice.is_makeshift else []
    if failures:
        notes.append(f"the judge failed on {failures} responses; they count neither as right nor as wrong")
    return tuple(notes)
