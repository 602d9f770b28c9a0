"""Which SFT checkpoint RL starts from (paper 4.3.1): entropy inside a window, then the best pass@1."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one checkpoint showed on the probe set."""

    checkpoint: str  # folder name, in the order of training
    entropy: float  # nats per response token, full softmax at temperature 1, on its own responses
    pass_at_1: float  # mean over problems of the share of right samples
    greedy: float  # share of problems that the greedy response solves
    mean_tokens: float  # response length of the samples, tokens


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen checkpoint, and why."""

    checkpoint: str
    inside_window: bool
    why: str


def choose(candidates: Sequence[Candidate], *, window: tuple[float, float]) -> Choice:
    """Among candidates with entropy in `window` (both ends belong to it) the best pass@1; a tie goes to the earlier epoch.

    If none lies inside, the one whose entropy is nearest to the window (a tie goes to the earlier epoch), and `why` says so.
    """
    if not candidates:
        raise ValueError(
            "no checkpoint to choose from: the sft artifact holds no epoch-NN folder; run the sft stage again"
        )
    low, high = window
    inside = [candidate for candidate in candidates if low <= candidate.entropy <= high]
    if inside:
        best = max(inside, key=lambda candidate: candidate.pass_at_1)  # max keeps the first of equals
        return Choice(best.checkpoint, inside_window=True, why=_why_best(best, num_inside=len(inside), window=window))
    nearest = min(candidates, key=lambda candidate: _distance(candidate.entropy, low, high))
    why = f"NO CHECKPOINT INSIDE THE WINDOW [{low:g}, {high:g}]: nearest entropy {nearest.entropy:.3f}, {_advice(nearest.entropy, high)}"
    return Choice(nearest.checkpoint, inside_window=False, why=why)


def _why_best(best: Candidate, *, num_inside: int, window: tuple[float, float]) -> str:
    low, high = window
    among = f"among the {num_inside} checkpoints" if num_inside > 1 else "as the only checkpoint"
    it_is = f"best pass@1 ({best.pass_at_1:.3f})" if num_inside > 1 else f"pass@1 {best.pass_at_1:.3f},"
    return f"{it_is} {among} with an entropy in [{low:g}, {high:g}]; its own is {best.entropy:.3f}"


def _distance(entropy: float, low: float, high: float) -> float:
    return max(low - entropy, entropy - high, 0.0)


def _advice(entropy: float, high: float) -> str:
    return (
        "train longer or move selection.entropy_window"
        if entropy > high
        else "save earlier epochs or move selection.entropy_window"
    )
