"""Code: what passes, what fails, and that an answer cannot cheat."""

import json

import pyarrow.parquet as pq
import pytest

from data.domains import Judge, programs
from data.domains.extraction import Program, language_named
from data.domains.instruments import Instruments
from data.sandbox import Job, Limits, Sandbox, SandboxError
from data.schema import Problem, problems_from_table

CALL = {"type": "call", "function": "f", "inputs": [[3], [5]], "outputs": [17, 31]}
STDIN = {"type": "stdin", "inputs": ["2 3\n", "10 -4\n"], "outputs": ["5\n", "6\n"]}
ASSERTS = {"type": "function", "setup": "", "check": "assert f(3) == 17\nassert f(5) == 31", "entry_point": ""}
SPLIT = {
    "type": "function",
    "setup": "",
    "check": "def check(g):\n    assert abs(g(3) - 17) < 1e-6\n    assert g(5) in [31]",
    "entry_point": "f",
}


def verdict(judge, code: str, tests: dict | None, answer: str = "", language: str = "python"):
    problem = Problem("p", "code", "train", "", answer, json.dumps(tests) if tests is not None else "")
    return judge.verify([(f"steps </think>\n```{language}\n{code}\n```", problem)])[0]


@pytest.mark.parametrize("tests", [CALL, ASSERTS, SPLIT])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("def f(x): return 7 * x - 4", "correct"),
        ("f = lambda x: 7 * x - 4", "correct"),
        ("def f(x): return 7 * x", "wrong"),
        ("def g(x): return 7 * x - 4", "wrong"),
        ("def f(x): raise ValueError", "wrong"),
        ("def f(x):\n  while True: pass", "timeout"),
        ("def f(x): return [0] * 10**10", "wrong"),
        ("def f(x", "wrong"),
    ],
)
def test_functions_are_judged_by_their_values(judge, tests, code, status):
    assert verdict(judge, code, {**tests, "limits": {"time_s": 0.3}}).status == status


CHEATS = [
    "import os\nos._exit(0)",
    "raise SystemExit",
    "class E(int):\n    def __eq__(self, o): return True\n    def __sub__(self, o): return 0\ndef f(x): return E(0)",
    "class A:\n    __eq__ = lambda s, o: True\n    __hash__ = None\nf = lambda x: A()",
    "import builtins\nbuiltins.AssertionError = BaseException\nf = lambda x: 0",
    "import sys, os\nsys.excepthook = lambda *a: os._exit(0)\nf = lambda x: 1 / 0",
    'import os\nos.write(3, b\'{"end": "ok"}\\n\')\nos._exit(0)',
    "import atexit, os\natexit.register(lambda: os._exit(0))\nf = lambda x: 0",
    "import gc\nhits = [o for o in gc.get_objects() if type(o) is dict and 'outputs' in o]\nf = lambda x: hits[0]['outputs'][x == 5]",
    "import json\njson.dumps = lambda *a, **k: '17'\nf = lambda x: 0",
    "import re, sys\nsys.settrace(lambda *a: None)\nframe, text = sys._getframe(), ''\nwhile frame:\n    text += str(frame.f_locals)\n"
    "    frame = frame.f_back\nf = lambda x: (n := (8 + 9, 30 + 1)[x == 5]) * bool(re.search(rf'\\b{n}\\b', text))",
    "import sys\ntry: raise ValueError\nexcept ValueError as e:\n    frame = e.__traceback__.tb_frame.f_back\n"
    "f = lambda x: frame.f_locals['job']['outputs'][x == 5]",
    "import inspect\nf = lambda x: [int(w) for w in open(inspect.stack()[-1].filename).read().split() if w in ('17', '31')][x == 5]",
    "import os\nos._exit(87)",
]


@pytest.mark.parametrize(
    "output", ["'1' * 900_000 + 'x'", "'0.' + '1' * 900_000", "'1e' + '9' * 900_000", "'1 ' * 400_000"]
)
def test_an_output_made_to_be_slow_to_compare_is_not(judge, output):
    tests = {"type": "stdin", "inputs": ["1\n"], "outputs": ["0.5\n"]}
    judged = verdict(judge, f"print({output})", tests)
    assert judged.status == "wrong"
    assert judged.seconds < 5


