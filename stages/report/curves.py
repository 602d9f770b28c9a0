"""Curves of RL for the page: of the steps, smoothed, and of the probe. Further SFT has other steps and another loss, and no curve here."""

import json
from collections.abc import Callable, Mapping, Sequence

from stages.records.artifact import Manifest
from stages.report.charts import line_chart
from stages.stage import Row

SMOOTHING = 10  # steps in the moving average of per-step RL metrics
_VIOLATION = "router/max_violation_layer_"
BUDGET = "tokens trained on a step, and the budget Phi"
STEP_PLOTS = (  # a metric of the steps, and its name on the page
    ("reward/mean", "reward"),
    ("budget/tokens_used", BUDGET),
    ("response/mean_tokens", "response length, tokens"),
    ("policy/entropy", "policy entropy, nats per token"),
    ("train/gradient_norm", "gradient norm"),
    ("group/zero_advantage_share", "share of groups without signal"),
    ("budget/informative_share", "share of the budget with a policy gradient"),
    ("train/loss", "loss"),
)
PROBE_PLOTS = (
    ("greedy", "probe: share right, greedy"),
    ("entropy", "probe: policy entropy, nats per token"),
    ("mean_tokens", "probe: response length, tokens"),
)
ROUTER = "router: the fullest expert over an even load, less one, of the worst layer"
Points = list[tuple[float, float]]
Curves = Mapping[str, Points]


def rl_arms(manifests: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """The arms with steps of RL, by name."""
    arms = {key.removeprefix("rl/"): manifest for key, manifest in manifests.items() if key.startswith("rl/")}
    return {arm: manifest for arm, manifest in arms.items() if manifest.tables().get("phases")}


def rl_charts(manifests: Mapping[str, Manifest], *, order: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(caption, chart) of what the arms have: the reward, beside it the probe's score, then the others."""
    arms = rl_arms(manifests)
    steps = {arm: _steps(manifest) for arm, manifest in arms.items()}
    probes = {arm: manifest.tables().get("probes", []) for arm, manifest in arms.items()}
    of_steps = [(label, _curves(steps, _metric(name), smoothed=True)) for name, label in STEP_PLOTS]
    of_probes = [(label, _curves(probes, _metric(name), smoothed=False)) for name, label in PROBE_PLOTS]
    router = (ROUTER, _curves(steps, _worst_violation, smoothed=True))
    curves = [of_steps[0], of_probes[0], *of_steps[1:], router, *of_probes[1:]]
    budget = _budget(arms)
    return [
        (
            label,
            line_chart(lines, x_label="step", y_label=label, order=order, level=budget if label == BUDGET else None),
        )
        for label, lines in curves
        if lines
    ]


def _budget(arms: Mapping[str, Manifest]) -> tuple[str, float] | None:
    """Phi, where all phases of all arms that spend a budget have the same one."""
    found = {budget for manifest in arms.values() for budget in _budgets(manifest.document["payload"]["config"])}
    return ("Phi", float(found.pop())) if len(found) == 1 else None


def _budgets(config: Row) -> set[int]:
    """Of the phases of an arm; none where its objective weighs tokens another way."""
    (arm,) = config.get("arms") or ({},)
    objective = arm.get("objective") or config.get("objective", {})
    if objective.get("weights") != "budget":
        return set()
    return {phase.get("token_budget") or objective["token_budget"] for phase in arm.get("phases", [])}


def _steps(manifest: Manifest) -> list[Row]:
    with (manifest.folder / "steps.jsonl").open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def _metric(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.get(name)


def _worst_violation(row: Row) -> float | None:
    """Over layers, of all domains together."""
    return max((row[name] for name in row if name.startswith(_VIOLATION) and name.count("_") == 3), default=None)


def _curves(rows: Mapping[str, Sequence[Row]], value: Callable[[Row], float | None], *, smoothed: bool) -> Curves:
    found = {arm: _points(of_arm, value) for arm, of_arm in rows.items()}
    lines = {arm: _smoothed(points) if smoothed else points for arm, points in found.items()}
    return {arm: line for arm, line in lines.items() if line}


def _points(rows: Sequence[Row], value: Callable[[Row], float | None]) -> Points:
    """(step, value) of the rows that have one: a step without an update has no gradient, one without a verdict no reward."""
    found = [(row["step"], value(row)) for row in rows]
    return [(step, number) for step, number in found if number is not None]


def _smoothed(points: Sequence[tuple[float, float]]) -> Points:
    """Means over blocks of points, at the block's last step: (step, mean)."""
    block = max(1, min(SMOOTHING, len(points) // 10))
    blocks = [points[start : start + block] for start in range(0, len(points) - block + 1, block)]
    return [(part[-1][0], sum(value for _, value in part) / block) for part in blocks]
