"""Rules over an arm's ledger: what they read, and what follows where a value is past its limit.

In: rows of steps.jsonl, in order, and the rules of the recipe. Out: a `Decision`. All is a function of these two, so that an arm that
was killed decides the same again. A window lies within the phase of the last row, because a hand-over changes every figure.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.config import Plateau, WatchRule
from stages.stage import Row

_LEAST_SPREAD = 0.01  # of log norms: a standard deviation below a hundredth of the norm counts as that


@dataclass(frozen=True, slots=True)
class Reading:
    """What a rule sees."""

    value: float  # unit: see `WatchRule.kind`
    since: int  # first step that the value speaks of


Read = Callable[[Sequence[Row], int], Reading | None]  # rows and window; None: nothing to say


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of rule reads the ledger."""

    read: Read
    is_floor: bool = False  # past its limit below it, else above it


def _last(rows: Sequence[Row], *names: str, count: int) -> Sequence[Row]:
    """The last `count` rows of the present phase that have all these values; none where the last row lacks one, or there are fewer."""
    if not rows or any(name not in rows[-1] for name in names):
        return ()
    found = [row for row in rows if row["phase"] == rows[-1]["phase"] and all(name in row for name in names)]
    return found[-count:] if len(found) >= count else ()


def mean_of(name: str) -> Read:
    """The mean of a value of the ledger over the window."""

    def read(rows: Sequence[Row], window: int) -> Reading | None:
        found = _last(rows, name, count=window)
        return Reading(statistics.fmean(row[name] for row in found), found[0]["step"]) if found else None

    return read


def gradient_zscore(rows: Sequence[Row], window: int) -> Reading | None:
    """(ln g - mean) / std of the last step's gradient norm g; mean and std (n - 1) are of ln g over the `window` steps before it.

    The step alone is what it speaks of. A norm of 0 has no logarithm and counts as none.
    """
    name = "train/gradient_norm"
    found = _last([row for row in rows if row.get(name, 1.0) > 0], name, count=window + 1)
    if not found or found[-1] is not rows[-1]:
        return None
    *before, last = [math.log(row[name]) for row in found]
    spread = max(statistics.stdev(before), _LEAST_SPREAD)
    return Reading((last - statistics.fmean(before)) / spread, rows[-1]["step"])


def length_variance(rows: Sequence[Row], window: int) -> Reading | None:
    """Mean over the window of the variance of response lengths over the square of their mean: free of a unit."""
    std, mean = "response/std_tokens", "response/mean_tokens"
    found = _last(rows, std, mean, count=window)
    return Reading(statistics.fmean((row[std] / row[mean]) ** 2 for row in found), found[0]["step"]) if found else None


def judge_failures(rows: Sequence[Row], window: int) -> Reading | None:
    """Share of the window's responses on which the judge itself failed; nothing where there was none."""
    failures, count = "judge/failures", "response/count"
    found = _last(rows, failures, count, count=window)
    if not (total := sum(row[count] for row in found)):
        return None
    return Reading(sum(row[failures] for row in found) / total, found[0]["step"])


RULES: dict[str, Kind] = {
    "entropy_floor": Kind(mean_of("policy/entropy"), is_floor=True),
    "gradient_norm": Kind(gradient_zscore),
    "length_variance": Kind(length_variance),
    "zero_advantage_share": Kind(mean_of("group/zero_advantage_share")),
    "repetition": Kind(mean_of("response/compressibility"), is_floor=True),
    "truncated_share": Kind(mean_of("response/truncated_share")),
    "judge_failures": Kind(judge_failures),
    "mismatch": Kind(mean_of("mismatch/mean_abs_difference")),
}


# ---------------------------------------------------------------- what follows


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule whose value is past its limit."""

    rule: WatchRule
    reading: Reading

    @property
    def words(self) -> str:
        """`entropy_floor is 0.0081 over 5 steps, below its limit of 0.01`."""
        side = "below" if RULES[self.rule.kind].is_floor else "above"
        steps = (
            f"against the {self.rule.window} steps before"
            if self.rule.kind == "gradient_norm"
            else f"over {self.rule.window} steps"
        )
        return f"{self.rule.kind} is {self.reading.value:.4g} {steps}, {side} its limit of {self.rule.limit:g}"

    @property
    def row(self) -> Row:
        """For watch.jsonl."""
        return {
            "rule": self.rule.kind,
            "value": self.reading.value,
            "limit": self.rule.limit,
            "window": self.rule.window,
            "since": self.reading.since,
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from the rows after a step."""

    warnings: tuple[Finding, ...] = ()  # of rules that were within their limits a step before
    ends: Finding | None = None  # that of the rule by which this attempt ends, by a stop or by a roll back


def find(rule: WatchRule, rows: Sequence[Row]) -> Finding | None:
    """The rule's finding after the last row, if its value is past the limit."""
    kind = RULES[rule.kind]
    reading = kind.read(rows, rule.window)
    if reading is None:
        return None
    is_past = reading.value < rule.limit if kind.is_floor else reading.value > rule.limit
    return Finding(rule, reading) if is_past else None


def decide(rows: Sequence[Row], rules: Sequence[WatchRule]) -> Decision:
    """What follows after the last row: a warning once a streak; a stop goes before a roll back, and of each the first rule counts."""
    found = [finding for rule in rules if (finding := find(rule, rows)) is not None]
    warnings = [one for one in found if one.rule.action == "warn" and find(one.rule, rows[:-1]) is None]
    ends = [one for action in ("stop", "roll_back") for one in found if one.rule.action == action]
    return Decision(tuple(warnings), ends[0] if ends else None)


def rows_needed(rules: Sequence[WatchRule]) -> int:
    """The last rows of the ledger that are looked at: the longest window, the step that it is compared with, and those a step before."""
    return max((rule.window for rule in rules), default=0) + 2


# ---------------------------------------------------------------- the probe's curve


def at_plateau(scores: Sequence[float], plateau: Plateau) -> bool:
    """Whether the best of the last `patience` scores is less than `min_gain` above the best before; False without one before."""
    before, recent = scores[: -plateau.patience], scores[-plateau.patience :]
    return bool(before) and max(recent) < max(before) + plateau.min_gain
