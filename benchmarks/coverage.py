"""How often the intervals of an evaluation hold the truth, where the truth is known: a row a kind of scores, size of set and truth.

    python -m benchmarks coverage [--sets 4000] [--seed 0] [--kinds shares means clusters greedy-differences mean-differences]

Draws so many sets of each case, takes the interval of each as `stages.evaluation.statistics` does, at 95 %, and prints the share that
holds the truth and the mean width, beside those of a percentile bootstrap (of a tenth of the sets). Cases: right or wrong; means of K
samples of problems whose difficulty follows a Beta distribution; problems of one contest alike; two models on the same problems, where the
one is better by an amount on the scale of log-odds that differs by problem. What lies below 93 % is marked `narrow`, above 97 % `wide`.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from zlib import crc32

import numpy as np

from stages.evaluation.statistics import Estimate, estimate_difference, estimate_mean

CONFIDENCE = 0.95
NARROW, WIDE = 0.93, 0.97
BETAS = ((2, 2), (20, 20), (0.5, 0.5), (0.2, 0.2), (0.3, 0.7), (0.2, 1.8), (1, 9), (0.1, 4.9), (1, 49), (4.9, 0.1))
SHIFTS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))  # of the log-odds: mean and standard deviation over problems
DISCORDANCE = (  # chance that the one alone, the other alone, and both are right
    (0.01, 0.01, 0.5), (0.02, 0.0, 0.0), (0.05, 0.05, 0.4), (0.1, 0.02, 0.4), (0.15, 0.15, 0.3), (0.25, 0.25, 0.25), (0.4, 0.1, 0.5),
)  # fmt: skip
_RESAMPLES = 999
_MANY = 1_000_000  # problems, where the truth is a mean over them
_FLOOR = 1e-12  # of a chance, whose log-odds are finite

Draw = Callable[[np.random.Generator], np.ndarray]
Interval = Callable[..., Estimate | None]


@dataclass(frozen=True, slots=True)
class Case:
    """Sets of one kind."""

    kind: str
    name: str
    truth: float
    draw: Draw  # a value a problem
    clusters: tuple[str, ...] | None = None

    @property
    def interval(self) -> Interval:
        return estimate_difference if self.kind.endswith("differences") else estimate_mean


@dataclass(frozen=True, slots=True)
class Covered:
    """What intervals of one rule did on one case."""

    share: float  # of sets whose interval holds the truth
    width: float  # mean


# ---------------------------------------------------------------- cases


def shares() -> Iterator[Case]:
    """Right or wrong, each problem alone."""
    for num, truth in product((30, 100, 500), (0.02, 0.1, 0.5, 0.9, 0.98)):
        yield Case("shares", f"n={num} p={truth}", truth, _right(num, truth))


def _right(num: int, truth: float) -> Draw:
    return lambda rng: (rng.random(num) < truth).astype(float)


def means() -> Iterator[Case]:
    """Means over K samples a problem."""
    for num, samples, (a, b) in product((30, 100), (4, 64), BETAS):
        yield Case("means", f"n={num} K={samples} Beta({a}, {b})", a / (a + b), _beta_means(num, samples, a, b))


def _beta_means(num: int, samples: int, a: float, b: float) -> Draw:
    return lambda rng: rng.binomial(samples, rng.beta(a, b, num)) / samples


def clusters() -> Iterator[Case]:
    """Problems of a contest are alike to a degree: the correlation within one."""
    for (num, size), truth, correlation in product(((14, 6), (30, 4)), (0.02, 0.1, 0.5, 0.98), (0.0, 0.1, 0.4)):
        names = tuple(str(cluster) for cluster in range(num) for _ in range(size))
        name = f"{num} x {size} p={truth} correlation={correlation}"
        yield Case("clusters", name, truth, _contests(num, size, truth, correlation), names)


def _contests(num: int, size: int, truth: float, correlation: float) -> Draw:
    def draw(rng: np.random.Generator) -> np.ndarray:
        chances = np.full(num, truth)
        if correlation:
            spread = 1 / correlation - 1
            chances = rng.beta(truth * spread, (1 - truth) * spread, num)
        return (rng.random(num * size) < np.repeat(chances, size)).astype(float)

    return draw


def greedy_differences() -> Iterator[Case]:
    """Two models right or wrong on the same problems."""
    for num, (better, worse, both) in product((30, 100, 500), DISCORDANCE):
        name = f"n={num} alone={better}, {worse} both={both}"
        yield Case("greedy-differences", name, better - worse, _paired(num, better, worse))


def _paired(num: int, better: float, worse: float) -> Draw:
    def draw(rng: np.random.Generator) -> np.ndarray:
        place = rng.random(num)
        return (place < better).astype(float) - (place > 1 - worse)

    return draw


def mean_differences() -> Iterator[Case]:
    """Means over K samples of two models on the same problems."""
    for num, samples, (a, b), (shift, spread) in product((30, 100), (4, 64), BETAS, SHIFTS):
        rng = np.random.default_rng(0)
        easy = rng.beta(a, b, _MANY)
        truth = float((_shifted(easy, shift, spread, rng) - easy).mean())
        name = f"n={num} K={samples} Beta({a}, {b}) log-odds +{shift:g}, {spread:g}"
        yield Case("mean-differences", name, truth, _beta_differences(num, samples, (a, b), (shift, spread)))


def _shifted(chances: np.ndarray, shift: float, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Chances whose log-odds are moved, by a normal amount."""
    kept = np.clip(chances, _FLOOR, 1 - _FLOOR)
    odds = kept / (1 - kept) * np.exp(shift + spread * rng.standard_normal(len(kept)))
    return odds / (1 + odds)


