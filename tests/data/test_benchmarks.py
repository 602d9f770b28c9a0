import re
from pathlib import Path

import pytest

from data.benchmarks import BENCHMARKS, find_benchmark
from data.domains import DOMAINS

PAPER = ("math500", "aime24", "aime25", "cnmo24", "livemathbench", "livecodebench", "codeforces", "gpqa_diamond")
PAPER += ("olympiadbench_math_en", "minerva_math")


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=BENCHMARKS)
def test_a_benchmark_is_complete(benchmark):
    assert benchmark.domain in DOMAINS
    assert benchmark.samples >= 1
    assert benchmark.metric in ("pass@1", "rating")
    assert benchmark.revision is None or re.fullmatch(r"[0-9a-f]{40}", benchmark.revision)
    assert bool(benchmark.repo) == bool(benchmark.split)


def test_the_papers_sets_are_there():
    assert set(PAPER) <= set(BENCHMARKS)


def test_a_local_source_belongs_to_one_benchmark():
    sources = [source for benchmark in BENCHMARKS.values() for source in benchmark.sources]
    assert len(sources) == len(set(sources))


@pytest.mark.parametrize(
    ("wrong", "near"), [("math-500", "math500"), ("aime2024", "aime24"), ("human_eval", "humaneval")]
)
def test_the_nearest_name_is_offered(wrong, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        find_benchmark(wrong)


def test_every_recipe_names_benchmarks_that_exist():
    from stages.recipe import load_recipe, recipe_names

    assert recipe_names()
    for name in recipe_names():
        for benchmark in load_recipe(name).recipe.curation.benchmarks:
            assert benchmark in BENCHMARKS, Path(name)
