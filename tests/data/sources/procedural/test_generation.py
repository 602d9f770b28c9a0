"""The laws of a draw: distinct prompts, shares, seeds, and an end when nothing is left."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from data.sources.procedural import KINDS, generate_problems

SHARES = {"chain": 0.24, "lin": 0.16, "list": 0.24, "fit": 0.16, "science": 0.20}
SCRIPT = """
from data.sources.procedural import generate_problems, propose_trace
shares = {"chain": 0.2, "lin": 0.2, "list": 0.2, "fit": 0.2, "science": 0.2}
problems = generate_problems(name="a", split="rl", num_problems=50, kinds=shares, levels={2: 0.5, 4: 0.5}, seed=1)
styles = {"long": 0.5, "skip": 0.25, "direct": 0.25}
for problem in problems:
    print(problem, propose_trace(problem, styles=styles, slips=dict.fromkeys(styles, 0.2), seed=2))
"""


def draw(num_problems=200, *, name="toy", kinds=SHARES, levels=None, seed=0, exclude=()):
    return generate_problems(
        name=name,
        split="rl",
        num_problems=num_problems,
        kinds=kinds,
        levels=levels or {1: 0.25, 2: 0.25, 3: 0.25, 4: 0.25},
        seed=seed,
        exclude=exclude,
    )


def test_a_problem_carries_its_columns():
    for index, problem in enumerate(draw()):
        kind = problem.metadata["kind"]
        assert problem.id == f"toy-{index:06d}"
        assert (problem.split, problem.solution, problem.licence) == ("rl", "", "Apache-2.0")
        assert (problem.source, problem.domain) == (f"procedural/{kind}", KINDS[kind].domain)
        assert list(problem.metadata)[:2] == ["kind", "level"]
        assert problem.level in (1, 2, 3, 4)
        assert bool(problem.answer) != bool(problem.tests)
        assert bool(problem.tests) == (kind == "fit")


def test_kinds_cover_the_three_domains():
    assert {name: kind.domain for name, kind in KINDS.items()} == {
        "chain": "math",
        "lin": "math",
        "list": "code",
        "fit": "code",
        "science": "science",
    }


def test_prompts_differ_from_each_other_and_from_the_excluded():
    first = {problem.prompt for problem in draw(1500, levels={1: 1.0})}
    second = {problem.prompt for problem in draw(1500, levels={1: 1.0}, exclude=first)}
    assert len(first) == len(second) == 1500
    assert not first & second


def test_kinds_and_levels_are_drawn_by_share():
    problems = draw(4000, levels={2: 0.4, 3: 0.6})
    kinds = Counter(problem.metadata["kind"] for problem in problems)
    levels = Counter(problem.level for problem in problems)
    assert all(abs(kinds[kind] / 4000 - share) < 0.03 for kind, share in SHARES.items())
    assert abs(levels[3] / 4000 - 0.6) < 0.03


def test_a_kind_of_share_zero_is_not_drawn():
    assert {problem.metadata["kind"] for problem in draw(kinds={"lin": 0.0, "chain": 1.0})} == {"chain"}


def test_the_same_arguments_give_the_same_problems_in_every_process():
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count("</think>") == 50


def test_another_seed_or_name_gives_other_problems():
    prompts = [
        {problem.prompt for problem in draw(name=name, seed=seed)} for name, seed in (("a", 0), ("a", 1), ("b", 0))
    ]
    assert all(len(left & right) < 20 for left in prompts for right in prompts if left is not right)


def test_the_order_in_which_shares_are_named_does_not_matter():
    assert draw(kinds=dict(reversed(SHARES.items())), levels={3: 0.5, 1: 0.5}) == draw(levels={1: 0.5, 3: 0.5})


def test_another_kind_takes_the_place_of_an_exhausted_one():
    problems = draw(2500, kinds={"lin": 0.9, "list": 0.1}, levels={2: 1.0})
    assert len({problem.prompt for problem in problems}) == 2500
    assert Counter(problem.metadata["kind"] for problem in problems)["list"] > 500


def test_an_exhausted_space_is_refused_by_kind_and_level():
    with pytest.raises(ValueError, match="no new problem of kind lin at level 2"):
        draw(5000, kinds={"lin": 1.0}, levels={2: 1.0})


def test_an_unknown_kind_or_level_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown kind of problem poetry"):
        draw(1, kinds={"poetry": 1.0})
    with pytest.raises(ValueError, match="unknown level 5"):
        draw(1, levels={5: 1.0})


def test_meta_and_tests_are_json_with_a_stable_key_order():
    for problem in draw():
        assert json.dumps(json.loads(problem.meta)) == problem.meta
        if problem.tests:
            assert list(json.loads(problem.tests)) == ["type", "function", "inputs", "outputs", "limits"]
