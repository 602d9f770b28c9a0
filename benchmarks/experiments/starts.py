"""Arms that differ in the SFT checkpoint from which they start: where the final score peaks, and what a rule would have chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.experiments.chains import Chain
from benchmarks.experiments.scores import Scores
from benchmarks.experiments.statistics import mean_estimate
from stages.evaluation.statistics import Estimate
from stages.selection.rule import Candidate, choose
from stages.stage import Row
from stages.training.ledger import checkpoint_name


@dataclass(frozen=True, slots=True)
class Start:
    """An arm's start, in one chain."""

    arm: str
    checkpoint: str
    probe: Row  # the row of selection's table `candidates`
    ledger: Row  # the arm's row of evaluation's table `ledger`


def starts_of(chain: Chain) -> list[Start]:
    """Of the arms of RL, in their order."""
    candidates = {row["checkpoint"]: row for row in chain.manifests["selection"].tables()["candidates"]}
    ledger = {row["model"]: row for row in chain.manifests["evaluation"].tables()["ledger"]}
    return [Start(arm, ledger[arm]["start"], candidates[ledger[arm]["start"]], ledger[arm]) for arm in chain.rl_arms]


def differ(starts: Sequence[Start]) -> bool:
    """Whether there is anything to compare."""
    return len({start.checkpoint for start in starts}) > 1


def choices(starts: Sequence[Start], *, window: tuple[float, float], validation: Mapping[str, float]) -> dict[str, str]:
    """Rule -> checkpoint that it takes of those that arms start from; ties go to the earlier one. `validation`: checkpoint -> loss."""
    rows = sorted({start.checkpoint: start.probe for start in starts}.items())
    candidates = [
        Candidate(name, row["entropy"], pass_at_1=row["pass@1"], greedy=row["greedy"], mean_tokens=row["mean_tokens"])
        for name, row in rows
    ]
    low, high = window
    found = {
        f"entropy in [{low:g}, {high:g}], then pass@1 (4.3.1)": choose(candidates, window=window).checkpoint,
        "best pass@1 of the probe": max(candidates, key=lambda one: one.pass_at_1).checkpoint,
        "best greedy of the probe": max(candidates, key=lambda one: one.greedy).checkpoint,
        "last": candidates[-1].checkpoint,
    }
    losses = {name: validation[name] for name, _ in rows if name in validation}
    return found | ({"lowest validation loss": min(losses, key=lambda name: losses[name])} if losses else {})


def chain_choices(chain: Chain) -> dict[str, str]:
    """`choices` from the records of a chain."""
    epochs = chain.manifests["sft"].tables()["epochs"]
    losses = {checkpoint_name(row["epoch"]): row["validation_loss"] for row in epochs}
    return choices(
        starts_of(chain),
        window=tuple(chain.manifests["selection"].document["payload"]["config"]["entropy_window"]),
        validation={name: loss for name, loss in losses.items() if loss is not None},
    )


def distance_from_best(
    checkpoint: str, starts: Sequence[Start], scores: Scores, *, metric: str
) -> tuple[str, Estimate | None]:
    """The arm with the best final score, and by how much the one that starts from `checkpoint` differs from it, by problem."""
    best = max((start.arm for start in starts), key=lambda arm: scores.mean(arm, metric))
    chosen = next(start.arm for start in starts if start.checkpoint == checkpoint)
    return best, mean_estimate(scores.differences(chosen, best, metric))
