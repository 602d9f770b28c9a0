"""Arms that differ in the SFT checkpoint from which they start: where the final score peaks, and what a rule would have chosen."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.experiments.chains import Chain
from benchmarks.experiments.scores import Scores
from benchmarks.experiments.statistics import difference_estimate
from stages.config import SelectionConfig
from stages.evaluation.statistics import Estimate
from stages.selection.rule import RULES, Candidate, NoChoiceError
from stages.stage import Row


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


def choices(starts: Sequence[Start], config: SelectionConfig) -> dict[str, str]:
    """Rule -> checkpoint that it takes of those that arms start from; a rule that lacks what it goes by is left out.

    Beside the rules that a recipe can name: the best greedy score, and simply the last checkpoint. `starts` in any order; ties go to the
    earlier checkpoint.
    """
    candidates = [_candidate(start.probe, config) for start in _in_order(starts)]
    found = {}
    for rule, chosen_by in RULES.items():
        with suppress(NoChoiceError):
            found[rule] = chosen_by(candidates, config).checkpoint
    greedy = max(candidates, key=lambda one: one.greedy).checkpoint
    return {**found, "best greedy of the probe": greedy, "last checkpoint": candidates[-1].checkpoint}


def _in_order(starts: Sequence[Start]) -> list[Start]:
    """A start of each checkpoint, in the order of training: those that took more tokens come later."""
    by_checkpoint = {start.checkpoint: start for start in starts}
    return sorted(by_checkpoint.values(), key=lambda start: (start.probe["sft_tokens"], start.checkpoint))


def _candidate(row: Row, config: SelectionConfig) -> Candidate:
    """As selection saw it."""
    return Candidate(
        row["checkpoint"],
        entropy=row["entropy"],
        pass_at_1=row["pass@1"],
        pass_at_k=row[f"pass@{config.samples_per_problem}"],
        greedy=row["greedy"],
        mean_tokens=row["mean_tokens"],
        validation_loss=row["validation_loss"],
    )


def chain_choices(chain: Chain) -> dict[str, str]:
    """`choices` from the records of a chain, by its own settings of the rules."""
    config = SelectionConfig.model_validate(chain.manifests["selection"].document["payload"]["config"])
    return choices(starts_of(chain), config)


def distance_from_best(
    checkpoint: str, starts: Sequence[Start], scores: Scores, *, metric: str
) -> tuple[str, Estimate | None]:
    """The arm with the best final score, and by how much the one that starts from `checkpoint` differs from it, by problem.

    An arm does not differ from itself: no interval.
    """
    best = max((start.arm for start in starts), key=lambda arm: scores.mean(arm, metric))
    chosen = next(start.arm for start in starts if start.checkpoint == checkpoint)
    differences = scores.differences(chosen, best, metric)
    if chosen == best and differences:
        return best, Estimate(0.0, low=0.0, high=0.0, num_problems=len(differences))
    return best, difference_estimate(differences)