def _beta_differences(num: int, samples: int, beta: tuple[float, float], by: tuple[float, float]) -> Draw:
    def draw(rng: np.random.Generator) -> np.ndarray:
        theirs = rng.beta(*beta, num)
        ours = _shifted(theirs, *by, rng)
        return (rng.binomial(samples, ours) - rng.binomial(samples, theirs)) / samples

    return draw


CASES: dict[str, Callable[[], Iterator[Case]]] = {
    "shares": shares,
    "means": means,
    "clusters": clusters,
    "greedy-differences": greedy_differences,
    "mean-differences": mean_differences,
}

# ---------------------------------------------------------------- coverage


def coverage(case: Case, *, num_sets: int, seed: int) -> Covered:
    """Of the rule of `stages.evaluation.statistics`; the sets depend on the seed and on the case's name alone."""
    rng = _generator(case, seed)
    found = [case.interval(case.draw(rng), confidence=CONFIDENCE, clusters_P=case.clusters) for _ in range(num_sets)]
    return _covered([(one.low, one.high) for one in found if one is not None], case.truth)


def percentile_coverage(case: Case, *, num_sets: int, seed: int) -> Covered:
    """Of a percentile bootstrap over problems, or over clusters of equal size."""
    rng = _generator(case, seed)
    num = len(dict.fromkeys(case.clusters)) if case.clusters else len(case.draw(rng))
    weights = rng.multinomial(num, [1 / num] * num, size=_RESAMPLES) / num
    ends = []
    for _ in range(num_sets):
        units = case.draw(rng).reshape(num, -1).mean(1)
        ends.append(tuple(np.quantile(weights @ units, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))))
    return _covered(ends, case.truth)


def _generator(case: Case, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, crc32(f"{case.kind} {case.name}".encode())))


def _covered(ends: Sequence[tuple[float, float]], truth: float) -> Covered:
    low, high = np.array(ends).T
    return Covered(float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean()))


# ---------------------------------------------------------------- the command


def _line(case: Case, covered: Covered, bootstrap: Covered) -> str:
    mark = "narrow" if covered.share < NARROW else "wide" if covered.share > WIDE else ""
    cells = [case.kind, case.name, f"{case.truth:+.4f}", *map(_cell, (covered, bootstrap)), mark]
    return f"| {' | '.join(cells)} |"


def _cell(covered: Covered) -> str:
    return f"{100 * covered.share:.1f} % ({covered.width:.3f})"


def main(arguments: Sequence[str]) -> int:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks coverage", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--sets", type=int, default=4000, help="sets of each case")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--kinds", nargs="+", choices=CASES, default=tuple(CASES), help="kinds of scores")
    options = parser.parse_args(arguments)
    print("| kind | case | truth | covered (mean width) | percentile bootstrap | |\n| - | - | - | - | - | - |")
    for case in (case for kind in options.kinds for case in CASES[kind]()):
        found = coverage(case, num_sets=options.sets, seed=options.seed)
        few = math.ceil(options.sets / 10)
        print(_line(case, found, percentile_coverage(case, num_sets=few, seed=options.seed)), flush=True)
    return 0
