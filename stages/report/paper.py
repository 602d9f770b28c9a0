"""What the paper reports of Ring-lite, to stand beside a chain's own scores (Table 1; 4.1.2 has the protocol)."""

from collections.abc import Sequence

from stages.stage import Row

RING_LITE = {  # benchmark -> share of right answers, pass@1 over the samples of its protocol
    "math500": 0.9665,
    "aime24": 0.7661,
    "aime25": 0.6911,
    "cnmo24": 0.7561,
    "livemathbench": 0.8374,
    "livecodebench": 0.6066,
    "gpqa_diamond": 0.6105,
    "olympiadbench_math_en": 0.7995,
}
_METRIC = "pass@1"


def beside_the_paper(results: Sequence[Row]) -> list[Row]:
    """Of the table `results` the paper's benchmarks: a row each, with pass@1 of every model, and Ring-lite's."""
    found: dict[str, Row] = {}
    for row in results:
        if row["group"] in RING_LITE and row["metric"] == _METRIC:
            said = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            found.setdefault(row["group"], {"benchmark": row["group"], "metric": _METRIC})[row["model"]] = said
    return [{**row, "Ring-lite (paper)": f"{RING_LITE[name]:.3f}"} for name, row in found.items()]