@pytest.mark.parametrize("tests", [CALL, ASSERTS, SPLIT])
@pytest.mark.parametrize("code", CHEATS)
def test_a_cheat_does_not_pass(judge, tests, code):
    assert verdict(judge, code, tests).score == 0.0


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("print(sum(map(int, input().split())))", "correct"),
        ("a, b = map(int, input().split())\nprint(a - b)", "wrong"),
        ("print(sum(map(int, input().split()))); raise SystemExit(1)", "wrong"),
        ("while True: pass", "timeout"),
        ("import sys\nwhile True: sys.stdout.write('x' * 65536)", "resource_limit"),
        ("x = bytearray(10**12)", "resource_limit"),
    ],
)
def test_programs_are_judged_by_their_output(judge, code, status):
    assert verdict(judge, code, {**STDIN, "limits": {"time_s": 0.5, "output_mb": 1}}).status == status


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        (1, True, True),
        (1, 1.0, True),
        (2.0, 2, True),
        (0.1 + 0.2, 0.3, True),
        ([1, 2], (1, 2), True),
        ([1], [1, 2], False),
        ({"a": 1}, {"a": 1}, True),
        ("1", 1, False),
    ],
)
def test_a_value_is_compared_as_python_does(judge, expected, output, same):
    tests = {"type": "call", "function": "f", "inputs": [[]], "outputs": [expected]}
    assert (verdict(judge, f"def f(): return {output!r}", tests).score == 1.0) is same


def test_types_are_compared_where_the_tests_say_so(judge):
    tests = {"type": "call", "function": "f", "inputs": [[]], "outputs": [1], "compare": {"mode": "strict"}}
    codes = [f"def f(): return {value}" for value in ("1", "1.0", "True")]
    assert [verdict(judge, code, tests).score for code in codes] == [1.0, 0.0, 0.0]


def test_a_result_may_stand_in_a_list_of_its_own_where_every_one_does(judge):
    tests = {"type": "functional", "fn_name": "f", "inputs": [[3], [5]], "outputs": [[9], [25]]}
    codes = ["def f(x): return x * x", "def f(x): return [x * x]", "def f(x): return x"]
    assert [verdict(judge, code, tests).score for code in codes] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("expected", "printed", "compare", "status"),
    [
        ("2", "2.000000000", {"mode": "float", "tol": 1e-6}, "correct"),
        ("2", "2.1", {"mode": "float", "tol": 1e-6}, "wrong"),
        ("2000000", "2000001", {"mode": "float", "tol": 1e-6}, "wrong"),
        ("2", "2.0", {}, "wrong"),
        ("2.0", "2", {}, "correct"),
        ("1e400", "0.0", {}, "wrong"),
        ("1e400", "1.0e400", {}, "correct"),
        ("1" * 400 + ".5", "0.5", {}, "wrong"),
        ("0.5", "nan", {}, "wrong"),
        ("0.5", "inf", {}, "wrong"),
    ],
)
def test_numbers_are_close_only_where_both_are_numbers(judge, expected, printed, compare, status):
    tests = {"type": "stdin", "inputs": ["1\n"], "outputs": [f"{expected}\n"], "compare": compare}
    assert verdict(judge, f"print({printed!r})", tests).status == status


@pytest.mark.parametrize(
    "limits",
    [
        {"time_s": 1e9},
        {"time_s": -1},
        {"time_s": float("nan")},
        {"time_s": 0},
        {"memory_mb": 100_000},
        {"output_mb": 10**12},
    ],
)
def test_limits_without_bounds_are_the_data_sets_fault(judge, limits):
    assert verdict(judge, "print(5)", {**STDIN, "limits": limits}).status == "bad_gold"


def test_an_output_that_is_expected_may_be_as_large_as_it_is(judge):
    tests = {"type": "stdin", "inputs": ["1\n"], "outputs": ["x" * 3_000_000], "limits": {"output_mb": 1}}
    assert verdict(judge, "print('x' * 3_000_000)", tests).status == "correct"


@pytest.mark.parametrize(
    "checker", ["eval(o) == eval(e)", "__import__('json').loads(o) == 1", "pickle.loads(o)", "exec(o)"]
)
def test_a_checker_that_evaluates_an_output_is_refused(judge, checker):
    compare = {"mode": "checker", "checker": f"import pickle\ndef check(i, o, e): return {checker}"}
    assert verdict(judge, "print(5)", {**STDIN, "compare": compare}).status == "bad_gold"


