import pytest

from data.benchmarks import find_benchmark
from data.benchmarks.golds import EXPLAINED, give_back, gold_response, spread
from data.benchmarks.loading import load_benchmark, verifier_policy
from data.benchmarks.manifest import FOLDER, frozen
from data.domains import Judge

NUM_ROWS = 50  # of each set; `python -m benchmarks golds` has all
WITHOUT_GOLDS = ("codeforces", "code_contests_test")  # tests, and no program that passes them
SETS = sorted(path.stem for path in FOLDER.glob("*.txt") if path.stem not in WITHOUT_GOLDS)


def test_a_gold_is_a_box_or_a_program_or_nothing(row):
    assert gold_response(row(answer=r"\frac12")) == r"\boxed{\frac12}"
    assert gold_response(row(answer="", tests="{}", solution="print(1)")) == "```python\nprint(1)\n```"
    assert gold_response(row(answer="1", tests="{}")) is None
    assert gold_response(row(answer=" ")) is None


def test_a_sample_is_spread_evenly_over_the_set(row):
    rows = [row(number) for number in range(10)]
    assert [problem.id for problem in spread(rows, 4)] == ["x/0", "x/2", "x/5", "x/7"]
    assert spread(rows, 10) == spread(rows, 11) == rows


@pytest.mark.slow
def test_rows_without_a_gold_are_not_asked(row):
    rows = [row(1), row(2, answer=""), row(3)]
    with Judge(requires_thinking=False) as judge:
        given = give_back(rows, judge)
    assert [one.problem.id for one in given] == ["x/1", "x/3"]
    assert all(one.is_right for one in given)


@pytest.mark.parametrize("name", SETS)
def test_golds_given_back_are_right(name, shared_data):
    benchmark = find_benchmark(name)
    rows = spread(load_benchmark(benchmark, data_dir=shared_data), NUM_ROWS)
    with Judge(requires_thinking=False, policy=verifier_policy(benchmark)) as judge:
        given = give_back(rows, judge)
    assert given
    assert {one.problem.id: one.verdict.reason for one in given if not one.is_right}.keys() <= EXPLAINED.keys()


@pytest.mark.parametrize("name", WITHOUT_GOLDS)
def test_sets_without_golds_have_none(name, shared_data):
    assert [gold_response(row) for row in load_benchmark(find_benchmark(name), data_dir=shared_data)].count(
        None
    ) == len(frozen(name).digests)


def test_what_is_explained_is_there():
    assert {own for own in EXPLAINED if not any(own in frozen(name).digests for name in SETS)} == set()
