"""What a chain says of itself, from small tables made by hand."""

import pytest

from stages.report.findings import findings


def difference(model: str, against: str, metric: str, value: float, low: float, high: float, **more) -> dict:
    row = {"model": model, "against": against, "group": "all", "metric": metric, "difference": value}
    shown = {"smallest_difference": 0.027 if metric == "greedy" else 0.019, "unequal": 9}
    return {**row, "low": low, "high": high, "n": 1000, "excludes_zero": low > 0 or high < 0, **shown, **more}


def told(*comparisons: dict) -> tuple[str, ...]:
    return findings({"evaluation": {"comparisons": comparisons}}, confidence=0.95).sentences


ABOVE = ("greedy", 0.092, 0.068, 0.116), ("pass@1", 0.106, 0.087, 0.125)
UNDECIDED = ("greedy", -0.006, -0.025, 0.013), ("pass@1", -0.011, -0.024, 0.003)


def test_a_difference_is_told_where_its_interval_excludes_zero() -> None:
    assert told(*(difference("phased", "sft", *row) for row in ABOVE)) == (
        "phased beats sft: greedy +.092 [.068, .116], pass@1 +.106 [.087, .125].",
    )


def test_who_is_behind_is_told_from_the_side_of_the_one_ahead() -> None:
    assert told(difference("mixed", "more-sft", "greedy", -0.05, -0.08, -0.02)) == (
        "more-sft beats mixed: greedy +.050 [.020, .080].",
    )


def test_metrics_that_disagree_are_told_each_by_its_own_side() -> None:
    rows = difference("a", "b", "greedy", 0.1, 0.05, 0.15), difference("a", "b", "pass@1", -0.1, -0.15, -0.05)
    assert told(*rows) == ("a beats b: greedy +.100 [.050, .150]; b beats a: pass@1 +.100 [.050, .150].",)


def test_a_metric_that_does_not_tell_two_apart_is_said_beside_the_one_that_does() -> None:
    rows = difference("a", "b", "greedy", 0.061, 0.034, 0.088), difference("a", "b", "pass@1", 0.02, -0.001, 0.041)
    assert told(*rows) == ("a beats b: greedy +.061 [.034, .088]; not told apart in pass@1 +.020 [-.001, .041].",)


def test_two_that_cannot_be_told_apart_are_told_with_the_difference_that_would_show() -> None:
    (sentence,) = told(*(difference("phased", "mixed", *row) for row in UNDECIDED))
    assert sentence == (
        "phased and mixed cannot be told apart: greedy -.006 [-.025, .013], pass@1 -.011 [-.024, .003]; "
        "a difference of .027 would show four times in five."
    )


def test_many_that_cannot_be_told_apart_are_one_sentence() -> None:
    names = ("a", "b"), ("a", "c"), ("b", "c"), ("b", "d")
    (sentence,) = told(*(difference(*pair, *row) for pair in names for row in UNDECIDED))
    assert sentence == (
        "Cannot be told apart (differences of .027 would show four times in five): a and b, a and c, b and c, b and d."
    )


def test_problems_that_are_too_few_for_any_difference_say_so() -> None:
    few = {"n": 5, "smallest_difference": None}
    rows = [difference("a", "b", *row, **(few if row[0] == "greedy" else {})) for row in UNDECIDED]
    assert told(*rows)[0].endswith("; no difference would show four times in five.")
    names = ("a", "b"), ("a", "c"), ("b", "c"), ("b", "d")
    (sentence,) = told(*(difference(*pair, *UNDECIDED[0], **few) for pair in names))
    assert sentence.startswith("Cannot be told apart (no difference would show four times in five): a and b, ")


def test_an_end_at_zero_tells_nothing_apart() -> None:
    assert "cannot be told apart" in told(difference("a", "b", "greedy", -0.05, -0.125, 0.0))[0]


