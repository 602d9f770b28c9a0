"""Curves of RL: what the steps and the probe say, an arm at a time, with gaps where there is no value."""

import re

from stages.report.curves import BUDGET, ROUTER, _smoothed, rl_charts

PHASES = [{"phase": "all", "steps": 3, "tokens_trained": 9, "first_reward": 0.25, "last_reward": 0.5}]
PROBES = [
    {"step": step, "greedy": share, "entropy": 0.5, "mean_tokens": 20.0} for step, share in ((0, 0.25), (20, 0.5))
]


def svg_of(manifests, caption, **options) -> str:
    (svg,) = [svg for name, svg in rl_charts(manifests, **options) if name == caption]
    return svg


def marks(manifests, caption) -> list[str]:
    """Tooltips of the points of a chart."""
    return re.findall("<title>(.*?)</title>", svg_of(manifests, caption))


def captions(manifests) -> list[str]:
    return [caption for caption, _ in rl_charts(manifests)]


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
    assert rl_charts({"rl/b": control}) == []


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


def test_the_budget_stands_as_a_line_where_all_arms_spend_the_same_one(made) -> None:
    def arm(name, **objective):
        config = {
            "objective": {"weights": "budget", "token_budget": 9},
            "arms": [{"objective": None, "phases": [{"token_budget": None}]}],
        }
        config["arms"][0]["objective"] = objective or None
        steps = [{"step": step, "budget/tokens_used": 9.0} for step in (1, 2)]
        return made("rl", name, tables={"phases": PHASES}, steps=steps, config=config)

    assert marks({"rl/a": arm("a")}, BUDGET)[0] == "Phi: 9"
    two = {"rl/b": arm("b"), "rl/c": arm("c", weights="budget", token_budget=12)}
    assert not any(mark.startswith("Phi") for mark in marks(two, BUDGET))
    without = {"rl/d": arm("d", weights="response", token_budget=12)}
    assert not any(mark.startswith("Phi") for mark in marks(without, BUDGET))


def test_the_router_has_the_curve_of_its_worst_layer_over_all_domains(made) -> None:
    step = {
        "step": 1,
        "router/max_violation_layer_00": 0.5,
        "router/max_violation_layer_01": 0.75,
        "router/max_violation_layer_01_math": 2.0,
    }
    arm = made("rl", "a", tables={"phases": PHASES}, steps=[step])
    assert marks({"rl/a": arm}, ROUTER) == [f"a: step 1, {ROUTER} 0.75"]


def test_an_arm_has_one_colour_in_every_plot(made) -> None:
    steps = [{"step": 1, "reward/mean": 0.5}]
    full = made("rl", "a", tables={"phases": PHASES, "probes": PROBES}, steps=steps)
    probed = made("rl", "b", tables={"phases": PHASES, "probes": PROBES})
    charts = [svg for _, svg in rl_charts({"rl/a": full, "rl/b": probed}, order=("start", "b", "a"))]
    colours = {
        name: set(re.findall(rf'<g class="(s\d)">(?:(?!</g>).)*?<title>{name}: ', "".join(charts))) for name in "ab"
    }
    assert colours == {"a": {"s2"}, "b": {"s1"}}
