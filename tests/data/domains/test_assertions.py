"""Tests that assert: they run, they count, and an answer's own objects do not decide."""

import json

import pytest

from data.domains import asserts
from data.domains.extraction import Program
from data.schema import Problem

ADD, WRONG = "def add(a, b): return a + b", "def add(a, b): return None"
UNITTEST = "import unittest\nclass T(unittest.TestCase):\n    def test_x(self): "


def judged(judge, code: str, check: str, **fields):
    tests = json.dumps({"type": "asserts", "check": check, **fields})
    return judge.verify([(Program("python", code), Problem("p", "code", "train", "", tests=tests))])[0]


def status(judge, code: str, check: str, **fields) -> str:
    return judged(judge, code, check, **fields).status


RUN = [
    "def test_add():\n    assert add(1, 2) == 3",
    "from solution import add\ndef test_add():\n    assert add(1, 2) == 3",
    "import solution\ndef test_add():\n    assert solution.add(1, 2) == 3",
    UNITTEST + "self.assertEqual(add(1, 2), 3)",
    UNITTEST + "self.assertEqual(add(1, 2), 3)\nif __name__ == '__main__':\n    unittest.main()",
    "import unittest\nclass T(unittest.TestCase):\n    def setUp(self): self.x = 1\n    def test_x(self):\n"
    "        for k in range(3):\n            with self.subTest(k=k): self.assertEqual(add(k, self.x), k + 1)",
    "import unittest\nclass T(unittest.IsolatedAsyncioTestCase):\n    async def test_x(self): self.assertEqual(add(1, 2), 3)",
    "class TestAdd:\n    def setup_method(self, method): self.x = 1\n    def test(self):\n        assert add(self.x, 2) == 3",
    "if __name__ == '__main__':\n    assert add(1, 2) == 3",
    "import pytest\n@pytest.mark.parametrize('a, b, c', [(1, 2, 3), (2, 2, 4)])\ndef test_add(a, b, c):\n    assert add(a, b) == c",
    "import pytest\n@pytest.fixture\ndef one():\n    yield 1\ndef test_add(one):\n    assert add(one, 2) == pytest.approx(3)",
    "def helper(a, b, c):\n    assert add(a, b) == c\nhelper(1, 2, 3)",
    "for k in range(5):\n    assert add(k, 1) == k + 1",
    "try:\n    assert add(1, 2) == 3\nexcept Exception as error:\n    raise SystemExit(error)",
    "def check(f, g=None):\n    assert f(1, 2) == 3",
    "async def check(f):\n    assert f(1, 2) == 3",
]


@pytest.mark.parametrize("check", RUN)
def test_what_pytest_and_unittest_would_run_is_run(judge, check):
    answers = (ADD, WRONG, "", "raise SystemExit", "import os\nos._exit(0)", "def add(a, b): exit()")
    assert [status(judge, code or "pass", check, entry_point="add") for code in answers] == ["correct", *["wrong"] * 5]


@pytest.mark.parametrize(
    "check",
    [
        "def g():\n    assert add(1, 2) == 3",
        "def f():\n    def inner():\n        assert add(1, 2) == 3\nf()",
        "assert (add(1, 2) == 3, 'message')",
        "try:\n    assert add(1, 2) == 3\nexcept Exception:\n    pass",
        "import contextlib\nwith contextlib.suppress(Exception):\n    assert add(1, 2) == 3",
        "print('assert', add(1, 2) == 3)",
        "assert True",
        "import unittest\nclass T(unittest.TestCase):\n    def helper(self): self.assertEqual(add(1, 2), 3)",
        "import unittest\nclass T(unittest.TestCase):\n    @unittest.skip('x')\n    def test_x(self): self.assertEqual(add(1, 2), 3)",
    ],
)
def test_what_can_fail_unnoticed_is_no_test(judge, check):
    assert [status(judge, code, check) for code in (ADD, WRONG)] == ["no_tests", "no_tests"]


@pytest.mark.parametrize(
    ("code", "check"),
    [
        ("def f(x): return []", "for y in f(3):\n    assert y > 0"),
        ("f = 0", "if callable(f):\n    assert f(3) == 17"),
        (
            "def f(x): raise AssertionError",
            "try:\n    f(3)\nexcept AssertionError:\n    pass\nelse:\n    assert f(3) == 17",
        ),
        ("import unittest\ndef f(x): raise unittest.SkipTest", UNITTEST + "self.assertEqual(f(3), 17)"),
    ],
)
def test_an_answer_cannot_pass_by_assertions_that_did_not_run(judge, code, check):
    assert status(judge, code, check) == "wrong"


@pytest.mark.parametrize(
    ("check", "mistake"),
    [
        ("assert f(1", "bad_gold"),
        ("import no_such_module\nassert f(1) == 1", "bad_gold"),
        ("def test_x(monkeypatch):\n    assert f(1) == 1", "bad_gold"),
        ("x = " + "lambda:" * 3000 + "1\nassert f(1) == 1", "bad_gold"),
        ("def check(f, g):\n    assert f(1) == 1", "bad_gold"),
    ],
)
def test_tests_that_fail_by_themselves_are_the_data_sets_fault(judge, check, mistake):
    assert status(judge, "def f(x): return x", check) == mistake