def test_equal_answers_and_a_single_problem_are_not_taken_for_a_measurement() -> None:
    assert told(difference("a", "b", "greedy", 0.0, -0.003, 0.003, unequal=0)) == (
        "a and b score alike on each of the 1,000 problems.",
    )
    assert told(difference("a", "b", "greedy", 1.0, 1.0, 1.0, n=1)) == (
        "a and b cannot be told apart: greedy +1.000 [1.000, 1.000]; one problem says nothing.",
    )


def test_what_is_told_apart_comes_before_what_is_not_and_nothing_is_told_twice() -> None:
    rows = [*(difference("b", "c", *row) for row in UNDECIDED), *(difference("a", "c", *row) for row in ABOVE)]
    first, second = told(*rows)
    assert first.startswith("a beats c") and second.startswith("b and c cannot")


@pytest.mark.parametrize("group", ["math", "level 2", "code level 3"])
def test_parts_of_all_are_left_to_the_tables(group: str) -> None:
    assert told(difference("a", "b", *ABOVE[0], group=group)) == ()


@pytest.mark.parametrize("group", ["harder", "math500", "level"])
def test_a_group_that_all_does_not_hold_is_told_by_its_largest_differences(group: str) -> None:
    rows = [difference("a", model, "greedy", value, 0.01, 0.5, group=group, n=300) for model, value in ARMS]
    assert told(*rows, difference("a", "e", *UNDECIDED[0], group=group)) == (
        f"On {group} (300 problems): a beats c: greedy +.300 [.010, .500]; a beats d: greedy +.200 [.010, .500]; 1 more pair.",
    )


ARMS = ("b", 0.1), ("c", 0.3), ("d", 0.2)


def result(model: str, metric: str, value: float, low: float, high: float) -> dict:
    return {"model": model, "group": "all", "metric": metric, "value": value, "low": low, "high": high, "n": 1000}


def test_scores_are_a_row_a_model_with_intervals() -> None:
    rows = [
        result("sft", "greedy", 0.644, 0.614, 0.674),
        result("sft", "pass@1", 1, 1, 1),
        result("sft", "pass@4", 0, 0, 0),
    ]
    found = findings({"evaluation": {"results": rows}}, confidence=0.9)
    assert found.scores == ({"model": "sft", "greedy": ".644 [.614, .674]", "pass@1": "1.000 [1.000, 1.000]"},)
    assert found.scored_on == "Share of right answers to 1,000 problems never seen, 90 % intervals"


# ---------------------------------------------------------------- chains that end early

CURATION = {
    "funnel": [
        {"step": "cleansing", "kept": 90, "dropped": 10, "main reasons": ""},
        {"step": "mixture", "kept": 80, "dropped": 10, "main reasons": ""},
    ],
    "reasons": [{"step": "cleansing", "reason": reason, "count": count} for reason, count in zip("abcd", (6, 2, 1, 1), strict=True)]
    + [{"step": "mixture", "reason": "surplus", "count": 10}],
}  # fmt: skip
EPOCHS = [
    {"epoch": 1, "train_loss": 2.5, "validation_loss": 2.25},
    {"epoch": 2, "train_loss": 1.5, "validation_loss": 2.375},
]
SELECTION = {"candidates": [
    {"checkpoint": "epoch-01", "chosen": False, "why": ""},
    {"checkpoint": "epoch-02", "chosen": True, "why": "because"},
]}  # fmt: skip
PHASES = [
    {"steps": 2, "tokens_trained": 800, "last_reward": 0.5},
    {"steps": 3, "tokens_trained": 1200, "last_reward": 0.25},
]
KEPT = "Curation kept 80 of 100 rows; left out: 10 surplus (mixture), 6 a (cleansing), 2 b (cleansing), 2 for other reasons."
CHOSEN = "epoch-02 was chosen of 2 SFT checkpoints: because."


def said(**stages) -> tuple[str, ...]:
    found = findings({name.replace("__", "/"): tables for name, tables in stages.items()}, confidence=None)
    assert found.scores == () and found.scored_on == ""
    return found.sentences


def test_curation_alone_says_what_it_kept() -> None:
    assert said(curation=CURATION) == (KEPT,)
    assert said(curation={"funnel": CURATION["funnel"][:1], "reasons": []}) == ("Curation kept 90 of 100 rows.",)


