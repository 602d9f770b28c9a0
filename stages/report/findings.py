"""What a chain found, in sentences: the end of `ring run` and the head of the report say the same.

In: the tables of the stages that there are, by key (`curation`, `sft`, `selection`, `rl/<arm>`, `evaluation`), as their manifests
hold them. Out: scores, and sentences on differences, the chosen checkpoint, tokens and data. A stage that is not there is not spoken of.
A difference counts where its interval excludes 0; where none does, the size of difference that would have shown is told.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from data.domain_names import domain_names
from stages.records.artifact import Manifest
from stages.stage import Row
from stages.training.checkpoints import checkpoint_name

Tables = Mapping[str, Mapping[str, Sequence[Row]]]  # stage key -> table -> rows
METRICS = ("greedy", "pass@1")
_ALL = "all"
_MOST_IN_GROUP = 2  # pairs that are told of a group beside `all`
_MOST_ALIKE = 3  # pairs that are told one by one
_MOST_REASONS = 3


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found; each part may be empty."""

    scores: tuple[Row, ...]  # a row a model: its share of right answers by metric, with intervals
    scored_on: str  # what the scores are of; a title for their table
    sentences: tuple[str, ...]  # what matters most first


def chain_findings(manifests: Mapping[str, Manifest]) -> Findings:
    """What the sealed results of a chain say."""
    evaluation = manifests.get("evaluation")
    confidence = evaluation.document["payload"]["config"]["confidence"] if evaluation else None
    return findings({key: manifest.tables() for key, manifest in manifests.items()}, confidence=confidence)


def findings(tables: Tables, *, confidence: float | None) -> Findings:
    """`confidence` is the level of the evaluation's intervals, None where there is no evaluation."""
    evaluation = tables.get("evaluation", {})
    results = [row for row in evaluation.get("results", []) if row["group"] == _ALL and row["metric"] in METRICS]
    comparisons = evaluation.get("comparisons", [])
    told = [*_differences(comparisons)] if confidence else []
    return Findings(
        scores=tuple(_scores(results)),
        scored_on=_scored_on(results, confidence=confidence) if confidence and results else "",
        sentences=(*told, *_choice(tables), *_training(tables), *_data(tables)),
    )


# ---------------------------------------------------------------- scores


def _scores(results: Sequence[Row]) -> Iterator[Row]:
    by_model: dict[str, Row] = {}
    for row in results:
        by_model.setdefault(row["model"], {"model": row["model"]})[row["metric"]] = (
            f"{_share(row['value'])} {_interval(row)}"
        )
    for row in by_model.values():
        yield {name: row.get(name, "") for name in ("model", *METRICS)}


def _scored_on(results: Sequence[Row], *, confidence: float) -> str:
    return f"Share of right answers to {results[0]['n']:,} problems never seen, {100 * confidence:g} % intervals"


def _share(value: float) -> str:
    """As in `.064`; nothing below zero is rounded to `-.000`."""
    text = f"{round(value, 3) + 0.0:.3f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _interval(row: Row) -> str:
    return f"[{_share(row['low'])}, {_share(row['high'])}]"


