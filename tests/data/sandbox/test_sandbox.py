"""The sandbox runs ordinary programs and stops everything else."""

import os
import time

import pytest

from data.sandbox import Job, Limits, Sandbox, tagged


def test_a_program_reads_its_input_and_prints(sandbox):
    run = sandbox.run(Job("print(sum(map(int, input().split())))", stdin="1 2 3\n"))
    assert (run.status, run.stdout) == ("ok", b"6\n")


@pytest.mark.parametrize(
    "code",
    [
        "import asyncio, zoneinfo, decimal, hashlib, json\nasyncio.run(asyncio.sleep(0))",
        "import threading\nt = threading.Thread(target=print, args=(1,))\nt.start()\nt.join()",
        "from concurrent.futures import ThreadPoolExecutor as P\nwith P(4) as p: list(p.map(str, range(9)))",
        "import sys\nsys.setrecursionlimit(30000)\ndef f(n): return n and f(n - 1)\nf(20000)",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nA(1)",
        "print(len(str(10**6000)))",
        "exit()",
    ],
)
def test_ordinary_programs_run(sandbox, code):
    assert sandbox.run(Job(code)).status == "ok"


@pytest.mark.parametrize(
    ("code", "status", "detail"),
    [
        ("while True: pass", "timeout", ""),
        ("import time; time.sleep(60)", "timeout", ""),
        ("import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "timeout", ""),
        ("x = ['y' * 10**6 + str(i) for i in range(10**6)]", "memory", ""),
        ("while True: print('x' * 9999)", "output", ""),
        ("raise KeyError('x')", "error", "KeyError"),
        ("import sys; sys.exit(3)", "error", "SystemExit"),
        ("import os; os._exit(3)", "error", "exit status 3"),
        ("def f(:", "error", "SyntaxError"),
    ],
)
def test_an_end_is_told_apart_from_another(sandbox, code, status, detail):
    run = sandbox.run(Job(code), Limits(seconds=0.9, memory_mb=256, output_mb=1))
    assert (run.status, run.detail) == (status, detail)


def test_calls_return_exact_types(sandbox):
    run = sandbox.run(Job("def f(x): return (x, 2.5, {1: [None, True]})", calls=("f(3)",)))
    assert tagged.loads(run.results[0]["value"]) == (3, 2.5, {1: [None, True]})


@pytest.mark.parametrize(
    ("setup", "code"),
    [
        ("import math\nx = 3", "def f(): return math.floor(x)"),
        ("x = A(3)", "class A(int): pass\ndef f(): return int(x)"),
    ],
)
def test_a_setup_comes_first_unless_it_uses_the_answer(sandbox, setup, code):
    assert sandbox.run(Job(code, setup=setup, calls=("f()",))).results == ({"value": "3"},)


def test_of_a_subclass_that_equals_everything_its_plain_value_comes_out(sandbox):
    code = "class E(int):\n    def __eq__(self, other): return True\ndef f(): return E(0)"
    assert sandbox.run(Job(code, calls=("f()",))).results == ({"value": "0"},)


def test_what_a_child_says_is_a_name_or_nothing(sandbox):
    for said in ('"\\\\ud800"', '"<b>"', '"' + "A" * 100 + '"', '""'):
        run = sandbox.run(Job(f"import os\nos.write(3, b'{{\"error\": {said}}}\\n')\nos._exit(0)", calls=("f()",)))
        assert run.results == ({"error": "Exception"},)


def test_a_slow_call_ends_the_run_and_keeps_what_came_before(sandbox):
    code = "def f(x):\n    while x: pass\n    return 7"
    run = sandbox.run(Job(code, calls=("f(0)", "f(1)", "f(0)")), Limits(seconds=0.3))
    assert (run.status, len(run.results)) == ("timeout", 1)


def test_a_forged_record_is_at_most_a_claim_about_a_call(sandbox):
    code = 'import os\nos.write(3, b\'{"value": "17"}\\n\' * 9)\nos._exit(0)'
    run = sandbox.run(Job(code, calls=("f(1)",)))
    assert run.results == ({"value": "17"},)


def test_one_answer_leaves_nothing_for_the_next(sandbox):
    sandbox.run(Job("import builtins, math\nbuiltins.print = None\nmath.pi = 3"))
    assert sandbox.run(Job("import math\nprint(math.pi > 3)")).stdout == b"True\n"


def test_random_numbers_and_sets_are_the_same_each_time():
    code = "import random\nprint(random.random(), list({'a', 'b', 'c', 'd'}))"
    outputs = set()
    for _ in range(2):
        with Sandbox() as fresh:
            outputs.add(fresh.run(Job(code)).stdout)
    assert len(outputs) == 1


def test_a_lost_server_is_replaced():
    with Sandbox() as sandbox:
        assert sandbox.run(Job("print(1)")).status == "ok"
        os.kill(sandbox._process.pid, 9)
        time.sleep(0.1)
        assert sandbox.run(Job("print(2)")).stdout == b"2\n"