def test_a_chain_that_ends_with_sft_says_its_loss_and_which_epoch_was_better() -> None:
    assert said(curation=CURATION, base={"epochs": EPOCHS}, sft={"epochs": EPOCHS}) == (
        "SFT ended with a loss of 1.500 nats per token in epoch 2; on rows not trained on 2.375, best 2.250 at epoch-01.",
        KEPT,
    )


def test_the_best_checkpoint_of_an_epochs_middle_is_told_by_its_name() -> None:
    names = ("epoch-00+1of2", "epoch-01")
    rows = [
        {"epoch": epoch, "checkpoint": name, "train_loss": 2.5, "validation_loss": loss}
        for epoch, name, loss in zip((0.5, 1), names, (1.25, 1.5), strict=True)
    ]
    assert said(sft={"epochs": rows}) == (
        "SFT ended with a loss of 2.500 nats per token in epoch 1; on rows not trained on 1.500, best 1.250 at epoch-00+1of2.",
    )


def test_a_base_without_validation_says_its_loss() -> None:
    epochs = [{"epoch": 1, "train_loss": 2.5, "validation_loss": None}]
    assert said(base={"epochs": epochs}) == ("The base model ended with a loss of 2.500 nats per token in epoch 1.",)


def test_a_chain_that_ends_with_selection_says_the_choice_alone() -> None:
    assert said(sft={"epochs": EPOCHS}, selection=SELECTION) == (CHOSEN,)


def test_arms_that_are_not_evaluated_claim_nothing() -> None:
    found = said(selection=SELECTION, rl__phased={"phases": PHASES}, rl__more={"epochs": EPOCHS[:1]})
    assert found == (
        CHOSEN,
        "phased: 5 steps of RL on 2,000 tokens, reward .250 in the last one.",
        "more: further SFT, a loss of 2.500 nats per token in epoch 1; on rows not trained on 2.250.",
        "The arms are not evaluated yet: a reward on training problems says little about new ones.",
    )


def test_arms_that_are_evaluated_on_benchmarks_alone_are_not_said_to_wait() -> None:
    result = {
        "model": "phased",
        "group": "math500",
        "metric": "greedy",
        "value": 0.5,
        "low": 0.25,
        "high": 0.75,
        "n": 8,
    }
    tables = {"rl/phased": {"phases": PHASES}, "evaluation": {"results": [result], "ledger": []}}
    told = ("phased: 5 steps of RL on 2,000 tokens, reward .250 in the last one.",)
    assert findings(tables, confidence=0.95).sentences == told


def test_an_arm_whose_last_step_has_no_verdict_says_so() -> None:
    phases = [{"steps": 1, "tokens_trained": 0, "last_entropy": 2.0}]
    assert said(rl__mixed={"phases": phases})[0] == "mixed: 1 step of RL on 0 tokens, no verdict in the last one."


def test_evaluated_arms_are_told_with_their_tokens() -> None:
    ledger = [
        {"model": "sft", "further_tokens": 0, "further / sft": 0.0},
        {"model": "mixed", "further_tokens": 900_000, "further / sft": 0.8137},
    ]
    tables = {"rl/mixed": {"phases": PHASES}, "evaluation": {"ledger": ledger}}
    assert findings(tables, confidence=0.95).sentences == (
        "Tokens trained on after SFT, over those of SFT: mixed 0.81 (900,000).",
    )


def test_flops_are_told_from_the_arm_with_the_most() -> None:
    ledger = [
        {"model": model, "further_tokens": tokens, "further / sft": 0.5, "further_flops": flops, "flops / most": flops / 6.26e12}
        for model, tokens, flops in (("sft", 0, 0.0), ("mixed", 9, 5.79e12), ("more-sft", 17, 6.26e12), ("phased", 9, 5.77e12))
    ]  # fmt: skip
    assert findings({"evaluation": {"ledger": ledger}}, confidence=0.95).sentences[1] == (
        "FLOPs after SFT: more-sft 6.26e+12, mixed 0.92 of that, phased 0.92 of that."
    )
