"""What an arm has to say at its end: sums over its steps, by hand."""

from dataclasses import asdict

from data.schema import Problem
from stages.config import RlArm
from stages.rl.progress import Progress, pool_rows
from stages.rl.prompts import Pool
from stages.training.compute import SAMPLING, TOTAL, TRAINING
from tests.stages.rl.scripted import pool_of


def figures(
    reward: float | None, *, used: float = 30.0, failures: float = 0.0, count: int = 10, **values: float
) -> dict[str, float]:
    return {
        **({} if reward is None else {"reward/mean": reward}),
        "response/count": float(count),
        "response/new_tokens": 2.5 * count,
        "policy/entropy": 0.5,
        "judge/failures": failures,
        "budget/tokens_used": used,
        **values,
    }


def counted() -> Progress:
    """Four steps of two phases: the second under-filled, the third without a verdict."""
    progress = Progress()
    lacking = {"budget/tokens_missing": 10.0, "budget/underfilled_ranks": 1.0}
    full = {"budget/tokens_missing": 0.0, "budget/underfilled_ranks": 0.0}
    progress.count(1, "one", figures(0.25, used=40.0, count=16, **full))
    progress.count(2, "one", figures(0.5, count=20, **lacking, **{"policy/entropy": 0.75}))
    progress.count(3, "two", figures(None, used=0.0, count=8, failures=8.0))
    progress.count(4, "two", figures(0.75, failures=2.0))
    return progress


def test_steps_add_up() -> None:
    progress = counted()
    assert progress.step == 4
    assert progress.tokens_trained == 40 + 30 + 0 + 30
    assert progress.tokens_generated == 40 + 50 + 20 + 25
    assert progress.tokens_missing == 10
    assert (progress.verdicts, progress.failures) == (54, 10)
    assert progress.underfilled == 1
    assert progress.skipped == 0


def test_a_phase_has_its_first_and_last_reward_and_its_tokens() -> None:
    assert list(counted().phases.values()) == [
        {
            "phase": "one", "steps": 2, "first_reward": 0.25, "last_reward": 0.5, "last_entropy": 0.75, "tokens_trained": 70
        },
        {
            "phase": "two", "steps": 2, "first_reward": 0.75, "last_reward": 0.75, "last_entropy": 0.5, "tokens_trained": 30
        },
    ]  # fmt: skip


def test_metrics_are_the_sums_and_the_last_steps_values() -> None:
    progress = counted()
    progress.skipped = 1
    progress.spend({TRAINING: 30, SAMPLING: 5})
    assert progress.spend({TRAINING: 10, SAMPLING: 1})[TOTAL] == 46.0
    last = {"reward/mean": 0.75, "policy/entropy": 0.5, "policy/kl": 0.125, "train/loss": 9.0}
    assert progress.metrics(last, pool_of(math=3, code=2)) == {
        "train/steps": 4.0,
        "train/skipped_steps": 1.0,
        "tokens/trained": 100.0,
        "tokens/generated": 135.0,
        "compute/training_flops": 40.0,
        "compute/sampling_flops": 6.0,
        "compute/total_flops": 46.0,
        "budget/tokens_missing": 10.0,
        "budget/underfilled_steps": 1.0,
        "judge/total_failures": 10.0,
        "pool/problems": 5.0,
        "reward/mean_final": 0.75,
        "policy/entropy_final": 0.5,
        "policy/kl_final": 0.125,
    }


def test_a_last_step_without_an_update_has_no_final_kl() -> None:
    metrics = counted().metrics({"policy/entropy": 0.5}, pool_of(math=1))
    assert {name for name in metrics if name.endswith("_final")} == {"policy/entropy_final"}


def test_notes_tell_under_filled_and_skipped_steps_and_failures_of_the_judge() -> None:
    progress = counted()
    progress.skipped = 2
    under, skipped, failed = progress.notes()
    assert under.startswith("in 1 of 4 steps the tokens of prompts with a policy gradient did not fill the budget:")
    assert skipped == "in 2 of 4 steps no response entered the loss, and the weights stayed as they were"
    assert failed == "the judge failed on 10 of 54 responses; they took no part"


def test_where_all_went_well_there_is_no_note() -> None:
    progress = Progress()
    progress.count(1, "p", figures(0.5))
    assert progress.notes() == ()


def test_the_scores_of_a_phase_are_of_the_probes_since_it_began() -> None:
    progress = counted()  # phase two took steps 3 and 4
    for step, score in enumerate((0.125, 0.25, 0.375, None, 0.5)):
        progress.note_probe(step, {} if score is None else {"probe/greedy": score})
    assert progress.scores_of("two") == [0.375, 0.5]


def test_a_phase_that_ended_early_is_told_with_its_steps_and_the_arms_tokens() -> None:
    progress, steps = counted(), {"one": 2, "two": 9}
    phases = [{"name": name, "steps": count, "mixture": {"math": 1.0}} for name, count in steps.items()]
    planned = RlArm.model_validate({"kind": "rl", "name": "arm", "phases": phases})
    assert progress.early_ends(planned) == ()
    progress.ended = {"two": 2}
    assert progress.early_ends(planned) == (
        "phase two ended at a plateau of the probe after 2 of 9 steps; the others were not taken, and the arm trained on 100 tokens",
    )


def test_progress_is_plain_and_begins_again_from_what_was_saved() -> None:
    progress = counted()
    assert Progress(**asdict(progress)) == progress
    empty = asdict(Progress())
    assert not any(empty.values())


def test_the_pools_table_names_what_is_kept_and_what_is_left_out() -> None:
    row = Problem("a", "math", "rl", prompt="what")
    pool = Pool({"math": (row, row), "code": (row,)}, {"always solved": 3, "not judged": 1})
    assert pool_rows(pool) == [
        {"problems": "kept: code", "count": 1},
        {"problems": "kept: math", "count": 2},
        {"problems": "left out: always solved", "count": 3},
        {"problems": "left out: not judged", "count": 1},
    ]
