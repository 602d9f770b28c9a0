"""The page of RL: curves of what the steps and the probe say, and responses that cannot change it."""

import re

import pytest

from stages.report.page import MAX_BYTES, _rl_charts, _smoothed, render

PHASES = [{"phase": "all", "steps": 3, "tokens_trained": 9, "first_reward": 0.25, "last_reward": 0.5}]
PROBES = [
    {"step": step, "greedy": share, "entropy": 0.5, "mean_tokens": 20.0} for step, share in ((0, 0.25), (20, 0.5))
]


def marks(manifests, caption) -> list[str]:
    """Tooltips of the points of a chart."""
    (svg,) = [svg for name, svg in _rl_charts(manifests) if name == caption]
    return re.findall("<title>(.*?)</title>", svg)


def captions(manifests) -> list[str]:
    return [caption for caption, _ in _rl_charts(manifests)]


# ---------------------------------------------------------------- curves


def test_a_step_that_lacks_a_metric_leaves_a_gap_and_breaks_no_curve(made) -> None:
    steps = [
        {"step": 1, "response/mean_tokens": 20.0},  # no verdict counted, so there is no reward and was no update
        {"step": 2, "response/mean_tokens": 21.0, "reward/mean": 0.5, "train/loss": 0.25},
        {"step": 3, "response/mean_tokens": 22.0, "reward/mean": 0.75},
    ]
    manifests = {"rl/a": made("rl", "a", tables={"phases": PHASES}, steps=steps)}
    assert marks(manifests, "reward") == ["a: step 2, reward 0.5", "a: step 3, reward 0.75"]
    assert marks(manifests, "loss") == ["a: step 2, loss 0.25"]
    assert len(marks(manifests, "response length, tokens")) == 3
    assert "gradient norm" not in captions(manifests)


def test_further_sft_has_no_curve_among_those_of_rl(made) -> None:
    arm = made("rl", "a", tables={"phases": PHASES}, steps=[{"step": 1, "train/loss": 0.25}])
    control = made("rl", "b", tables={"epochs": [{"epoch": 1}]}, steps=[{"step": 1, "train/loss": 2.0}])
    assert marks({"rl/a": arm, "rl/b": control}, "loss") == ["a: step 1, loss 0.25"]
    assert _rl_charts({"rl/b": control}) == []


def test_the_probe_has_a_curve_an_arm_from_step_0_with_every_value(made) -> None:
    arms = {f"rl/{arm}": made("rl", arm, tables={"phases": PHASES, "probes": PROBES}) for arm in "ab"}
    assert marks(arms, "probe: share right, greedy") == [
        f"{arm}: step {step}, probe: share right, greedy {share}"
        for arm in "ab"
        for step, share in ((0, 0.25), (20, 0.5))
    ]
    assert {"probe: policy entropy, nats per token", "probe: response length, tokens"} < set(captions(arms))
    unprobed = {"rl/a": made("rl", "c", tables={"phases": PHASES})}
    assert captions(unprobed) == []


def test_a_mean_stands_at_the_last_step_of_its_block() -> None:
    points = [
        (step, float(step)) for step in range(1, 31) if step != 2
    ]  # 29 points: blocks of 2, the last one alone is left out
    found = _smoothed(points)
    assert found[:2] == [(3, 2.0), (5, 4.5)]  # (1 + 3) / 2 and (4 + 5) / 2
    assert len(found) == 14
    assert _smoothed(points[:9]) == points[:9]
    assert _smoothed([]) == []


def test_the_page_says_what_each_rule_would_have_chosen(made) -> None:
    candidates = [
        {
            "checkpoint": name,
            "entropy": 0.5,
            "pass@1": 0.25,
            "greedy": 0.5,
            "validation_loss": loss,
            "chosen": False,
            "why": "",
        }
        for name, loss in (("epoch-01", 1.5), ("mean-of-last-2", 1.25))
    ]
    rules = [
        {"rule": "entropy-window", "checkpoint": "epoch-01", "why": "inside", "applied": True},
        {
            "rule": "highest-pass@k",
            "checkpoint": None,
            "why": "no probe problem has 4 judged responses",
            "applied": False,
        },
    ]
    tables = {"candidates": candidates, "rules": rules}
    page = render("t", {"selection": made("selection", tables=tables, config={"entropy_window": [0.25, 0.5]})})
    assert "no probe problem has 4 judged responses" in page
    assert re.findall("<title>validation loss: (.*?)</title>", page) == [
        "checkpoint 1, nats per token 1.5",
        "checkpoint 2, nats per token 1.25",
    ]


# ---------------------------------------------------------------- responses


def test_a_response_is_shown_and_never_obeyed(made, response) -> None:
    hostile = "</td><script>alert(1)</script>&amp;\"'"
    row = response(response=hostile, reason=hostile, problem_id=hostile, advantage=0.5)
    page = render("t", {"rl/a": made("rl", "a", tables={"phases": PHASES}, rollouts={1: [row]})})
    assert "<script" not in page
    assert page.count("&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&#34;&#39;") == 3
    assert "+0.500<br>entered the loss: 9 of 9 tokens" in page


def test_a_response_that_goes_on_has_no_advantage(made, response) -> None:
    row = response(status="unfinished", advantage=float("nan"), kept_tokens=0)
    page = render("t", {"rl/a": made("rl", "a", tables={"phases": PHASES}, rollouts={1: [row]})})
    assert "unfinished, goes on in the next step" in page
    assert "<td>none<br>not used</td>" in page


@pytest.mark.parametrize(("length", "folded"), [(400, False), (401, True)])
def test_a_long_response_is_folded(made, response, length, folded) -> None:
    arm = made("rl", "a", tables={"phases": PHASES}, rollouts={1: [response(response="x" * length)]})
    page = render("t", {"rl/a": arm})
    assert ("x" * 80 + " …</summary>" in page) is folded
    assert "x" * length in page


def test_the_page_stays_small_whatever_was_said(made, response) -> None:
    said = [response(0, response='"' * 100_000, advantage=1.0), response(1, reason="'" * 100_000, advantage=-1.0)]
    arms = {
        f"rl/{arm}": made("rl", arm, tables={"phases": PHASES}, rollouts=dict.fromkeys(range(1, 4), said))
        for arm in "abcdefgh"
    }
    assert len(render("t", arms).encode()) < MAX_BYTES


def test_a_phase_without_a_verdict_has_an_empty_place_in_its_table(made) -> None:
    phases = [
        {"phase": "first", "steps": 1, "tokens_trained": 0, "last_entropy": 2.0},
        {**PHASES[0], "phase": "second"},
    ]
    page = render("t", {"rl/a": made("rl", "a", tables={"phases": phases})})
    names = ("phase", "steps", "tokens_trained", "last_entropy", "first_reward", "last_reward")
    assert "".join(f"<th>{name}</th>" for name in names) in page
    row = re.search("<tr><td>first</td>.*?</tr>", page)
    assert row and row.group().count("<td") == len(names)
