"""Which SFT checkpoint RL starts from: rules by name, pure functions over what each checkpoint showed.

`entropy-window` is the paper's (4.3.1): entropy inside a window, then the best pass@1. `highest-pass@k` (ApexEval, 2510.22115 sec. 4.5) and
`validation-loss` go by one figure. A tie goes to the earlier checkpoint, whatever the rule.
"""

import math
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass

from stages.config import SelectionConfig, SelectionRule


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one checkpoint showed on the probe set, and on SFT's validation rows."""

    checkpoint: str  # folder name, in the order of training
    entropy: float  # nats per response token, full softmax at temperature 1, on its own responses
    pass_at_1: float  # mean over problems of the share of right samples
    pass_at_k: float  # mean over problems of the chance that one of k samples is right; NaN where none has k judged
    greedy: float  # share of problems that the greedy response solves
    mean_tokens: float  # response length of the samples, tokens
    validation_loss: float | None  # nats per response token; None where SFT had no validation rows


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen checkpoint, and why."""

    checkpoint: str
    why: str
    is_makeshift: bool = False  # none met the rule's condition, and `why` says what was taken in its place


class NoChoiceError(ValueError):
    """A rule cannot choose: what it goes by was not measured."""


def by_entropy_window(candidates: Sequence[Candidate], *, window: tuple[float, float]) -> Choice:
    """Among candidates with entropy in `window` (both ends belong to it) the best pass@1.

    If none lies inside, the one whose entropy is nearest to the window, and `why` says so.
    """
    low, high = window
    inside = [candidate for candidate in candidates if is_inside(candidate, window)]
    if inside:
        best = max(inside, key=lambda candidate: candidate.pass_at_1)  # max keeps the first of equals
        return Choice(best.checkpoint, _why_best(best, num_inside=len(inside), window=window))
    nearest = min(candidates, key=lambda candidate: _distance(candidate.entropy, low, high))
    why = f"NO CHECKPOINT INSIDE THE WINDOW [{low:g}, {high:g}]: nearest entropy {nearest.entropy:.3f}, {_advice(candidates, high)}"
    return Choice(nearest.checkpoint, why, is_makeshift=True)


def by_pass_at_k(candidates: Sequence[Candidate], *, k: int) -> Choice:
    """The highest pass@k on the probe set. Raises NoChoiceError where a checkpoint has none."""
    lacking = [candidate.checkpoint for candidate in candidates if math.isnan(candidate.pass_at_k)]
    if lacking:
        raise NoChoiceError(
            f"no probe problem has {k} judged responses of {', '.join(lacking)}, so there is no pass@{k} to go by: mend what makes the"
            " judge fail (see `status` in probe.parquet), or choose another selection.rule"
        )
    best = max(candidates, key=lambda candidate: candidate.pass_at_k)
    return Choice(best.checkpoint, f"highest pass@{k} ({best.pass_at_k:.3f}) {_among(candidates)}")


def by_validation_loss(losses: Mapping[str, float | None]) -> Choice:
    """The lowest of the losses on the validation rows, which are given by checkpoint.

    Raises NoChoiceError where a checkpoint has none, or one that is no number.
    """
    known = {name: loss for name, loss in losses.items() if loss is not None and math.isfinite(loss)}
    if len(known) < len(losses):
        lacking = ", ".join(f"{name} ({loss})" for name, loss in losses.items() if name not in known)
        raise NoChoiceError(
            f"no validation loss to go by for {lacking}: give curation a source for the split `validation`, or choose another"
            " selection.rule"
        )
    best = min(known, key=lambda name: known[name])
    return Choice(best, f"lowest validation loss ({known[best]:.3f} nats per token) {_among(losses)}")


RULES: Mapping[SelectionRule, Callable[[Sequence[Candidate], SelectionConfig], Choice]] = {
    "entropy-window": lambda candidates, config: by_entropy_window(candidates, window=config.entropy_window),
    "highest-pass@k": lambda candidates, config: by_pass_at_k(candidates, k=config.samples_per_problem),
    "validation-loss": lambda candidates, _: by_validation_loss(
        {candidate.checkpoint: candidate.validation_loss for candidate in candidates}
    ),
}


def choose(candidates: Sequence[Candidate], config: SelectionConfig) -> Choice:
    """What `config.rule` chooses. Raises ValueError where there is no candidate, or nothing for the rule to go by."""
    if not candidates:
        raise ValueError("no checkpoint to choose from: the sft artifact names none; run the sft stage again")
    return RULES[config.rule](candidates, config)


def is_inside(candidate: Candidate, window: tuple[float, float]) -> bool:
    """Whether the entropy lies in the window, to which both ends belong."""
    return window[0] <= candidate.entropy <= window[1]


def _why_best(best: Candidate, *, num_inside: int, window: tuple[float, float]) -> str:
    low, high = window
    among = f"among the {num_inside} checkpoints" if num_inside > 1 else "as the only checkpoint"
    it_is = f"best pass@1 ({best.pass_at_1:.3f})" if num_inside > 1 else f"pass@1 {best.pass_at_1:.3f},"
    return f"{it_is} {among} with an entropy in [{low:g}, {high:g}]; its own is {best.entropy:.3f}"


def _among(candidates: Sized) -> str:
    return f"of the {len(candidates)} checkpoints" if len(candidates) > 1 else "as the only checkpoint"


def _distance(entropy: float, low: float, high: float) -> float:
    return max(low - entropy, entropy - high, 0.0)


def _advice(candidates: Sequence[Candidate], high: float) -> str:
    """Where all lie above, more training lowers them; else it went past the window between two checkpoints, or before the first."""
    too_short = min(candidate.entropy for candidate in candidates) > high
    do = "train longer" if too_short else "keep more checkpoints (sft.training.checkpoints_per_epoch)"
    return f"{do} or move selection.entropy_window"
