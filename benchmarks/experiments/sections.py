"""The generated part of a page, section by section, as lines of Markdown."""

import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.experiments.chains import Chain
from benchmarks.experiments.page import table
from benchmarks.experiments.scores import ALL, METRICS, Scores, compared_pairs, scores_of
from benchmarks.experiments.starts import chain_choices, differ, distance_from_best, starts_of
from benchmarks.experiments.statistics import Interval, difference_estimate, mean_estimate, t_interval
from benchmarks.experiments.steps import FIGURES, spreads, step_rows
from flows.commands.show import toml_text
from stages.evaluation.statistics import Difference, Estimate
from stages.recipe import RECIPES, ResolvedRecipe, walk_values
from stages.records.machine import kind_of
from stages.stage import Row

NONE = "-"


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is shown."""

    resolved: ResolvedRecipe
    changes: tuple[str, ...]  # KEY=VALUE of the command
    chains: tuple[Chain, ...]
    scores: tuple[Scores, ...]  # of each chain
    steps: dict[str, list[list[Row]]]  # arm of RL -> of each chain its steps

    @classmethod
    def of(cls, resolved: ResolvedRecipe, changes: Sequence[str], chains: Sequence[Chain]) -> "Experiment":
        """Read what the chains left."""
        steps = {arm: [step_rows(chain, arm) for chain in chains] for arm in chains[0].rl_arms}
        return cls(resolved, tuple(changes), tuple(chains), tuple(map(scores_of, chains)), steps)

    @property
    def seeds(self) -> list[str]:
        """Titles of columns."""
        return [f"seed {chain.seed}" for chain in self.chains]


def generated_lines(experiment: Experiment, *, plots: Sequence[str]) -> list[str]:
    """The whole of it."""
    sections: dict[str, Callable[[Experiment], Iterable[str]]] = {
        "Setting": setting,
        "What it is made from": origins,
        "What the arms took": costs,
        "Steps": step_figures,
        "Final scores": final_scores,
        "Paired differences": differences,
        "By domain": by_group,
        "Starts": starts,
    }
    lines: list[str] = []
    for title, section in sections.items():
        if found := list(section(experiment)):
            lines += [f"## {title}", "", *found, ""]
    return [*lines, "## Plots", "", *(line for plot in plots for line in (plot, ""))][:-1]


# ---------------------------------------------------------------- how it was made


def setting(experiment: Experiment) -> Iterator[str]:
    """The command, and what the recipe states itself."""
    resolved = experiment.resolved
    seeds = ",".join(str(chain.seed) for chain in experiment.chains)
    changes = "".join(f" --set {shlex.quote(change)}" for change in experiment.changes)
    name = resolved.recipe.name if resolved.path.parent == RECIPES else resolved.path.name
    about = f": {resolved.recipe.description}" if resolved.recipe.description else ""
    yield f"`python -m benchmarks experiment {name} --seeds {seeds}{changes}`{about}"
    yield from ("", "<details><summary>What the recipe changes (<code>ring show --changed</code>)</summary>", "", "```")
    for value in walk_values(resolved.recipe):
        if resolved.changes(value):
            yield f"{value.key} = {toml_text(value.value)}  # {resolved.origin(value.key, value.declared)}"
    yield from ("```", "", "</details>")


def origins(experiment: Experiment) -> Iterator[str]:
    """Fingerprints of every stage and seed, the machines and the code."""
    manifests = [one for chain in experiment.chains for one in chain.manifests.values()]
    kinds = dict.fromkeys(kind_of(one.document) for one in manifests)
    commits = dict.fromkeys((one.document["code"]["commit"] or "-")[:10] for one in manifests)
    yield f"Machine: {', '.join(kinds)}. Code: {', '.join(commits)}. Fingerprints:"
    yield ""
    keys = experiment.chains[0].manifests
    rows = [[key, *(f"`{chain.manifests[key].fingerprint[:12]}`" for chain in experiment.chains)] for key in keys]
    yield from table(["stage", *experiment.seeds], rows)


# ---------------------------------------------------------------- what was spent


def costs(experiment: Experiment) -> Iterator[str]:
    """Tokens, FLOPs and seconds of every arm."""
    yield "Means over seeds. FLOPs: training, sampling and the reference pass (docs/how-it-works.md)."
    yield ""
    ledgers = [
        {row["model"]: row for row in chain.manifests["evaluation"].tables()["ledger"]} for chain in experiment.chains
    ]
    rows = []
    for arm in experiment.chains[0].arms:
        documents = [chain.arms[arm].document for chain in experiment.chains]
        of_seeds = [ledger[arm] for ledger in ledgers]
        rows.append(
            [
                arm,
                f"{fmean(document['metrics']['train/steps'] for document in documents):,.0f}",
                f"{fmean(row['further_tokens'] for row in of_seeds):,.0f}",
                f"{fmean(row['further / sft'] for row in of_seeds):.2f}",
                f"{fmean(row['further_flops'] for row in of_seeds):.3g}",
                f"{fmean(row['flops / most'] for row in of_seeds):.2f}",
                f"{fmean(document['seconds'] for document in documents):,.0f}",
                f"{fmean(document['timings'].get('cpu_seconds', math.nan) for document in documents):,.0f}",
            ]
        )
    titles = ["arm", "steps", "tokens", "tokens / SFT's", "FLOPs", "of the most", "seconds", "CPU seconds"]
    yield from table(titles, rows)


def step_figures(experiment: Experiment) -> Iterator[str]:
    """Mean and variation over the steps of every arm of RL."""
    yield (
        "Mean over steps, and in brackets the coefficient of variation over steps (standard deviation / mean); both are means over seeds."
    )
    yield ""
    rows = []
    for arm, seeds in experiment.steps.items():
        found = [spreads(steps) for steps in seeds]
        cells = [
            f"{_number(_mean(one[title].mean for one in found))} ({_number(_mean(one[title].variation for one in found))})"
            for title in FIGURES
        ]
        rows.append([arm, *cells])
    yield from table(["arm", *FIGURES], rows)


# ---------------------------------------------------------------- scores


def final_scores(experiment: Experiment) -> Iterator[str]:
    """Of every model and seed on all problems, with 95 % intervals."""
    yield "On `all` held-out problems. By seed: 95 % interval over problems. Over seeds: mean and 95 % t-interval."
    yield "No interval over seeds: all values are equal, which does not say how much others would differ."
    yield ""
    rows = []
    for model in experiment.chains[0].models:
        for metric in METRICS:
            parts = [mean_estimate(scores.values(model, metric)) for scores in experiment.scores]
            means = [scores.mean(model, metric) for scores in experiment.scores]
            rows.append([model, metric, *(_level(part) for part in parts), _over_seeds(means, signed=False)])
    yield from table(["model", "metric", *experiment.seeds, "over seeds"], rows)


def differences(experiment: Experiment) -> Iterator[str]:
    """Of the pairs that the evaluation compares, by seed, pooled, and over seeds."""
    yield "Paired by problem, on `all`. `pooled`: problems of all seeds together, 95 % interval, which tells of these chains."
    yield "`visible`: the smallest true difference that the pooled problems would have shown (two-sided 5 %, power 80 %; of greedy by"
    yield "McNemar's test). `over seeds`: mean of the seeds' differences and 95 % t-interval, which tells of another seed."
    yield ""
    rows = []
    for model, against in compared_pairs(experiment.chains[0]):
        for metric in METRICS:
            parts = [scores.differences(model, against, metric) for scores in experiment.scores]
            pooled = [value for part in parts for value in part]
            found = [difference_estimate(part) for part in (*parts, pooled)]
            cells = [*map(_change, found), _visible(found[-1])]
            over = _over_seeds([fmean(part) if part else math.nan for part in parts], signed=True)
            rows.append([f"{model} - {against}", metric, *cells, over])
    yield from table(["difference", "metric", *experiment.seeds, "pooled", "visible", "over seeds"], rows)


def by_group(experiment: Experiment) -> Iterator[str]:
    """Scores and pooled differences on every domain, and on what is harder."""
    groups = [group for group in experiment.scores[0].groups if group != ALL]
    yield "Means over seeds."
    yield ""
    models = experiment.chains[0].models
    yield from table(
        ["model", "metric", *groups],
        (
            [
                model,
                metric,
                *(_number(_mean(one.mean(model, metric, group) for one in experiment.scores)) for group in groups),
            ]
            for model in models
            for metric in METRICS
        ),
    )
    yield from (
        "",
        "Differences, pooled over seeds, with 95 % intervals and in brackets what would have been visible.",
        "",
    )
    yield from table(["difference", "metric", *groups], _group_rows(experiment, groups))


def _group_rows(experiment: Experiment, groups: Sequence[str]) -> Iterator[list[str]]:
    for model, against in compared_pairs(experiment.chains[0]):
        for metric in METRICS:
            pooled = [
                [value for one in experiment.scores for value in one.differences(model, against, metric, group)]
                for group in groups
            ]
            found = [difference_estimate(part) for part in pooled]
            yield [f"{model} - {against}", metric, *(f"{_change(one)} ({_visible(one)})" for one in found)]


# ---------------------------------------------------------------- starts


_RULES = (
    "What a rule would have chosen among these starts, and how far the final score of that arm is from the best one's, paired by",
    "problem. The best is known only afterwards, on these very problems, which flatters it: a rule is a little better than its figure.",
)


def starts(experiment: Experiment) -> Iterator[str]:
    """Where arms start from, and what each rule would have chosen; nothing where all arms start alike."""
    if not any(differ(starts_of(chain)) for chain in experiment.chains):
        return
    yield "The start of each arm, by the probe, and the arm's final scores; means over seeds."
    yield ""
    finals = [f"final {metric}" for metric in METRICS]
    titles = ["arm", "start", "entropy", "probe pass@1", "probe greedy", "RL tokens / SFT tokens", *finals]
    yield from table(titles, _start_rows(experiment))
    yield from ("", *_RULES, "")
    yield from table(["rule", "metric", *experiment.seeds, "over seeds"], _rule_rows(experiment))


def _start_rows(experiment: Experiment) -> Iterator[list[str]]:
    for of_seeds in zip(*(starts_of(chain) for chain in experiment.chains), strict=True):
        arm = of_seeds[0].arm
        names = dict.fromkeys(start.checkpoint for start in of_seeds)
        probes = [_number(_mean(start.probe[name] for start in of_seeds)) for name in ("entropy", "pass@1", "greedy")]
        share = f"{fmean(start.ledger['further / sft'] for start in of_seeds):.2f}"
        finals = [_number(_mean(one.mean(arm, metric) for one in experiment.scores)) for metric in METRICS]
        yield [arm, ", ".join(names), *probes, share, *finals]


def _rule_rows(experiment: Experiment) -> Iterator[list[str]]:
    chosen = [chain_choices(chain) for chain in experiment.chains]
    for rule in chosen[0]:  # seeds have the same rules: what they go by is measured in all or in none
        for metric in METRICS:
            cells, distances = [], []
            for chain, scores, choice in zip(experiment.chains, experiment.scores, chosen, strict=True):
                best, distance = distance_from_best(choice[rule], starts_of(chain), scores, metric=metric)
                cells.append(f"{choice[rule]}: {_change(distance)} to {best}")
                distances.append(math.nan if distance is None else distance.value)
            yield [rule, metric, *cells, _over_seeds(distances, signed=True)]


# ---------------------------------------------------------------- cells


def _mean(values: Iterable[float]) -> float:
    """Of those that are numbers."""
    kept = [value for value in values if not math.isnan(value)]
    return fmean(kept) if kept else math.nan


def _number(value: float) -> str:
    if math.isnan(value):
        return NONE
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _level(estimate: Estimate | Interval | None) -> str:
    """Without an interval where all values were equal: that they do not differ here is no measure of how much they may."""
    if estimate is None:
        return NONE
    value = f"{estimate.value:.3f}"
    return value if estimate.low == estimate.high else f"{value} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _change(estimate: Estimate | Interval | None) -> str:
    if estimate is None:
        return NONE
    value = f"{estimate.value:+.3f}"
    return value if estimate.low == estimate.high else f"{value} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def _visible(found: Difference | None) -> str:
    """The smallest difference that would have shown, if any would."""
    return NONE if found is None or found.smallest is None else _number(found.smallest)


def _over_seeds(means: Sequence[float], *, signed: bool) -> str:
    kept = [value for value in means if not math.isnan(value)]
    found = t_interval(kept)
    if found is None and kept:
        found = Interval(kept[0], kept[0], kept[0])
    return _change(found) if signed else _level(found)
