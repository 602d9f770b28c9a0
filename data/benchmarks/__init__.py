"""Evaluation sets as data: which there are (`catalogue`), their rows (`loading`), and what their figures need beside a verdict.

`forms` converts the public forms of the sets, `manifest` holds their rows to a frozen version, `codeforces` makes a rating of solved
problems, `gaokao` points of judged answers, `golds` gives a set's own answers back, `own` makes a set of a file of one's own.
"""

from data.benchmarks.catalogue import BENCHMARKS, Benchmark, Filter, find_benchmark

__all__ = ["BENCHMARKS", "Benchmark", "Filter", "find_benchmark"]