@pytest.mark.parametrize(
    ("box", "status"), [("[]", "correct"), ("[ ]", "correct"), ("(),[]", "wrong"), ("{}", "wrong")]
)
def test_a_gold_of_brackets_is_compared_as_text(judge, box, status):
    assert judge.verify([(f"</think> \\boxed{{{box}}}", Problem("p", "code", "train", "", "[]"))])[0].status == status


def test_arguments_may_be_json_lines_and_the_function_a_method(judge):
    tests = {"type": "functional", "fn_name": "add", "inputs": ["[1, 2]\n3"], "outputs": ["[4, 5]"]}
    code = "class Solution:\n    def add(self, xs, y): return [x + y for x in xs]"
    assert verdict(judge, code, tests).status == "correct"


@pytest.mark.parametrize(
    ("box", "status"),
    [("[ 1 , 2 ]", "correct"), ("1, 2", "correct"), ("(1,2)", "correct"), ("2, 1", "wrong"), ("12", "wrong")],
)
def test_a_traced_value_is_compared_token_by_token(judge, box, status):
    assert (
        judge.verify([(f"</think> \\boxed{{{box}}}", Problem("p", "code", "train", "", "[1, 2]"))])[0].status == status
    )


@pytest.mark.parametrize(
    "tests",
    [None, {**CALL, "inputs": [], "outputs": []}, {**STDIN, "outputs": ["", "\n"]}, {**ASSERTS, "check": "f(3)"}],
)
def test_a_problem_without_tests_is_never_passed(judge, tests):
    assert verdict(judge, "def f(x): return 0", tests).status == "no_tests"


@pytest.mark.parametrize(
    "tests", [{"type": "poem"}, {**CALL, "outputs": [1]}, {**CALL, "function": "f(1); g"}, {"type": "stdin"}]
)
def test_tests_that_cannot_be_read_are_the_judges_failure(judge, tests):
    assert verdict(judge, "def f(x): return 0", tests).status == "bad_gold"


def test_a_verdict_is_the_same_each_time(judge):
    def fields(judged):
        return (judged.status, judged.score, judged.extracted, judged.reason)

    for code in ("def f(x): return 7 * x - 4", "def f(x): return object()", "f = lambda x: list({'a', 'b', 'c'})"):
        assert fields(verdict(judge, code, CALL)) == fields(verdict(judge, code, CALL))


def test_the_cases_of_code_judges(judge, shared_data):
    """All of them; those with a policy question follow the defaults that docs/sandbox.md lists, which are the cases' own."""
    cases = map(json.loads, (shared_data / "cases" / "code_judge_cases.jsonl").read_text(encoding="utf-8").splitlines())
    unexpected = []
    for case in cases:
        tests = json.dumps({**case["tests"], "limits": case["limits"], "compare": case["compare"]})
        response = case["response"] if case["response"] is not None else f"```python\n{case['code']}\n```"
        response = response if "</think>" in response else f"</think>{response}"
        judged = judge.verify([(response, Problem(case["id"], "code", "eval", "", tests=tests))])[0]
        if case["id"] == "cj101" and not judge._instruments._sandbox.rung.namespaces:
            continue  # forks, which this rung refuses
        if (judged.score == 1.0) != case["should_pass"] or judged.is_failure != (case["id"] == "cj109"):
            unexpected.append((case["id"], judged))
    assert not unexpected  # cj109 expects no output, which says nothing: no_tests


def test_the_public_cases_of_code(judge, shared_data):
    """All but those that need a package beside the standard library; C++ where there is a compiler."""
    cases = map(json.loads, (shared_data / "cases" / "public_code.jsonl").read_text(encoding="utf-8").splitlines())
    unexpected = []
    for case in cases:
        beside = {name: case[name] for name in ("limits", "compare") if case.get(name)}
        problem = Problem(case["id"], "code", "eval", "", tests=json.dumps({**case["tests"], **beside}))
        program = Program(language_named(case.get("language", "python")), case.get("code", ""))
        (judged,) = judge.verify([(f"</think>{case['response']}" if case.get("response") else program, problem)])
        is_right = (judged.score == 1.0) == case["should_pass"] or judged.status in case.get("want_status", "")
        if not is_right and case["policy"] != "numpy" and judged.status != "judge_error":
            unexpected.append((case["id"], judged))
    assert not unexpected


