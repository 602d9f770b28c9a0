"""What `ring run` says at the end of a chain as large as the laptop's, with the figures of its documentation."""

import pytest

from flows.ending import MOST_LINES, ending_lines
from flows.request import Request

SCORES = {
    "sft": ((0.644, 0.614, 0.674), (0.558, 0.532, 0.583)),
    "phased": ((0.736, 0.708, 0.764), (0.664, 0.639, 0.688)),
    "mixed": ((0.742, 0.714, 0.769), (0.674, 0.649, 0.700)),
    "more-sft": ((0.675, 0.645, 0.704), (0.644, 0.618, 0.671)),
}
DIFFERENCES = {
    ("phased", "sft"): ((0.092, 0.068, 0.116), (0.1062, 0.08725, 0.125)),
    ("mixed", "sft"): ((0.098, 0.073, 0.123), (0.1168, 0.09775, 0.1355)),
    ("more-sft", "sft"): ((0.031, 0.00595, 0.056), (0.08675, 0.06725, 0.1065)),
    ("phased", "more-sft"): ((0.061, 0.034, 0.088), (0.0195, -0.00125, 0.0405)),
    ("mixed", "more-sft"): ((0.067, 0.04, 0.094), (0.03, 0.00875, 0.051)),
    ("phased", "mixed"): ((-0.006, -0.025, 0.013), (-0.0105, -0.02375, 0.003)),
}
METRICS = ("greedy", "pass@1")


def difference(
    model: str, against: str, group: str, metric: str, n: int, value: float, low: float, high: float
) -> dict:
    row = {"model": model, "against": against, "group": group, "metric": metric, "difference": value}
    shown = {"smallest_difference": (high - low) / 2 * 2.8016 / 1.96, "unequal": n // 4}
    return {**row, "low": low, "high": high, "n": n, "excludes_zero": low > 0 or high < 0, **shown}


def evaluation_tables() -> dict:
    rows = [
        difference(*pair, "all", metric, 1000, *ends)
        for pair, found in DIFFERENCES.items()
        for metric, ends in zip(METRICS, found, strict=True)
    ]
    rows.append(difference("phased", "more-sft", "harder", "greedy", 300, -0.106, -0.16, -0.05))
    rows.append(difference("more-sft", "sft", "harder", "pass@1", 300, 0.118, 0.08, 0.15))
    rows.append(difference("more-sft", "sft", "harder", "greedy", 300, 0.116, 0.06, 0.17))
    results = [
        {"model": model, "group": "all", "metric": metric, "value": value, "low": low, "high": high, "n": 1000}
        for model, found in SCORES.items()
        for metric, (value, low, high) in zip(METRICS, found, strict=True)
    ]
    tokens = {"phased": 900_000, "mixed": 900_000, "more-sft": 1_549_699}
    ledger = [
        {"model": model, "further_tokens": count, "further / sft": count / 1_106_928} for model, count in tokens.items()
    ]
    return {"results": results, "comparisons": rows, "ledger": ledger}


@pytest.fixture
def manifests(seal):
    why = "best pass@1 (0.555) among the 4 checkpoints with an entropy in [0.05, 0.1]; its own is 0.061"
    candidates = [
        {"checkpoint": f"epoch-{n:02d}", "chosen": n == 10, "why": why if n == 10 else ""} for n in range(1, 11)
    ]
    reasons = [
        {"step": "mixture", "reason": "surplus", "count": 999},
        {"step": "decontamination", "reason": "contaminated", "count": 1},
    ]
    funnel = [{"kept": 25_299, "dropped": 1}, {"kept": 24_300, "dropped": 999}]
    curation = seal("curation", tables={"funnel": funnel, "reasons": reasons})
    sft = seal("sft", curation, models=[f"epoch-{n:02d}" for n in range(1, 11)])
    selection = seal(
        "selection",
        curation,
        sft,
        tables={"candidates": candidates},
        files={"choice.json": '{"checkpoint": "epoch-10"}'},
    )
    arms = [seal("rl", curation, sft, selection, arm=arm, models=["model"]) for arm in ("phased", "mixed", "more-sft")]
    evaluation = seal(
        "evaluation", curation, sft, selection, *arms, config={"confidence": 0.95}, tables=evaluation_tables()
    )
    every = [curation, sft, selection, *arms, evaluation, seal("report", evaluation)]
    return {f"rl/{item.arm}" if item.arm else item.stage: item for item in every}


@pytest.fixture
def lines(manifests, home):
    stages = [{"stage": item.stage, "arm": item.arm, "status": "ran"} for item in manifests.values()]
    results = {f"{model}/all/greedy": {"value": found[0][0]} for model, found in SCORES.items()}
    document = {
        "recipe": "laptop",
        "seconds": 642.0,
        "report": str(home / "reports" / f"{'0' * 32}.html"),
        "stages": stages,
    }
    request = Request("laptop", overrides=("rl.objective.token_budget=4000",))
    return ending_lines(
        {**document, "results": results}, manifests, request=request, home=home, width=80, verbose=False
    )


def test_all_that_was_found_fits_a_terminal(lines):
    assert len(lines) <= MOST_LINES
    assert all(len(line) <= 80 or "/" in line for line in lines)  # a path or a command is never broken
    assert not any("more: add --verbose" in line for line in lines), "\n".join(lines)


def test_the_words_are_those_of_the_documentation(lines):
    said = " ".join(" ".join(lines).split())
    for sentence in (
        "laptop with rl.objective.token_budget=4000: 8 stages ran; 642 s.",
        "mixed .742 [.714, .769] .674 [.649, .700]",
        "mixed beats sft: greedy +.098 [.073, .123], pass@1 +.117 [.098, .136].",
        "phased beats more-sft: greedy +.061 [.034, .088]; not told apart in pass@1",
        "phased and mixed cannot be told apart: greedy -.006 [-.025, .013]",
        "On harder (300 problems): more-sft beats sft: pass@1 +.118 [.080, .150], greedy +.116 [.060, .170]; "
        "more-sft beats phased: greedy +.106 [.050, .160].",
        "epoch-10 was chosen of 10 SFT checkpoints: best pass@1 (0.555) among the 4 checkpoints",
        "Tokens trained on after SFT, over those of SFT: phased 0.81 (900,000)",
        "Curation kept 24,300 of 25,300 rows; left out: 999 surplus (mixture), 1 contaminated (decontamination).",
    ):
        assert sentence in said, said


def test_the_best_arm_is_the_example_and_its_folder_is_printed(lines, manifests):
    mixed = manifests["rl/mixed"]
    assert f"  ring model info {mixed.fingerprint[:8]}" in lines
    assert any(line.endswith(f"artifacts/rl/{mixed.fingerprint}/model") for line in lines)
