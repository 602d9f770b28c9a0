import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from data.benchmarks import BENCHMARKS, Filter, find_benchmark
from data.benchmarks.catalogue import FURTHER, PAPER
from data.benchmarks.forms import FORMS
from data.domains import DOMAINS, Policy

NAMES = ("math500", "aime24", "aime25", "cnmo24", "livemathbench", "livecodebench", "codeforces", "gpqa_diamond")
NAMES += ("olympiadbench_math_en", "minerva_math", "gaokao25_math", "gaokao25_physics")


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=BENCHMARKS)
def test_a_benchmark_is_complete(benchmark):
    assert benchmark.domain in DOMAINS
    assert benchmark.samples >= 1
    assert benchmark.metric in ("pass@1", "rating", "points")
    assert benchmark.prompt in ("question", "choices", "program")
    assert (benchmark.prompt == "program") == (benchmark.domain == "code")
    assert benchmark.revision is None or re.fullmatch(r"[0-9a-f]{40}", benchmark.revision)
    assert bool(benchmark.repo) == bool(benchmark.split)
    assert benchmark.form in ("", *FORMS)
    assert benchmark.subsets
    assert {name for name, _ in benchmark.policy} <= {field.name for field in fields(Policy)}


def test_the_papers_sets_are_there_and_come_first():
    assert tuple(benchmark.name for benchmark in PAPER) == NAMES == tuple(BENCHMARKS)[: len(NAMES)]


def test_each_problem_is_sampled_as_often_as_the_papers_decimals_need():
    once = dict.fromkeys(NAMES, 1)
    often = {
        "math500": 4,
        "aime24": 64,
        "aime25": 64,
        "cnmo24": 64,
        "livecodebench": 8,
        "codeforces": 8,
        "gpqa_diamond": 16,
    }
    assert {benchmark.name: benchmark.samples for benchmark in PAPER} == once | often
    further = {"amc": 16, "hmmt25": 16, "cn_math_2024": 16, "olymmath": 8}
    assert {one.name: one.samples for one in FURTHER if one.samples > 1} == further


def test_what_asks_for_consent_and_what_counts_points_is_said():
    assert [one.name for one in BENCHMARKS.values() if one.is_gated] == ["cnmo24", "livemathbench", "gpqa_diamond"]
    points = {one.name: one.full_points for one in BENCHMARKS.values() if one.metric == "points"}
    assert points == {"gaokao25_math": 150, "gaokao_math": 150} | dict.fromkeys(
        ("gaokao25_physics", "gaokao_physics", "gaokao_science")
    )
    assert [one.name for one in BENCHMARKS.values() if one.metric == "rating"] == ["codeforces"]


def test_a_local_source_belongs_to_one_benchmark_unless_meta_tells_whose_row_it_is():
    sources = [source for one in BENCHMARKS.values() if one.local_rows is None for source in one.sources]
    assert len(sources) == len(set(sources))
    assert {one.name for one in BENCHMARKS.values() if one.local_rows} == {"livecodebench", "gaokao_physics"}


@pytest.mark.parametrize(
    ("name", "source", "meta", "is_its"),
    [
        ("math500", "math500", {}, True),
        ("math500", "math_train", {}, False),
        ("codeforces", "codeforces_2024", {}, True),
        ("gaokao_physics", "gaokao_science", {"subject": "physics"}, True),
        ("gaokao_physics", "gaokao_science", {"subject": "biology"}, False),
        ("gaokao_physics", "gaokao_science", {}, False),
        ("gaokao_physics", "gaokao_physics", {}, True),
        ("livecodebench", "livecodebench", {"contest_date": "2024-08-01T00:00:00"}, True),
        ("livecodebench", "livecodebench", {"contest_date": "2024-07-31"}, False),
        ("livecodebench", "livecodebench", {}, True),
    ],
)
def test_a_row_is_owned_by_its_source_and_what_meta_says(name, source, meta, is_its):
    assert find_benchmark(name).owns(source, meta) is is_its


@pytest.mark.parametrize(
    ("day", "is_kept"),
    [
        ("2024-07-31", False),
        ("2024-08-01", True),
        ("2024-08-01T00:00:00", True),
        ("2025-01-31", True),
        ("2025-01-31T23:59:59", True),
        ("2025-02-01", False),
        ("2025-02-01T00:00:00", False),
    ],
)
def test_both_ends_of_the_window_belong_to_it(day, is_kept):
    assert find_benchmark("livecodebench").rows.keeps({"contest_date": day}) is is_kept


def test_a_filter_without_its_field_says_what_is_there():
    with pytest.raises(ValueError, match=r"has no 'div', by which rows are chosen; it has id, title"):
        Filter("div", among=("Div. 2",)).keeps({"id": 1, "title": "x"})
    assert Filter("div", among=("Div. 2",)).keeps({"div": "Div. 2"})
    assert not Filter("div", among=("Div. 2",)).keeps({"div": "Div. 1 + Div. 2"})


def test_problems_of_one_contest_or_paper_are_one_cluster():
    codeforces, gaokao = find_benchmark("codeforces"), find_benchmark("gaokao_math")
    assert (
        codeforces.cluster_of("a", {"contest": "7", "index": "A"})
        == codeforces.cluster_of("b", {"contest": "7"})
        == "7"
    )
    assert gaokao.cluster_of("a", {"year": "2010", "paper": "I"}) == "2010/I"
    assert gaokao.cluster_of("a", {"year": "2010"}) == "a"
    assert find_benchmark("math500").cluster_of("a", {"contest": "7"}) == "a"


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


def test_the_catalogue_imports_neither_the_judge_nor_arrow():
    script = "import sys, data.benchmarks; print([n for n in ('pyarrow', 'data.domains', 'sympy') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