OBJECTS = [
    (
        "class Stack:\n def __init__(s): s.items = []\n def push(s, x): s.items.append(x)\n def pop(s): return s.items.pop()",
        "s = Stack()\ns.push(1)\nassert s.pop() == 1\nassert isinstance(s, Stack) and type(s).__name__ == 'Stack'\nassert s.items == []",
    ),
    ("def times(n): return lambda x: x * n", "triple = times(3)\nassert triple(4) == 12\nassert callable(triple)"),
    (
        "def odds():\n n = 1\n while True:\n  yield n\n  n += 2",
        "made = odds()\nassert [next(made) for _ in range(4)] == [1, 3, 5, 7]",
    ),
    ("def f(g, xs): return [g(x) for x in xs]", "assert f(lambda x: x * x, [1, 2]) == [1, 4]"),
    (
        "def deco(f):\n def w(*a):\n  w.calls += 1\n  return f(*a)\n w.calls = 0\n return w",
        "@deco\ndef g(x): return x + 1\nassert g(1) == 2\nassert g.calls == 1",
    ),
    ("def sort(xs): xs.sort()", "xs = [3, 1, 2]\nsort(xs)\nassert xs == [1, 2, 3]"),
    (
        "def f(node):\n node.next.val = 9\n return ListNode(5, node.next)",
        "head = list_node([1, 2, 3])\nassert is_same_list(f(head), list_node([5, 9, 3]))\n"
        "assert head.next.val == 9 and isinstance(f(head), ListNode)",
    ),
    (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
        "assert f() == (1, 2)\nassert f().x == 1 and isinstance(f(), tuple)",
    ),
    (
        "from enum import Enum\nclass C(Enum):\n R = 1\n B = 2\ndef f(): return C.R",
        "assert f() is C.R\nassert C.B.value == 2\nassert [c.name for c in C] == ['R', 'B']",
    ),
    (
        "import abc\nclass A(abc.ABC):\n @abc.abstractmethod\n def area(s): ...\nclass B(A):\n def area(s): return 9",
        "import pytest\nassert B().area() == 9\nassert issubclass(B, A)\nwith pytest.raises(TypeError):\n    A()",
    ),
    (
        "async def f(x): return x + 1",
        "import asyncio\nasync def main(): return await asyncio.gather(f(1), f(2))\nassert asyncio.run(main()) == [2, 3]",
    ),
    (
        "def hi(): print('hi')",
        "import io, contextlib\nout = io.StringIO()\nwith contextlib.redirect_stdout(out): hi()\nassert out.getvalue() == 'hi\\n'",
    ),
    (
        "class C:\n def __enter__(s): s.on = True; return s\n def __exit__(s, *a): s.on = False",
        "with C() as c:\n    assert c.on\nassert not c.on",
    ),
    (
        "from fractions import Fraction\ndef f(): return Fraction(1, 2)",
        "from fractions import Fraction\nassert f() == Fraction(1, 2)\nassert f() == 0.5",
    ),
    (
        "from collections import Counter\ndef f(): return Counter('aab')",
        "assert f().most_common(1) == [('a', 2)]\nassert f() == {'a': 2, 'b': 1}",
    ),
    (
        "class MyError(ValueError):\n def __init__(s, code): s.code = code\ndef f(): raise MyError(7)",
        "try:\n    f()\nexcept MyError as error:\n    assert error.code == 7 and isinstance(error, ValueError)\nelse:\n    assert False",
    ),
    ("def f(x): return range(1, 4)", "assert sorted(f(3)) == [1, 2, 3]"),
    (
        "class Cache(dict):\n def double(s, k): return s[k] * 2",
        "c = Cache()\nc['a'] = 3\nassert c.double('a') == 6\nassert c == {'a': 3} and 'a' in c and len(c) == 1",
    ),
]


@pytest.mark.parametrize(("code", "check"), OBJECTS)
def test_objects_of_the_answer_stay_with_it_and_can_be_tested(judge, code, check):
    verdict = judged(judge, code, check)
    assert (verdict.status, verdict.weak) == ("correct", False), verdict.reason
    assert status(judge, "x = 1", check) == "wrong"


@pytest.mark.parametrize(
    "check",
    [
        "try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass",
        "try:\n    f(-1)\nexcept ValueError as error:\n    assert str(error) == 'negative'\nelse:\n    assert False",
        "import pytest\nwith pytest.raises(ValueError, match='neg') as info:\n    f(-1)\nassert 'neg' in str(info.value)",
        UNITTEST + "self.assertRaises(ValueError, f, -1)",
        "import unittest\nclass T(unittest.TestCase):\n    def test_x(self):\n        with self.assertRaises(ValueError): f(-1)",
    ],
)
def test_an_exception_that_is_wanted_is_found_by_its_type(judge, check):
    right = "def f(x):\n    if x < 0: raise ValueError('negative')"
    codes = (right, right.replace("ValueError", "KeyError"), "def f(x): return 1")
    assert [status(judge, code, check) for code in codes] == ["correct", "wrong", "wrong"]


