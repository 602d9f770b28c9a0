"""Right answers and traces, against a second and slower way to find them."""

import json
import math
import re
from itertools import product
from random import Random

import pint
import pytest

from data.schema import Problem
from data.sources.procedural import KINDS, generate_problems, propose_trace
from data.sources.procedural.kind import LEVELS

NO_SLIPS = {"long": 0.0, "skip": 0.0, "direct": 0.0}
EVERY_KIND_AND_LEVEL = [(kind, level) for kind in KINDS for level in LEVELS]
QUANTITIES = pint.UnitRegistry()


def draw_problems(kind: str, level: int, num_problems: int = 60) -> list[Problem]:
    return generate_problems(
        name="toy", split="rl", num_problems=num_problems, kinds={kind: 1.0}, levels={level: 1.0}, seed=3
    )


def write_trace(problem: Problem, style: str) -> str:
    return propose_trace(problem, styles={style: 1.0}, slips=NO_SLIPS, seed=0)


def read_box(trace: str) -> str:
    return re.fullmatch(r"\\boxed\{ (.*) \}", trace.split("</think> ")[1])[1]


def is_right_chain(prompt: str, answer: str) -> bool:
    modulus, first, *rest = re.fullmatch(r"compute left to right mod (\d+) : (\d+) (.*)", prompt).groups()
    words = rest[0].split()
    nested = first
    for sign, right in zip(words[::2], words[1::2], strict=True):
        nested = f"({nested} {sign} {right})"
    return eval(nested) % int(modulus) == int(answer)


def is_right_lin(prompt: str, answer: str) -> bool:
    python = re.sub(r"(\d+) (x|\()", r"\1 * \2", prompt.removeprefix("solve "))
    left, right = (eval(side, {"x": int(answer)}) for side in python.split(" = "))
    return left == right


def is_right_list(prompt: str, answer: str) -> bool:
    names, digits = (part.split() for part in prompt.removeprefix("program ").split(" : "))
    state = [int(digit) for digit in digits]
    for name in names:
        first, second, third, fourth = state
        state = {
            "inc": [first + 1, second + 1, third + 1, fourth + 1],
            "dbl": [first + first, second + second, third + third, fourth + fourth],
            "neg": [10 - first, 10 - second, 10 - third, 10 - fourth],
            "rev": [fourth, third, second, first],
            "swap": [second, first, third, fourth],
            "rot": [second, third, fourth, first],
            "sort": sorted(state),
            "dec": [(first + 9) % 10, (second + 9) % 10, (third + 9) % 10, (fourth + 9) % 10],
        }[name]
        state = [int(str(value)[-1]) for value in state]
    return state == [int(digit) for digit in answer.split()]


def is_right_science(prompt: str, answer: str) -> bool:
    """Some product of the givens or their inverses has the dimension and the size of the answer."""
    target = QUANTITIES.parse_expression(answer)
    givens = [
        eval(value) * QUANTITIES.parse_expression(unit) for value, unit in re.findall(r"= ([\d -]+) (\S+)", prompt)
    ]
    combined = (
        math.prod(given**power for given, power in zip(givens, powers, strict=True))
        for powers in product((1, -1), repeat=len(givens))
    )
    return any(
        value.dimensionality == target.dimensionality and math.isclose((value / target).to_base_units().magnitude, 1)
        for value in combined
    )


def is_right_fit(problem: Problem, trace: str) -> bool:
    scope: dict = {}
    exec(re.search(r"```python\n(.*)\n```$", trace, re.S)[1], scope)
    tests = json.loads(problem.tests)
    visible = re.findall(r"(\d+) > (\d+)", problem.prompt)
    hidden = zip(tests["inputs"], tests["outputs"], strict=True)
    return all(scope["f"](int(x)) == int(y) for x, y in visible) and all(scope["f"](*x) == y for x, y in hidden)


CHECKS = {"chain": is_right_chain, "lin": is_right_lin, "list": is_right_list, "science": is_right_science}


