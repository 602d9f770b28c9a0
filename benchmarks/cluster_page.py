"""Tables, plots and the page of the cluster on paper; every number in them comes from the run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import exp, log
from statistics import NormalDist, fmean, pstdev
from textwrap import fill
from typing import Any

from benchmarks.cluster_costs import Lengths, log_centre
from benchmarks.cluster_methods import Step
from benchmarks.cluster_runs import (
    COMPARED_SLOTS,
    FILLING_STEPS,
    GROWTH,
    RANKED,
    REFERENCE,
    SENSITIVITY_STEPS,
    SLOTS,
    SLOWEST_TRAINING,
    Results,
    Runs,
    oversampled_prompts,
)
from stages.report.charts import as_file, bar_chart, line_chart

Table = list[dict[str, str]]
ROLLOUT_CLAIM, END_TO_END_CLAIM, STEADIER_CLAIM = 2.5, 1.5, 2.0
ENDS = 5  # steps at each end of a drift
DECODED_ROWS = (1, 8, 16, 32, 64)
PARTS: dict[str, Callable[[Step], float]] = {
    "sampling": lambda step: step.rollout,
    "waiting for the slowest sampler": lambda step: step.rollout_idle,
    "training": lambda step: step.training,
    "waiting for the slowest trainer": lambda step: step.training_idle,
    "overhead": lambda step: step.overhead,
}

# ---------------------------------------------------------------- figures of a run


def mean(steps: Sequence[Step], value: Callable[[Step], float]) -> float:
    """Over steps."""
    return fmean(map(value, steps))


def variation(steps: Sequence[Step], value: Callable[[Step], float]) -> float:
    """Standard deviation over steps, as a share of the mean; without those in which a pool fills."""
    settled = steps[FILLING_STEPS:]
    return pstdev(list(map(value, settled))) / mean(settled, value)


def per_token(steps: Sequence[Step], seconds: Callable[[Step], float]) -> float:
    """Seconds for a trained token, over all steps."""
    return sum(map(seconds, steps)) / sum(step.num_trained for step in steps)


def rollout_ratio(steps: Sequence[Step], reference: Sequence[Step]) -> float:
    """How many times as fast steps sample for a trained token."""
    return per_token(reference, lambda step: step.rollout_phase) / per_token(steps, lambda step: step.rollout_phase)


def end_to_end_ratio(steps: Sequence[Step], reference: Sequence[Step]) -> float:
    """How many times as fast steps are for a trained token."""
    return per_token(reference, lambda step: step.seconds) / per_token(steps, lambda step: step.seconds)


def lost_share(steps: Sequence[Step]) -> float:
    """Of sampled tokens, those that are never trained."""
    return sum(step.num_lost for step in steps) / sum(step.num_sampled for step in steps)


def mean_age(steps: Sequence[Step]) -> float:
    """Updates between the sampling and the training of a token."""
    return sum(step.age_sum for step in steps) / sum(step.num_trained for step in steps)


def throughput(step: Step) -> float:
    """Trained tokens a second."""
    return step.num_trained / step.seconds


def verdict(values: Mapping[str, float], claim: float) -> str:
    """What is to be said of a claim that is reached under some of these conditions."""
    reached = [name for name, value in values.items() if value >= claim]
    if len(reached) == len(values):
        return "confirmed on paper"
    *most, last = reached or [""]
    return f"only with {', '.join(most)}{' or ' if most else ''}{last}" if reached else "not on paper"


def _pools(results: Results) -> Runs:
    return {f"{slots} slots": results.base[f"C3PO++, {slots} slots"] for slots in SLOTS}


# ---------------------------------------------------------------- tables


@dataclass(frozen=True, slots=True)
class Section:
    """A table of the page, with what is to be known before it is read."""

    title: str
    rows: Table
    note: str = ""
    plot: str = ""  # name of the one that follows


def sections(results: Results) -> list[Section]:
    """All tables, in their order."""
    base, drift = (
        results.base.items(),
        f"A mean length that grows by {GROWTH:.0%} a step",
    )
    return [
        Section("A step: seconds by part", [_part_row(*run) for run in base], note=PARTS_NOTE, plot="step"),
        Section("A step: what is trained", [_trained_row(*run, results) for run in base], note=TRAINED_NOTE),
        Section("C3PO++: pool and expiry", _pool_table(results), note=POOL_NOTE),
        Section(drift, _drift_table(results), note=DRIFT_NOTE, plot="drift"),
        Section(
            "Other assumptions", [_sensitivity_row(*run) for run in results.sensitivity.items()], note=SENSITIVITY_NOTE
        ),
        Section("Claims", _claim_table(results), note=CLAIMS_NOTE),
    ]


def _part_row(name: str, steps: Sequence[Step]) -> dict[str, str]:
    parts = {title: f"{mean(steps, value):.1f}" for title, value in PARTS.items()}
    return {
        "method": name,
        "step": f"{mean(steps, lambda step: step.seconds):.0f}",
        **parts,
        "GPUs idle": f"{mean(steps, lambda step: step.idle_share):.1%}",
        "slots filled": f"{mean(steps, lambda step: step.filled_share):.0%}",
        "waves": f"{mean(steps, lambda step: step.num_waves):.1f}",
    }


def _trained_row(name: str, steps: Sequence[Step], results: Results) -> dict[str, str]:
    capacity = results.world.cluster.context_capacity
    return {
        "method": name,
        "tokens, millions": f"{mean(steps, lambda step: step.num_trained) / 1e6:.1f}",
        "their CV": f"{variation(steps, lambda step: step.num_trained):.1%}",
        "step seconds' CV": f"{variation(steps, lambda step: step.seconds):.1%}",
        "tokens/s, thousands": f"{1e-3 / per_token(steps, lambda step: step.seconds):.0f}",
        "its CV": f"{variation(steps, throughput):.1%}",
        "sampled in vain": f"{lost_share(steps):.1%}",
        "age, mean": f"{mean_age(steps):.2f}",
        "age, most": f"{max(step.max_age for step in steps)}",
        "trained length": f"{mean(steps, lambda step: step.mean_length):,.0f}",
        "memory of the fullest rank": f"{max(step.peak_context for step in steps) / capacity:.0%}",
        "ranks beyond it": f"{mean(steps, lambda step: step.crowded_share):.0%}",
    }


def _pool_table(results: Results) -> Table:
    runs = {name: steps for name, steps in (results.base | results.expiry).items() if name.startswith("C3PO++")}
    reference = results.base[REFERENCE]
    return [
        {
            "method": name,
            "sampling, x": f"{rollout_ratio(steps, reference):.2f}",
            "end to end, x": f"{end_to_end_ratio(steps, reference):.2f}",
            "sampled in vain": f"{lost_share(steps):.1%}",
            "trained length": f"{mean(steps, lambda step: step.mean_length):,.0f}",
            "age, mean": f"{mean_age(steps):.2f}",
            "age, most": f"{max(step.max_age for step in steps)}",
        }
        for name, steps in sorted(runs.items())
    ]


def _both_ends(steps: Sequence[Step]) -> tuple[Sequence[Step], Sequence[Step]]:
    return steps[FILLING_STEPS : FILLING_STEPS + ENDS], steps[-ENDS:]


def _drift_table(results: Results) -> Table:
    def ends(steps: Sequence[Step], value: Callable[[Step], float], form: str) -> str:
        return ", ".join(f"{mean(end, value):{form}}" for end in _both_ends(steps))

    return [
        {
            "method": name,
            "mean trained length": ends(steps, lambda step: step.mean_length, ",.0f"),
            "step, s": ends(steps, lambda step: step.seconds, ".0f"),
            "sampling phase, s": ends(steps, lambda step: step.rollout_phase, ".0f"),
            "training phase, s": ends(steps, lambda step: step.training_phase, ".1f"),
            "tokens, millions": ends(steps, lambda step: step.num_trained / 1e6, ".0f"),
            "tokens/s, thousands": ends(steps, lambda step: throughput(step) / 1e3, ".0f"),
            "CV of tokens/s": f"{variation(steps, throughput):.1%}",
            "sampled in vain": f"{lost_share(steps):.0%}",
        }
        for name, steps in results.drift.items()
    ]


def _sensitivity_row(name: str, runs: Runs) -> dict[str, str]:
    reference, ranked = runs[REFERENCE], runs[RANKED]
    row = {
        "assumption": name,
        "GRPO's step, s": f"{mean(reference, lambda step: step.seconds):.0f}",
        "of it sampling": f"{mean(reference, lambda step: step.rollout_phase / step.seconds):.0%}",
        "its idle": f"{mean(reference, lambda step: step.idle_share):.0%}",
        "C3PO per rank, tokens against GRPO": f"{_tokens_ratio(ranked, reference):.0%}",
    }
    for slots in COMPARED_SLOTS:
        steps = runs[f"C3PO++, {slots} slots"]
        row[f"{slots} slots: sampling, x"] = f"{rollout_ratio(steps, reference):.2f}"
        row[f"{slots} slots: end to end, x"] = f"{end_to_end_ratio(steps, reference):.2f}"
        row[f"{slots} slots: ranks beyond their memory"] = f"{mean(steps, lambda step: step.crowded_share):.0%}"
    return row


def _tokens_ratio(steps: Sequence[Step], reference: Sequence[Step]) -> float:
    return sum(step.num_trained for step in steps) / sum(step.num_trained for step in reference)


def _claim_table(results: Results) -> Table:
    reference = results.base[REFERENCE]
    sampling = {name: rollout_ratio(steps, reference) for name, steps in _pools(results).items()}
    whole = {name: end_to_end_ratio(steps, reference) for name, steps in _pools(results).items()}
    steadier = {
        "lengths that grow" if runs is results.drift else "lengths that stay": variation(runs[REFERENCE], throughput)
        / variation(runs[RANKED], throughput)
        for runs in (results.base, results.drift)
    }
    return [
        _claim(f"C3PO++ samples about {ROLLOUT_CLAIM} x as fast (2510.18855)", sampling, ROLLOUT_CLAIM),
        _claim(f"C3PO++ is {END_TO_END_CLAIM} x as fast end to end (2510.18855)", whole, END_TO_END_CLAIM),
        _claim(
            f"C3PO's throughput is steadier than GRPO's (Fig. 7, 8): its CV lower by {STEADIER_CLAIM:.0f} x or more",
            steadier, STEADIER_CLAIM,
        ),
    ]  # fmt: skip


def _claim(text: str, values: Mapping[str, float], claim: float) -> dict[str, str]:
    found = ", ".join(f"{value:.2f} ({name})" for name, value in values.items())
    return {"claim": text, "found": found, "verdict": verdict(values, claim)}


# ---------------------------------------------------------------- plots


def plots(results: Results) -> dict[str, str]:
    """Name to a drawing that stands by itself."""
    bars = [(name, {part: mean(steps, value) for part, value in PARTS.items()}) for name, steps in results.base.items()]
    lines = {
        name: [(float(number), throughput(step) / 1e3) for number, step in enumerate(steps, start=1)]
        for name, steps in results.drift.items()
    }
    drift = line_chart(lines, x_label="step", y_label="trained tokens/s, thousands")
    return {
        "step": as_file(bar_chart(bars, x_label="seconds of a step")),
        "drift": as_file(drift),
    }


# ---------------------------------------------------------------- the page


def page(results: Results, *, plots: Mapping[str, str]) -> str:
    """The whole Markdown page; `plots` are file names beside it."""
    found = "\n".join(_wrapped(f"- {line}", indent="  ") for line in findings(results))
    parts = ["# The cluster on paper", _wrapped(_made_by(results)), found, *_assumptions(results)]
    for section in sections(results):
        parts += [f"## {section.title}", _wrapped(section.note), markdown(section.rows)]
        parts += [f"![{section.title}]({plots[section.plot]})"] if section.plot else []
    return "\n\n".join(part for part in [*parts, CHANGES] if part) + "\n"


def _wrapped(text: str, *, indent: str = "") -> str:
    return fill(text, width=140, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def markdown(rows: Table) -> str:
    """A table."""
    lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
    lines += [" | ".join(row.values()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _made_by(results: Results) -> str:
    return (
        f"`python -m benchmarks cluster --page docs/experiments/cluster.md` wrote this page: a simulation of "
        f"{results.world.cluster.num_ranks} GPUs, {len(results.base[REFERENCE])} steps a run, seed {results.world.seed}. "
        "Nothing here was measured on GPUs."
    )


def findings(results: Results) -> list[str]:
    """What was found, a sentence or a few each."""
    return [
        _sampling_found(results.base["GRPO, where sampled"]),
        _dealing_found(results.base["GRPO, where sampled"], results.base[REFERENCE]),
        _budget_found(results),
        _pool_found(results),
        _expiry_found(results),
        _drift_found(results.drift[REFERENCE], results.drift[RANKED]),
        _ratios_found(results),
    ]


def _sampling_found(steps: Sequence[Step]) -> str:
    part = mean(steps, lambda step: step.rollout_phase / step.seconds)
    idle, filled = mean(steps, lambda step: step.idle_share), mean(steps, lambda step: step.filled_share)
    return (
        f"**Sampling is {part:.0%} of GRPO's step** of {_seconds(steps)}. GPUs wait for the slowest {idle:.0%} of the time, "
        f"and {filled:.0%} of the decode slots are filled."
    )


def _dealing_found(sampled: Sequence[Step], dealt: Sequence[Step]) -> str:
    before, after = (mean(steps, lambda step: step.training_idle) for steps in (sampled, dealt))
    part = mean(sampled, lambda step: step.training_idle / step.training_phase)
    whole = mean(sampled, lambda step: step.training_idle / step.seconds)
    return (
        f"Trained where they were sampled, responses cost {before:.0f} s of waiting for the slowest trainer ({part:.0%} of the training "
        f"phase, {whole:.0%} of the step); dealt by tokens {after:.1f} s."
    )


def _budget_found(results: Results) -> str:
    ranked, extra = results.base[RANKED], results.base["C3PO per rank, extra prompts"]
    num_prompts, budget = oversampled_prompts(results.world.cluster), results.world.cluster.total_budget
    more = results.base[f"C3PO per rank, {num_prompts} prompts"]
    share, most = (mean(steps, lambda step: step.num_trained / budget) for steps in (ranked, more))
    waves = mean(extra, lambda step: step.num_waves)
    return (
        f"**C3PO alone does not make a step shorter** ({_seconds(ranked)}): it samples what GRPO samples. Per rank, without more "
        f"prompts, it trains {share:.0%} of Phi, since no rank gets what another has over. Asking more prompts where tokens lack takes "
        f"{waves:.1f} waves and {_seconds(extra)}; asking {num_prompts} prompts at once trains {most:.1%} of Phi in {_seconds(more)}, with "
        f"{lost_share(more):.0%} of the sampled tokens in vain, and {_fullest(more, results):.0%} of the memory for "
        "keys and values on the fullest rank."
    )


def _pool_found(results: Results) -> str:
    reference, told = results.base[REFERENCE], []
    for slots in COMPARED_SLOTS:
        steps = results.base[f"C3PO++, {slots} slots"]
        told.append(
            f"with {slots} slots a rank {rollout_ratio(steps, reference):.1f} x in sampling and {end_to_end_ratio(steps, reference):.1f} x "
            f"end to end, tokens {mean_age(steps):.1f} updates old on average and {max(step.max_age for step in steps)} at most, "
            f"{mean(steps, lambda step: step.crowded_share):.0%} of the ranks beyond their memory at some time of a step"
        )
    return f"**C3PO++ does**, for a trained token and against GRPO dealt by tokens: {'; '.join(told)}."


def _expiry_found(results: Results) -> str:
    slots = COMPARED_SLOTS[1]
    steps = results.expiry[f"C3PO++, {slots} slots, sigma 1"]
    length = mean(steps, lambda step: step.mean_length)
    return (
        f"**A short expiry is dear and favours short responses**: {slots} slots with sigma 1 lose {lost_share(steps):.0%} of the sampled "
        f"tokens, and trained responses have {length:,.0f} tokens on average where {results.world.lengths.mean:,.0f} are drawn."
    )


def _drift_found(reference: Sequence[Step], ranked: Sequence[Step]) -> str:
    (before, after), (start, end) = (
        [mean(end, lambda step: step.training_phase) for end in _both_ends(runs)] for runs in (reference, ranked)
    )
    return (
        f"When lengths grow by {GROWTH:.0%} a step, GRPO's training phase goes from {before:.0f} to {after:.0f} s, C3PO's per rank from "
        f"{start:.0f} to {end:.0f} s. Tokens/s vary by {variation(ranked, throughput):.1%} (CV) under C3PO and "
        f"{variation(reference, throughput):.1%} under GRPO, whose slots get fuller; the step itself goes from "
        f"{' to '.join(map(_seconds, _both_ends(ranked)))} under C3PO, "
        f"{' to '.join(map(_seconds, _both_ends(reference)))} under GRPO: "
        "C3PO steadies the update, not the sampling."
    )


def _ratios_found(results: Results) -> str:
    implied = (1 - 1 / END_TO_END_CLAIM) / (1 - 1 / ROLLOUT_CLAIM)
    slow, slots = results.sensitivity[SLOWEST_TRAINING], COMPARED_SLOTS[1]
    part, slow_part = (
        mean(steps, lambda step: step.rollout_phase / step.seconds)
        for steps in (results.base[REFERENCE], slow[REFERENCE])
    )
    pool = slow[f"C3PO++, {slots} slots"]
    return (
        f"The reported {ROLLOUT_CLAIM} x in sampling and {END_TO_END_CLAIM} x end to end agree with each other only where sampling is "
        f"{implied:.0%} of a step without C3PO++; here it is {part:.0%}, so that the two ratios lie close. With {SLOWEST_TRAINING} it is "
        f"{slow_part:.0%}, and {slots} slots give {rollout_ratio(pool, slow[REFERENCE]):.1f} x and "
        f"{end_to_end_ratio(pool, slow[REFERENCE]):.1f} x."
    )


def _seconds(steps: Sequence[Step]) -> str:
    return f"{mean(steps, lambda step: step.seconds):,.0f} s"


def _fullest(steps: Sequence[Step], results: Results) -> float:
    return max(step.peak_context for step in steps) / results.world.cluster.context_capacity


def _assumptions(results: Results) -> list[str]:
    cluster, lengths = results.world.cluster, results.world.lengths
    stated = [
        {
            "assumption": f"`{one.name}`: {one.metadata['meaning']}",
            "value": _value(getattr(record, one.name)),
            "unit": one.metadata["unit"],
            "source": one.metadata["source"],
        }
        for record in (lengths, cluster)
        for one in fields(record)
    ]
    reaching = 1 - NormalDist().cdf((log(lengths.limit) - _centre(lengths)) / lengths.spread)
    decoding = ", ".join(f"{cluster.row_seconds(rows) * 1e3:.1f} ms at {rows}" for rows in DECODED_ROWS)
    derived = [
        f"half of the responses have up to {exp(_centre(lengths)):,.0f} tokens, {reaching:.0%} reach the limit",
        f"a decode step: {decoding} rows, and {cluster.context_seconds * 1e9:.1f} ns for each token that they hold",
        f"training Phi = {cluster.token_budget:,} tokens on a rank: {cluster.token_budget * cluster.training_seconds:.1f} s",
        f"reading 100 000 tokens of unfinished responses again after an update: {1e5 * cluster.prefill_seconds:.1f} s",
        f"an update: {cluster.overhead_seconds:.1f} s (gradients reduced, weights gathered and pushed, the switch)",
        f"keys and values that fit on a GPU: {cluster.context_capacity:,} tokens; a run goes on beyond them; the tables say where",
    ]
    return [
        "## Assumptions",
        _wrapped(ASSUMED),
        markdown(stated),
        "They give:",
        "\n".join(f"- {line}" for line in derived),
    ]


def _centre(lengths: Lengths) -> float:
    return log_centre(lengths.mean, limit=lengths.limit, spread=lengths.spread)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.10g}" if 1e-2 <= abs(value) < 1e7 or not value else f"{value:.4g}"


ASSUMED = """Lengths are drawn for each prompt and do not depend on the policy: a response that goes on under newer weights gets as long
as it would have been. Every prompt has right and wrong answers, so every token counts for Phi; judging is hidden behind sampling. A GPU
decodes with the whole model, a row gains one token a step, rows never move to another GPU, and a prompt that is asked because tokens
lack is sampled where they lack. Attention's own FLOPs are part of the utilisation. Which tokens are trained is
`stages.rl.selection.choose_shares`, how many prompts more are asked is `lacking_groups` there, and where responses are trained is
`stages.training.dealing.share_of_rank`. Numbers as sources are sections of 2506.14731; "ours" is a guess."""
PARTS_NOTE = """Seconds, mean over all steps; those of C3PO++ begin with an empty pool, from which short responses finish first. "Where
sampled": a response is trained by the rank that sampled it; "dealt": by tokens over all ranks, as the project does it, and so are all
further rows. A GPU is idle while it waits for the slowest; a slot is filled while it decodes a response; a wave is a round of prompts
asked together."""
TRAINED_NOTE = f"""CV: standard deviation over steps after the first {FILLING_STEPS}, as a share of the mean. In vain: sampled and never
trained. Age: updates between the sampling and the training of a token. Memory: the most keys and values that a rank held, as a share of
what fits."""
DRIFT_NOTE = (
    f"""Two figures in a cell: the mean of {ENDS} steps after the first {FILLING_STEPS}, and of the last {ENDS}."""
)
CLAIMS_NOTE = f"""2510.18855 reports its ratios for a model of 1 T parameters and publishes neither Omega nor sigma; pools here have no
expiry, and are compared with "{REFERENCE}". What counts as steadier is ours: "{RANKED}" against "{REFERENCE}"."""
POOL_NOTE = f"""Times as fast as "{REFERENCE}", for a trained token. Sigma: how many updates a response may survive unfinished; those
runs have half as many steps. With whole groups a response waits until all of its prompt's are finished or dropped, which a baseline
within the group needs."""
SENSITIVITY_NOTE = f"""One change at a time; {SENSITIVITY_STEPS} steps, of which the first {FILLING_STEPS} are left out. "GRPO" is
"{REFERENCE}"."""
CHANGES = """## What would change the conclusions

- *Tail against limit.* With as many slots as GRPO has responses C3PO++ gains what slots that empty cost, which limit / mean bounds; with
  a longer limit at the same mean it gains far more (table of other assumptions).
- *An almost empty decode step.* Few rows touch few experts, so that a tail is cheaper than a full batch. An engine with a larger fixed
  cost a step makes GRPO slower, and C3PO++ look better.
- *Prompts that are alike.* The more the responses to a prompt have in common, the more ranks differ under GRPO. Moving rows between GPUs
  would take that part away without any change of the objective.
- *Share of training.* Dearer training (longer context, lower utilisation, a larger model over a slower network) brings the end-to-end
  ratio down, and makes the steadiness of C3PO's training worth more.
- *Memory.* A pool needs its keys and values beside a whole model. Experts over several GPUs or 8-bit keys and values make room; an
  engine that pauses rows loses part of the gain.
- *Learning.* Ages of tokens and the bias of an expiry are counted here, not judged: no simulation of time says what they cost in reward.
- *Prompts without signal.* Groups of equal rewards do not count for Phi: budgets lack more, and more prompts are asked."""