AGREEABLE = (
    "class E{}:\n    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n"
    "    __sub__ = __rsub__ = __add__ = __radd__ = lambda s, o: 0\n    __abs__ = lambda s: 0\n    __hash__ = lambda s: hash(17)\n"
    "    __iter__ = lambda s: iter([E()])\n    __len__ = lambda s: 1\n    f = lambda s, x: s\ndef f(x): return E()"
)
EXPECTING = [
    "for k in [3]:\n    assert f(k) == 17",
    "assert abs(f(3) - 17) < 1e-6",
    "assert 17 in f(3)",
    "assert f(3) in {17}",
    "assert [f(3)] == [17]",
    "assert list(f(3)) == [17]",
    "assert {f(3)} == {17}",
    "assert not f(3) != 17",
    "assert (f(3), 1) == (17, 1)",
    "assert sum([f(3)]) == 17",
    UNITTEST + "self.assertEqual(f(3), 17)",
    UNITTEST + "self.assertAlmostEqual(f(3), 17)",
    UNITTEST + "self.assertIn(17, f(3))",
    UNITTEST + "self.assertCountEqual(f(3), [17])",
    "import math\nassert math.isclose(f(3), 17)",
    "import pytest\nassert f(3) == pytest.approx(17)",
    "s = E()\nassert abs(s.f(3) - 17) < 1e-6",
    "def check(c):\n    assert c(3) == 17\ncheck(E().f)",
]


@pytest.mark.parametrize("check", EXPECTING)
@pytest.mark.parametrize("base", ["", "(int)", "(float)", "(str)", "(list)"])
def test_an_object_that_agrees_to_everything_is_not_what_is_expected(judge, base, check):
    assert status(judge, AGREEABLE.format(base), check) == "wrong"


def test_where_the_answers_own_operators_are_what_is_tested_the_verdict_is_weak(judge):
    code = "class V:\n def __init__(s, x): s.x = x\n def __add__(s, o): return V(s.x + o.x)\n def __eq__(s, o): return s.x == o.x"
    check = "assert V(1) + V(2) == V(3)"
    verdict = judged(judge, code, check)
    assert (verdict.status, verdict.weak) == ("correct", True)
    assert judged(judge, code, "v = V(1)\nassert v.x == 1").weak is False
    assert status(judge, code.replace("s.x + o.x", "s.x"), check) == "wrong"
    agreeable = "class V:\n __init__ = lambda s, x: None\n __eq__ = lambda s, o: True\n get = lambda s: s"
    assert status(judge, agreeable, "v = V(1)\nassert v == V(1)\nassert v.get() == 17") == "wrong"


def test_what_is_expected_is_not_given_to_the_answer(judge):
    spy = (
        "said = []\nclass E:\n    def __eq__(s, o): said.append(o); return False\n    __hash__ = None\n"
        "def f(x): return said[-1] if said else E()"
    )
    check = "for _ in range(2):\n    try:\n        assert f(3) == 17\n    except AssertionError:\n        pass\nassert f(3) == 17"
    assert status(judge, spy, check) == "wrong"
    spy = "def f(g):\n    try: return g.__globals__\n    except AttributeError: return g.__code__"
    assert status(judge, spy, "def g(): pass\nfor _ in [1]:\n    assert f(g)") == "wrong"


@pytest.mark.parametrize("name", ["gcd", "Counter", "sqrt"])
@pytest.mark.parametrize("check", ["assert {}(4, 6) == 2", "for _ in [1]:\n    assert {}(4, 6) == 2"])
def test_a_name_of_the_preamble_is_not_an_answer(judge, name, check):
    assert status(judge, "x = 1", check.format(name)) == "wrong"
    assert status(judge, f"def {name}(a, b): return 2", check.format(name)) == "correct"


def test_an_answer_may_use_what_leetcode_has_imported(judge):
    code = "class Solution:\n    def f(self, xs: List[int]) -> int:\n        return max(Counter(xs).values()) if xs else -inf"
    assert status(judge, code, "def check(c):\n    assert c(xs=[1, 1]) == 2\ncheck(Solution().f)") == "correct"


def test_plain_calls_need_no_process_of_tests():
    calls = asserts.plan("", "def check(c):\n    assert c([1], k=2) == {41, 42}\n    assert 3 == c(1)", entry_point="f")
    assert calls == asserts.Calls(("f([1], k=2)", "f(1)"), ({41, 42}, 3), ("f",))
    assert isinstance(asserts.plan("", "assert set(f(1)) == {1}", entry_point="f"), asserts.Plan)


def test_a_function_with_the_name_of_a_built_in_one_is_the_answers(judge):
    assert status(judge, "def sum(a, b): return 6", "assert sum(10, 15) == 6") == "correct"
    assert status(judge, "x = 1", "assert sum(10, 15) == 6") == "wrong"