# ---------------------------------------------------------------- differences


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two models on a group of problems: their differences by metric."""

    model: str
    against: str
    group: str
    rows: tuple[Row, ...]

    @property
    def told(self) -> list[Row]:
        """Metrics that tell the two apart; an interval of one problem says nothing."""
        return [row for row in self.rows if row["excludes_zero"] and row["n"] > 1]

    @property
    def undecided(self) -> list[Row]:
        """The other metrics."""
        return [row for row in self.rows if row not in self.told]


def _differences(comparisons: Sequence[Row]) -> Iterator[str]:
    """First what can be told apart on `all`, then on the groups that it does not hold, then what cannot be told apart."""
    pairs = _pairs(comparisons)
    over_all = [pair for pair in pairs if pair.group == _ALL]
    yield from (_told_apart(pair) for pair in over_all if pair.told)
    for group in dict.fromkeys(pair.group for pair in pairs if _is_beside(pair.group)):
        yield from _in_group(group, [pair for pair in pairs if pair.group == group])
    alike = [pair for pair in over_all if not pair.told]
    if len(alike) > _MOST_ALIKE:
        yield _many_not_told_apart(alike)
    else:
        yield from (_not_told_apart(pair) for pair in alike)


def _pairs(comparisons: Sequence[Row]) -> list[_Pair]:
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in comparisons:
        if row["metric"] in METRICS:
            found.setdefault((row["model"], row["against"], row["group"]), []).append(row)
    return [_Pair(*names, rows=tuple(rows)) for names, rows in found.items()]


def _told_apart(pair: _Pair) -> str:
    parts = []
    if ahead := [row for row in pair.told if row["difference"] > 0]:
        parts.append(f"{pair.model} beats {pair.against}: {_listed(ahead)}")
    if behind := [_turned(row) for row in pair.told if row["difference"] < 0]:
        parts.append(f"{pair.against} beats {pair.model}: {_listed(behind)}")
    if pair.undecided:
        parts.append(f"not told apart in {_listed(pair.undecided)}")
    return "; ".join(parts) + "."


def _turned(row: Row) -> Row:
    """The difference the other way round."""
    return {**row, "difference": -row["difference"], "low": -row["high"], "high": -row["low"]}


def _listed(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row['metric']} {_difference(row)}" for row in rows)


def _difference(row: Row) -> str:
    sign = "+" if row["difference"] > 0 else ""
    return f"{sign}{_share(row['difference'])} {_interval(row)}"


def _not_told_apart(pair: _Pair) -> str:
    num_problems = pair.rows[0]["n"]
    if not any(row["unequal"] for row in pair.rows):
        return f"{pair.model} and {pair.against} score alike on each of the {_count(num_problems, 'problem')}."
    said = f"{pair.model} and {pair.against} cannot be told apart: {_listed(pair.rows)}"
    if num_problems == 1:
        return f"{said}; one problem says nothing."
    seen = _seen([pair])
    return f"{said}; {f'a difference of {_share(seen)}' if seen else 'no difference'} would show four times in five."


def _many_not_told_apart(pairs: Sequence[_Pair]) -> str:
    """Names alone; the tables have the intervals."""
    seen = _seen(pairs)
    names = ", ".join(f"{pair.model} and {pair.against}" for pair in pairs)
    room = f"{f'differences of {_share(seen)}' if seen else 'no difference'} would show four times in five"
    return f"Cannot be told apart ({room}): {names}."


def _seen(pairs: Sequence[_Pair]) -> float | None:
    """The difference that would have shown in every metric of every pair; None where in one none would: too few problems."""
    found = [row["smallest_difference"] for pair in pairs for row in pair.rows]
    return None if None in found else max(found)


def _is_beside(group: str) -> bool:
    """The harder level and benchmarks: what `all` does not hold. Not `math`, `level 2`, `math level 2`."""
    return group not in (_ALL, *domain_names()) and not re.search(r"(^| )level \d+$", group)


def _in_group(group: str, pairs: Sequence[_Pair]) -> Iterator[str]:
    """The pairs of a group that differ most, by the metrics that tell them apart."""
    told = [replace(pair, rows=tuple(pair.told)) for pair in pairs if pair.told]
    largest = sorted(told, key=lambda pair: -max(abs(row["difference"]) for row in pair.rows))[:_MOST_IN_GROUP]
    if largest:
        parts = [_told_apart(pair).removesuffix(".") for pair in largest]
        more = [_count(len(told) - len(largest), "more pair")] if len(told) > len(largest) else []
        yield f"On {group} ({_count(largest[0].rows[0]['n'], 'problem')}): {'; '.join([*parts, *more])}."


# ---------------------------------------------------------------- the stages before


def _choice(tables: Tables) -> Iterator[str]:
    rows = tables.get("selection", {}).get("candidates", [])
    for row in rows:
        if row["chosen"]:
            yield f"{row['checkpoint']} was chosen of {_count(len(rows), 'SFT checkpoint')}: {row['why']}."


def _training(tables: Tables) -> Iterator[str]:
    """Tokens where they were compared; else what the last stage of training came to."""
    ledger = [row for row in tables.get("evaluation", {}).get("ledger", []) if row["further_tokens"]]
    arms = {key.removeprefix("rl/"): found for key, found in tables.items() if key.startswith("rl/")}
    if ledger:
        parts = [f"{row['model']} {row['further / sft']:.2g} ({row['further_tokens']:,})" for row in ledger]
        yield f"Tokens trained on after SFT, over those of SFT: {', '.join(parts)}."
        yield from _compute(ledger)
    elif arms:
        for arm, found in arms.items():
            yield from _arm(arm, found)
        if not tables.get("evaluation", {}).get("results"):  # where benchmarks alone were asked there is no ledger
            yield "The arms are not evaluated yet: a reward on training problems says little about new ones."
    elif "selection" not in tables and (epochs := tables.get("sft", {}).get("epochs", [])):
        yield f"SFT ended with {_losses(epochs)}."
    elif "sft" not in tables and (epochs := tables.get("base", {}).get("epochs", [])):
        yield f"The base model ended with {_losses(epochs)}."


def _compute(ledger: Sequence[Row]) -> Iterator[str]:
    """FLOPs after SFT, so that a reader sees whether a control had at least as many."""
    rows = sorted((row for row in ledger if row.get("further_flops")), key=lambda row: -row["further_flops"])
    if rows:
        first, *others = rows
        parts = [f"{first['model']} {first['further_flops']:.3g}"]
        parts += [f"{row['model']} {row['flops / most']:.2f} of that" for row in others]
        yield f"FLOPs after SFT: {', '.join(parts)}."


def _arm(arm: str, found: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    if phases := found.get("phases", []):
        steps, tokens = (sum(row[name] for row in phases) for name in ("steps", "tokens_trained"))
        reward = phases[-1].get("last_reward")
        said = "no verdict" if reward is None else f"reward {_share(reward)}"
        yield f"{arm}: {_count(steps, 'step')} of RL on {tokens:,} tokens, {said} in the last one."
    elif epochs := found.get("epochs", []):
        yield f"{arm}: further SFT, {_losses(epochs)}."


def _losses(epochs: Sequence[Row]) -> str:
    """The last epoch, and the best one where validation says it was another."""
    last = epochs[-1]
    said = f"a loss of {last['train_loss']:.3f} nats per token in epoch {last['epoch']}"
    measured = [row for row in epochs if row["validation_loss"] is not None]
    if not measured:
        return said
    best = min(measured, key=lambda row: row["validation_loss"])
    at = best.get("checkpoint") or checkpoint_name(best["epoch"])
    where = "" if best is last else f", best {best['validation_loss']:.3f} at {at}"
    return f"{said}; on rows not trained on {last['validation_loss']:.3f}{where}"


def _data(tables: Tables) -> Iterator[str]:
    curation = tables.get("curation", {})
    funnel, reasons = curation.get("funnel", []), curation.get("reasons", [])
    if not funnel:
        return
    dropped, kept = sum(row["dropped"] for row in funnel), funnel[-1]["kept"]
    said = f"Curation kept {kept:,} of {kept + dropped:,} rows"
    most = sorted(reasons, key=lambda row: -row["count"])[:_MOST_REASONS]
    parts = [f"{row['count']:,} {row['reason']} ({row['step']})" for row in most]
    more = sum(row["count"] for row in reasons) - sum(row["count"] for row in most)
    rest = [f"{more:,} for other reasons"] if more else []
    yield f"{said}; left out: {', '.join([*parts, *rest])}." if parts else f"{said}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
