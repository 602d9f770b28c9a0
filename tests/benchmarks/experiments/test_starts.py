"""What rules would have chosen among the starts of arms, and how far that is from the best, by hand."""

from benchmarks.experiments.scores import Scores
from benchmarks.experiments.starts import Start, choices, differ, distance_from_best
from stages.config import SelectionConfig


def start(epoch: int, *, entropy: float, pass_at_1: float, greedy: float, loss: float | None) -> Start:
    name = f"epoch-{epoch:02d}"
    probe = {
        "checkpoint": name,
        "entropy": entropy,
        "pass@1": pass_at_1,
        "pass@2": pass_at_1 + 0.1 * (epoch == 2) * 3,
        "greedy": greedy,
        "mean_tokens": 9.0,
        "validation_loss": loss,
        "sft_tokens": 100 * epoch,
    }
    return Start(f"from-{epoch}", name, probe, {"start": name})


STARTS = [
    start(8, entropy=0.02, pass_at_1=0.5, greedy=0.5, loss=0.3),
    start(2, entropy=0.4, pass_at_1=0.3, greedy=0.6, loss=0.4),
    start(5, entropy=0.08, pass_at_1=0.4, greedy=0.4, loss=0.2),
]
CONFIG = SelectionConfig(entropy_window=(0.05, 0.1), samples_per_problem=2)


def test_each_rule_takes_its_own_checkpoint_of_those_that_arms_start_from() -> None:
    assert choices(STARTS, CONFIG) == {
        "entropy-window": "epoch-05",
        "highest-pass@k": "epoch-02",
        "validation-loss": "epoch-05",
        "best greedy of the probe": "epoch-02",
        "last checkpoint": "epoch-08",
    }


def test_a_rule_that_lacks_what_it_goes_by_is_left_out() -> None:
    lacking = [*STARTS, start(9, entropy=1.0, pass_at_1=0.0, greedy=0.0, loss=None)]
    found = choices(lacking, CONFIG)
    assert "validation-loss" not in found
    assert found["last checkpoint"] == "epoch-09"


def test_starts_differ_where_there_is_more_than_one_checkpoint() -> None:
    assert differ(STARTS)
    assert not differ(STARTS[:1] * 2)


def test_the_distance_from_the_best_is_paired_by_problem() -> None:
    by_arm = {"from-8": [1, 1, 0, 0], "from-2": [1, 1, 1, 0], "from-5": [0, 1, 0, 0]}
    scores = Scores(
        {(arm, "greedy"): dict(zip("abcd", map(float, values), strict=True)) for arm, values in by_arm.items()},
        {"all": list("abcd")},
    )
    best, distance = distance_from_best("epoch-05", STARTS, scores, metric="greedy")
    assert best == "from-2"
    assert distance is not None and distance.value == -0.5
    _, nothing = distance_from_best("epoch-02", STARTS, scores, metric="greedy")
    assert nothing is not None and nothing.value == 0.0