@pytest.mark.parametrize(("kind", "level"), EVERY_KIND_AND_LEVEL)
@pytest.mark.parametrize("style", ["long", "skip", "direct"])
def test_a_trace_without_slips_ends_with_the_right_answer(kind, level, style):
    for problem in draw_problems(kind, level):
        trace = write_trace(problem, style)
        if kind == "fit":
            assert is_right_fit(problem, trace), problem
        else:
            assert read_box(trace) == problem.answer
            assert CHECKS[kind](problem.prompt, problem.answer), problem


@pytest.mark.parametrize(("kind", "level"), [pair for pair in EVERY_KIND_AND_LEVEL if pair[0] != "list"])
@pytest.mark.parametrize("style", ["long", "skip"])
def test_every_line_of_a_trace_without_slips_is_true(kind, level, style):
    for problem in draw_problems(kind, level, num_problems=30):
        modulus = problem.metadata.get("modulus", 1_000)
        for line in write_trace(problem, style).split(" </think> ")[0].split("\n"):
            sides = [side for side in line.split(" = ") if not re.search("[a-z]", side)]
            assert len({eval(side) % modulus for side in sides}) == 1, line


@pytest.mark.parametrize("level", LEVELS)
def test_a_list_trace_says_the_state_after_each_operation(level):
    for problem in draw_problems("list", level):
        before = " ".join(map(str, problem.metadata["digits"]))
        for line in write_trace(problem, "long").split(" </think> ")[0].split("\n"):
            name, state = line.split(" ", 1)
            assert is_right_list(f"program {name} : {before}", state)
            before = state


@pytest.mark.parametrize(
    ("kind", "sizes"), [("chain", [(2, 3), (4, 5), (6, 7), (8,)]), ("list", [(2, 3), (4, 5), (6, 7), (8,)])]
)
def test_a_level_sets_the_number_of_operations(kind, sizes):
    for level, expected in zip(LEVELS, sizes, strict=True):
        counts = {
            len(problem.metadata["signs" if kind == "chain" else "program"]) for problem in draw_problems(kind, level)
        }
        assert counts == set(expected)


def test_the_equations_of_the_four_levels_have_the_forms_of_the_table():
    forms = [
        r"solve \d x [+-] \d+ = \d+",
        r"solve \d \( x [+-] \d+ \) = \d+",
        r"solve \d x \+ \d+ = \d x \+ \d+",
        r"solve \d \( x \+ \d+ \) = \d x \+ \d+",
    ]
    for level, form in zip(LEVELS, forms, strict=True):
        assert all(re.fullmatch(form, problem.prompt) for problem in draw_problems("lin", level))


def test_fit_has_negative_intercepts_from_level_2_and_no_small_inputs_from_level_3():
    for level in LEVELS:
        problems = draw_problems("fit", level, num_problems=200)
        negative = [problem for problem in problems if " x - " in write_trace(problem, "direct")]
        assert bool(negative) == (level >= 2)
        smallest = min(x for problem in problems for x in problem.metadata["xs"])
        assert smallest == (2 if level >= 3 else 0)


def test_hidden_tests_are_23_and_none_is_visible():
    for problem in draw_problems("fit", 2):
        hidden = {x for (x,) in json.loads(problem.tests)["inputs"]}
        assert len(hidden) == 23
        assert not hidden & set(problem.metadata["xs"])


def test_science_has_one_two_three_three_formulas_and_differences_from_level_2():
    depths, differences = [], []
    for level in LEVELS:
        problems = draw_problems("science", level)
        depths.append({len(problem.metadata["formulas"]) for problem in problems})
        differences.append({sum(minus > 0 for *_, minus in problem.metadata["given"]) for problem in problems})
    assert depths == [{1}, {2}, {3}, {3}]
    assert differences == [{0}, {0, 1}, {0, 1}, {2, 3}]


@pytest.mark.parametrize(
    ("kind", "level", "least"),
    [("chain", 2, 4900), ("lin", 2, 1300), ("lin", 3, 2500), ("list", 2, 4900), ("fit", 2, 4000), ("science", 2, 4500)],
)
def test_five_thousand_draws_give_many_distinct_problems(kind, level, least):
    rng = Random(0)
    assert len({KINDS[kind].draw(rng, level).prompt for _ in range(5000)}) >= least
