"""Intervals hold the truth where it is known, on seeded sets."""

import numpy as np
import pytest

from benchmarks.coverage import CASES, Case, coverage, main, percentile_coverage

CHOSEN = (
    "n=30 p=0.5", "n=100 p=0.9", "n=100 p=0.1", "n=30 K=4 Beta(0.5, 0.5)", "n=30 K=64 Beta(0.2, 0.2)", "n=30 K=4 Beta(0.2, 1.8)",
    "n=100 K=4 Beta(1, 49)", "30 x 4 p=0.5 correlation=0.4", "n=100 alone=0.15, 0.15 both=0.3", "n=30 alone=0.4, 0.1 both=0.5",
    "n=100 K=4 Beta(2, 2) log-odds +1, 0", "n=100 K=64 Beta(0.5, 0.5) log-odds +1, 1",
)  # fmt: skip
NUM_SETS = 1500


def cases() -> dict[str, Case]:
    return {case.name: case for kind in CASES.values() for case in kind()}


@pytest.mark.slow
def test_between_93_and_97_in_a_hundred_intervals_hold_the_truth() -> None:
    every = cases()
    for name in CHOSEN:
        found = coverage(every[name], num_sets=NUM_SETS, seed=0)
        assert 0.93 <= found.share <= 0.975, name  # half a point more: of so many sets the share has an error of .006


@pytest.mark.parametrize(("num", "truth"), [(30, 0.02), (30, 0.98)])
def test_near_the_ends_an_interval_is_wide_rather_than_narrow(num: int, truth: float) -> None:
    (case,) = (one for one in CASES["shares"]() if one.name == f"n={num} p={truth}")
    found = coverage(case, num_sets=1000, seed=0)
    assert 0.97 < found.share < 0.99  # of 0, 1 and 2 of 30: with p = .02 in 97.8 % of sets
    assert percentile_coverage(case, num_sets=300, seed=0).share < 0.6


def test_a_share_of_sets_and_a_width_by_hand() -> None:
    case = Case("shares", "always right", 0.5, lambda _: np.ones(4))
    found = coverage(case, num_sets=3, seed=0)
    assert found.share == 0  # [.51, 1] holds no half
    assert found.width == pytest.approx(1.959963984540054**2 / (4 + 1.959963984540054**2))


def test_the_table_has_a_row_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sets", "20", "--kinds", "shares"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 15
    assert all(line.count("|") == 7 for line in lines)
