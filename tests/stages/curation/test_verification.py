import json
from dataclasses import replace

import pyarrow as pa
import pytest

from data.domains import Judge
from data.sources.procedural import generate_problems
from stages.config import CurationConfig, ProceduralSource, Teacher
from stages.curation.cleansing import cleanse
from stages.curation.verification import Chunk, verify, verify_chunk

SURE = {"long": 0.0, "skip": 0.0, "direct": 0.0}
NEVER = {"long": 1.0, "skip": 1.0, "direct": 1.0}  # a slip at every operation
LONG = {"long": 1.0, "skip": 0.0, "direct": 0.0}
KINDS = {"chain": 0.5, "lin": 0.5}


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


def _generated(split, count=12):
    return generate_problems(name="some", split=split, num_problems=count, kinds=KINDS, levels={2: 1.0}, seed=0)


def _taught(split, judge, *, slips, max_tries=4):
    teacher = Teacher(styles=LONG, slips=slips, max_tries=max_tries)
    return verify_chunk(Chunk(tuple(_generated(split)), "some", teacher, seed=0), judge)


def test_the_first_proposal_that_verifies_is_the_solution(judge):
    findings = _taught("sft", judge, slips=SURE)
    assert all(finding.reason == "" and "</think>" in finding.solution for finding in findings)
    assert {finding.num_judged for finding in findings} == {1}


def test_more_tries_save_rows_and_change_no_row_that_an_earlier_try_solved(judge):
    slips = {"long": 0.3, "skip": 0.3, "direct": 0.3}
    few, many = (_taught("sft", judge, slips=slips, max_tries=tries) for tries in (1, 6))
    assert 0 < sum(finding.solution != "" for finding in few) < sum(finding.solution != "" for finding in many)
    assert all(more.solution == less.solution for less, more in zip(few, many, strict=True) if less.solution)


@pytest.mark.parametrize("split", ["base", "sft", "validation"])
def test_a_row_to_train_on_without_a_verified_trace_is_dropped(judge, split):
    wrong = [finding for finding in _taught(split, judge, slips=NEVER) if finding.reason]
    assert wrong
    assert all(finding.reason == "trace does not verify" and finding.evidence.startswith("wrong") for finding in wrong)


def test_an_rl_row_that_the_teacher_cannot_solve_is_kept_without_solution(judge):
    findings = _taught("rl", judge, slips=NEVER)
    assert all(finding.reason == "" for finding in findings)
    assert any(finding.solution == "" for finding in findings)


def _check(judge, *problems):
    return verify_chunk(Chunk(problems, "local", None, seed=0), judge)


def test_a_right_solution_is_kept_and_a_wrong_one_dropped(problem, judge):
    right, wrong = _check(
        judge,
        problem(split="sft", solution=r"It is \boxed{42}."),
        problem(split="sft", solution=r"It is \boxed{41}."),
    )
    assert (right.reason, right.solution) == ("", "It is \\boxed{42}.\n</think>\n\n\\boxed{42}")
    assert wrong.reason == "solution does not verify"
    assert wrong.evidence.startswith("wrong: '41'")


def test_an_rl_row_keeps_its_place_if_its_gold_answer_verifies(problem, judge):
    unsolved, wrong, broken = _check(
        judge,
        problem(split="rl"),
        problem(split="rl", solution=r"It is \boxed{41}."),
        problem(split="rl", answer=r"\frac{1}{2"),
    )
    assert (unsolved.reason, unsolved.solution) == ("", "")
    assert (wrong.reason, wrong.solution) == ("", "")
    assert broken.reason == "gold answer does not verify"


def test_a_failure_of_the_judge_is_a_reason_of_its_own(problem, judge):
    (finding,) = _check(judge, problem(split="sft", answer="", solution=r"It is \boxed{41}."))
    assert finding.reason == "judge failed: bad_gold"


def test_a_reference_program_must_pass_the_tests_whatever_the_split(program, judge):
    right, wrong, without, unresolved = _check(
        judge,
        program(split="rl", solution="def add(a, b):\n    return a + b"),
        program(split="rl", solution="def add(a, b):\n    return a - b"),
        program(split="rl"),
        program(split="rl", solution="def add(a: Node, b):\n    return a + b"),
    )
    assert right.reason == "" and "return a + b" in right.solution
    assert wrong.reason == "solution does not verify"
    assert (without.reason, unresolved.reason) == ("no reference program", "unresolved name")
    assert "NameError" in unresolved.evidence


def test_code_without_a_reference_stays_where_the_recipe_says_so(program, batch, worker):
    rows = batch(program(split="rl"))
    kept = [not verify(worker, (rows, CurationConfig(code_without_reference=rule))).drops for rule in ("drop", "keep")]
    assert kept == [False, True]


@pytest.mark.parametrize(
    ("check", "accepted"),
    [
        ("assert add(1, 2) is not None", "functions that return object()"),
        ("add(1, 2)\nassert callable(add)", "functions that return object()"),
        ("assert not add(1, 2)", "functions that return None"),
        ("assert add(1, 2) == None", "functions that return None"),
        ("for k in range(3):\n    assert add(k, 1) or True", "functions that return object()"),
        (
            "import unittest\nclass T(unittest.TestCase):\n    def test_x(self): self.assertTrue(add(1, 2) or True)",
            "functions that return object()",
        ),
    ],
)
def test_tests_that_accept_anything_are_dropped(program, judge, check, accepted):
    solutions = ("def add(a, b): return a + b", "def add(a, b): return None")
    found = _check(judge, *(program(split="rl", check=check, solution=solution) for solution in solutions))
    reasons = {finding.evidence for finding in found if finding.reason == "tests accept anything"}
    assert reasons == {accepted} and all(finding.reason for finding in found)