CPP = "#include <bits/stdc++.h>\nint main() {{ long a, b; std::cin >> a >> b; std::cout << a {} b << std::endl; }}"


@pytest.fixture
def compiler(judge):
    judged = verdict(judge, CPP.format("+"), STDIN, language="cpp")
    if judged.status == "judge_error":
        pytest.skip(judged.reason)


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        (CPP.format("+"), "correct", "2 tests passed"),
        (CPP.format("-"), "wrong", "test 1: other output"),
        ("int main() {", "wrong", "test 1: does not compile"),
        ('#include "/etc/passwd"\nint main() {}', "wrong", "test 1: does not compile"),
        ("int main() { for (volatile int i = 0;;) i = i; }", "timeout", "test 1: out of time"),
        ("#include <cstdio>\nint main() { for (;;) puts(\"x\"); }", "resource_limit", "test 1: too much output"),
        ("#include <cstdlib>\nint main() { return !fopen(\"/etc/passwd\", \"r\"); }", "wrong", "test 1: does not compile"),
        ("#include <cstdio>\nint main() { return !fopen(\"/etc/passwd\", \"r\"); }", "wrong", "test 1: exit status 1"),
        ("#include <unistd.h>\nint main() { return execl(\"/bin/true\", \"true\", nullptr); }", "wrong", "test 1: exit status 255"),
    ],
)  # fmt: skip
def test_cpp_is_compiled_and_judged_by_its_output(judge, compiler, code, status, reason):
    judged = verdict(judge, code, {**STDIN, "limits": {"time_s": 0.5, "output_mb": 1}}, language="cpp")
    assert (judged.status, judged.reason) == (status, reason)


def test_where_cpp_cannot_be_compiled_the_judge_does_not_know():
    with Instruments(unsafe_local_execution=False) as instruments:
        instruments._sandbox = Sandbox(rung="B")
        try:
            instruments.run(Job("print(1)"), Limits())
        except SandboxError as error:
            pytest.skip(str(error))
        problem = Problem("p", "code", "train", "", "", json.dumps(STDIN))
        outcome = programs.verify(f"```cpp\n{CPP.format('+')}\n```", problem, instruments)
    assert (outcome.status, "rung B" in outcome.reason) == ("judge_error", True)


def test_a_function_is_not_looked_for_in_cpp(judge):
    assert verdict(judge, "int f(int x) { return 7 * x - 4; }", CALL, language="cpp").status == "no_answer"


@pytest.mark.parametrize(
    ("checker", "status"),
    [
        ("def check(i, o, e): return sorted(o.split()) == sorted(e.split())", "correct"),
        ("def check(i, o, e): return o == e", "wrong"),
        (
            "def check(i, o, e): return int(o.split()[0]) == int(e.split()[0]) or int('x' + o[0]) if o != e else True",
            "wrong",
        ),
        ("def check(i, o, e): return undefined", "judge_error"),  # whatever the answer printed
        ("def check(i, o, e):\n    while True: pass", "judge_error"),
        ("def check(i, o, e):\n    while o != e: pass\n    return True", "wrong"),
        ("import os\nos._exit(0)", "judge_error"),
    ],
)
def test_a_crashed_checker_is_never_a_wrong_answer(judge, checker, status):
    tests = {
        "type": "stdin",
        "inputs": ["1\n"],
        "outputs": ["1 2\n"],
        "compare": {"mode": "checker", "checker": checker},
    }
    assert verdict(judge, "print('2 1')", tests).status == status


def test_what_ran_without_isolation_says_so():
    with Judge(unsafe_local_execution=True) as judge:
        assert (
            verdict(judge, "print(sum(map(int, input().split())))", STDIN).reason
            == "2 tests passed; ran WITHOUT isolation"
        )


@pytest.mark.parametrize(
    ("name", "rows", "num_correct"), [("humaneval", 60, 60), ("mbpp", 100, 100), ("leetcode_test", 60, 60)]
)
def test_reference_solutions_pass_their_tests(judge, shared_data, name, rows, num_correct):
    problems = problems_from_table(pq.read_table(shared_data / f"{name}.parquet"))[:rows]
    verdicts = judge.verify([(f"</think>\n```python\n{problem.solution}\n```", problem) for problem in problems])
    assert sum(judged.score for judged in verdicts) == num_correct
