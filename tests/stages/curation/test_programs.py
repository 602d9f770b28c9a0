import json

import pytest

from stages.config import Duplicates
from stages.curation.duplicates import drop_duplicates
from stages.curation.programs import solve_each_other
from stages.curation.sketches import called_name

EVEN = "def add(a):\n    return [n for n in a if n % 2 == 0]"
ODD = "def add(a):\n    return [n for n in a if n % 2]"
TASK = "Write a python function to find the {} numbers from the mixed list that you are given, in their order."


@pytest.fixture
def task(program):
    def make(text, check, solution):
        return program(TASK.format(text), id=text, check=check, solution=solution)

    return make


@pytest.fixture
def tasks(task):
    return (
        task("even", "assert add([1, 2, 3]) == [2]", EVEN),
        task("odd", "assert add([1, 2, 3]) == [1, 3]", ODD),
        task("evenn", "assert add([4, 5]) == [4]", EVEN),
        task("evens", "assert add([4, 5]) == [4]", ""),
    )


def test_programs_are_one_task_when_each_passes_the_tests_of_the_other(tasks, worker):
    even, odd, again, unsolved = tasks
    assert solve_each_other(worker, [(even, odd), (even, again), (even, unsolved), (again, even)]) == [
        False, True, False, True,
    ]  # fmt: skip


def test_a_stronger_program_that_passes_weaker_tests_is_another_task(task, worker):
    first = task("first", "assert add([2, 4]) == [2, 4]", "def add(a):\n    return a")
    even = task("even", "assert add([1, 2]) == [2]", EVEN)  # passes the tests of the first
    assert solve_each_other(worker, [(first, even)]) == [False]


def test_alike_texts_of_other_tasks_both_stay(tasks, batch, pool, funnel, dropped):
    step = drop_duplicates(pool(batch(*tasks[:2]), batch(*tasks[2:])), Duplicates(near=0.6), funnel)[1]
    assert [(row["id"], row["against"]) for row in dropped(step)] == [("evenn", "even")]


@pytest.mark.parametrize(
    ("check", "name"),
    [
        ("assert first([1]) == 1", "first"),
        ("def check(candidate):\n    assert is_same(candidate(1), 1)\n\ncheck(Solution().sort_list)", "sort_list"),
        ("def check(candidate):\n    assert candidate(1) == 1\n\ncheck(first)", "first"),
        ("def check(candidate):\n    assert candidate(1) == 1", "solve"),
    ],
)
def test_the_called_function_is_the_one_under_test_and_no_helper(problem, check, name):
    row = problem(
        "Complete:\n    def solve(x):",
        domain="code",
        tests=json.dumps({"type": "function", "setup": "", "check": check, "entry_point": ""}),
    )
    assert called_name(row) == name