@pytest.mark.parametrize(
    ("checker", "is_kept"),
    [
        ("def check(i, o, e): return o.split() == e.split()", True),
        ("def check(i, o, e): return True", False),
        ("def check(i, o, e): return o.strip() in ('5', '6')", False),
        ("def check(i, o, e): return not o.strip() or o.split() == e.split()", False),
    ],
)
def test_a_checker_must_refuse_what_is_no_answer(problem, judge, checker, is_kept):
    compare = {"mode": "checker", "checker": checker}
    tests = json.dumps({"type": "stdin", "inputs": ["2 3", "10 -4"], "outputs": ["5", "6"], "compare": compare})
    row = problem(
        domain="code", split="rl", answer="", tests=tests, solution="print(sum(int(x) for x in input().split()))"
    )
    (finding,) = _check(judge, row)
    assert (finding.reason == "") is is_kept


@pytest.mark.parametrize(
    "tests",
    [
        {"type": "call", "function": "add", "inputs": [[1, 2], [3, -5]], "outputs": [3, -2]},
        {"type": "functional", "fn_name": "add", "inputs": ["1\n2", "3\n-5"], "outputs": ["3", "-2"]},
        {
            "type": "function",
            "entry_point": "add",
            "check": "def check(f):\n    assert f(1, 2) == 3\n    assert f(3, -5) == -2",
        },
        {"type": "asserts", "check": "assert add(1, 2) == 3\nassert add(3, -5) == -2"},
    ],
)
@pytest.mark.parametrize("split", ["sft", "rl"])
def test_code_rows_stay_whatever_form_their_tests_have(problem, batch, worker, tests, split):
    row = problem(
        domain="code", split=split, answer="", tests=json.dumps(tests), solution="def add(a, b):\n    return a + b"
    )
    rows = batch(row)
    assert cleanse(worker, (rows, CurationConfig())).drops == [] == list(verify(worker, (rows, CurationConfig())).drops)


def test_weak_tests_leave_rl_unless_the_recipe_keeps_them(problem, batch, worker):
    code = "class V:\n    def __init__(s, x): s.x = x\n    def __eq__(s, o): return s.x == o.x\n    def __add__(s, o): return V(s.x + o.x)"
    tests = json.dumps({"type": "asserts", "check": "assert V(1) + V(2) == V(3)"})
    rows = [problem(domain="code", split=split, answer="", tests=tests, solution=code) for split in ("rl", "sft")]
    reasons = [
        [drop.reason for drop in verify(worker, (batch(*rows), CurationConfig(weak_tests=rule))).drops]
        for rule in ("drop", "keep")
    ]
    assert reasons == [["weak tests"], []]


@pytest.mark.parametrize(
    ("solution", "names"),
    [
        ("def add(a, b):\n    return total(a, b)", "total; "),
        ("import numpy_of_ours as np\ndef add(a, b):\n    return np.add(a, b)", "numpy_of_ours; "),
        ("from math import add_up\ndef add(a, b):\n    return add_up(a, b)", "no name stands out; "),
    ],
)
def test_a_name_that_nothing_defines_is_a_reason_of_its_own(program, judge, solution, names):
    (finding,) = _check(judge, program(split="rl", solution=solution))
    assert finding.reason == "unresolved name" and finding.evidence.startswith(names)


def test_a_row_to_train_on_needs_a_solution(problem, judge):
    absent, unfinished = _check(
        judge, problem(split="sft"), problem(split="validation", solution=r"<think> it is \boxed{42}")
    )
    assert absent.reason == "no solution"
    assert unfinished.reason == "trace: thinking not closed"


def test_rows_that_are_right_by_construction_are_not_judged(problem, batch, worker):
    source = ProceduralSource(kind="procedural", name="plain", split="rl", num_problems=1, kinds=KINDS, levels={2: 1.0})
    config = CurationConfig(sources=(source,))
    plain = batch(*_generated("rl", count=3), via="plain", generated=True)
    given = batch(*(problem(id=f"a/{i}", split="sft", solution=rf"\boxed{{{i}}}") for i in (41, 42)))
    sifted = verify(worker, (pa.concat_tables([plain, given]), config))
    assert [(drop.row, drop.reason) for drop in sifted.drops] == [(3, "solution does not verify")]
    assert sifted.changed["solution"][4].endswith(r"\boxed{42}")
    assert sifted.num_judged == 2


def test_a_generated_row_with_a_solution_of_its_own_is_judged_by_it_and_not_taught(batch, worker):
    teacher = Teacher(styles=LONG, slips=SURE)
    source = ProceduralSource(
        kind="procedural", name="some", split="sft", num_problems=2, kinds=KINDS, levels={2: 1.0}, teacher=teacher
    )
    first, second = _generated("sft", count=2)
    rows = batch(first, replace(second, solution="<think>\n1 </think> \\boxed{ 1000 }"), via="some", generated=True)
    sifted = verify(worker, (rows, CurationConfig(sources=(source,))))
    assert [(drop.row, drop.reason) for drop in sifted.drops] == [(1, "solution does not verify")]
    assert "</think>" in sifted.changed["solution"][0]


@pytest.mark.parametrize("part_rows", [1, 2, 5])
def test_a_batch_judged_in_parts_is_the_same(problem, batch, pool, funnel, part_rows):
    rows = [problem(id=str(i), split="sft", solution=rf"\boxed{{{40 + i}}}") for i in range(5)]
    kept, step = funnel.sift(
        f"verification-{part_rows}", verify, pool(batch(*rows)), CurationConfig(), part_rows=part_rows
    )
    assert kept.read(0)["id"].to_pylist() == ["2"]
    assert step.num_judged == 5 and step.reasons == {"solution does not verify": 4}
