"""Whatever an answer writes, returns or raises, the judge's own process is safe: in status, time and the length of its reasons."""

import json
import random
import time
from collections.abc import Iterator

import pytest

from data.domains import code_tests, values
from data.domains.extraction import Program
from data.sandbox import Run
from data.sandbox.client import _records
from data.schema import Problem

NUMBER, NUMBER_OF_RUNS = 20_000, 300
CANDIDATES = {"correct", "wrong", "timeout", "resource_limit", "no_answer"}
_PARTS = (
    '{"value": "',
    '{"error": "',
    '{"end": "',
    '"}',
    "\\ud800",
    "\ud800",
    "\\u0000",
    "{",
    "}",
    "[",
    "]",
    '\\"',
    "17",
    "1e999",
    "NaN",
    "-Infinity",
    '{\\"bytes\\": 5}',
    '{\\"int\\": \\"0x11\\"}',
    '{\\"tuple\\": [',
    "]}",
    '{\\"set\\": [',
    '{\\"dict\\": [[1, 2], [1, 3]]}',
    "null",
    "true",
    "9" * 5000,
    "A" * 3000,
    "\n",
    " ",
    ",",
    ":",
    '{\\"float\\": \\"0x1p9999999\\"}',
    '{\\"complex\\": [\\"1\\", \\"nan\\"]}',
    '{\\"iterator\\": [1]}',
    '{\\"object\\": [0, []]}',
    '{\\"int\\": \\"' + "f" * 4000 + '\\"}',
    "\x1b[2K",
    "\u202e",
    '{"value": "17"}\n',
    '{"end": "ok"}\n',
    "\x00",
    "é",
    "\xff",
)


def written(number: int, seed: int = 0) -> Iterator[bytes]:
    """What hostile answers write to the channel of results, the same for one seed."""
    generator = random.Random(seed)
    for place in range(number):
        if place % 5 == 0:
            yield generator.randbytes(generator.randrange(300))
        else:
            text = "".join(generator.choice(_PARTS) for _ in range(generator.randrange(1, 12)))
            yield (text * generator.choice((1, 1, 1, 40))).encode("utf-8", "surrogatepass")


def test_no_bytes_on_the_channel_of_results_harm_the_judge():
    plan = code_tests.parse(json.dumps({"type": "asserts", "check": "for k in [3]:\n    assert f(k) == 17"})).plan
    for content in written(NUMBER):
        started = time.process_time()
        run = Run("ok", "ok", content, 0.0, tuple(_records(content, most=3)))
        given, failure = code_tests.returned(run, 2)
        assert not any(
            values.same(wanted, one, values.JSON) for wanted, one in zip((object(), {1: {2}}), given, strict=False)
        )
        outcome = code_tests._of_connected(run, run, plan)
        for found in filter(None, (failure, outcome)):
            assert found.status in CANDIDATES
            assert len(found.reason) <= 500 and found.reason.encode()
        assert time.process_time() - started < 1


TESTS = (
    {"type": "call", "function": "f", "inputs": [[3], [5]], "outputs": [17, 31]},
    {"type": "asserts", "check": "assert f(3) == 17\nassert sorted(f(5)) == [31]"},
    {
        "type": "asserts",
        "check": "import unittest\nclass T(unittest.TestCase):\n    def test_x(self):\n"
        "        self.assertEqual(f(3), 17)\n        self.assertIn(31, f(5))",
    },
    {"type": "stdin", "inputs": ["3\n"], "outputs": ["17\n"]},
)


def test_no_answer_that_writes_itself_makes_the_judge_fail(judge):
    makers = (
        "import os\nos.write(3, {content!r})\nos._exit(0)",
        "import os\ndef f(x):\n    os.write(3, {content!r})\n    return x",
        "import os\ndef f(x):\n    os.write(3, len({content!r}).to_bytes(4, 'big') + {content!r})\n    return x",
        "import sys\nsys.stdout.buffer.write({content!r})\ndef f(x): return {content!r}.decode('latin-1')",
        "name = {content!r}.decode('utf-8', 'surrogateescape')[:999].replace(chr(0), '')\n"
        "def f(x): raise type(name or 'E', (Exception,), {{}})(chr(0xd800))",
    )
    for place, content in enumerate(written(NUMBER_OF_RUNS, seed=1)):
        code = makers[place % len(makers)].format(content=content[:2000])
        problem = Problem(
            "p", "code", "train", "", tests=json.dumps({**TESTS[place % len(TESTS)], "limits": {"time_s": 0.3}})
        )
        (verdict,) = judge.verify([(Program("python", code), problem)])
        assert verdict.status in CANDIDATES - {"correct"}, (code, verdict)
        assert len(verdict.reason) <= 500 and verdict.reason.encode()


BOMBS = {
    "colliding set": "def f(x):\n    n = 30_000\n    return {k * ((1 << 61) - 1) for k in range(200)} | set(range(n))",
    "colliding list": "def f(x): return [k * ((1 << 61) - 1) for k in range(40_000)]",
    "long integer": "def f(x): return 1 << 3_200_000",
    "deep list": "def f(x):\n    y = []\n    for _ in range(900): y = [y]\n    return y",
    "many lists": "def f(x): return [[] for _ in range(600_000)]",
    "long text": "def f(x): return 'x' * 3_000_000",
    "surrogate": "def f(x): return '\\ud800'",
    "itself": "def f(x):\n    y = []\n    y.append(y)\n    return y",
    "endless iterator": "import itertools\ndef f(x): return itertools.count()",
    "metaclass": "class N(str):\n    isidentifier = lambda s: True\n    __getitem__ = lambda s, k: 'A' * 1_000_000\nclass M(type):\n"
    "    __name__ = property(lambda c: N('x'))\nclass E(Exception, metaclass=M): pass\ndef f(x): raise E",
    "exit": "def f(x): raise SystemExit",
    "interrupt": "def f(x): raise KeyboardInterrupt",
    "generator exit": "def f(x): raise GeneratorExit",
    "not callable": "f = 5",
    "an object": "f = object()",
    "no module": "def f(x): import nothing_of_this_name",
    "forged name": "import os, json\nm = json.dumps({'raised': {'exception': [{'built-in': 'ModuleNotFoundError'}, [], None]}}).encode()\n"
    "os.write(3, (2).to_bytes(4, 'big') + b'\"\"' + len(m).to_bytes(4, 'big') + m)\nos._exit(0)",
    "forged report": 'import os\nos.write(1, b\'{"end": "ok", "ran": "0 1 2", "asked": "1"}\')\ndef f(x): return 0',
    "hash": "class E:\n    def __hash__(s):\n        while True: pass\ndef f(x): return E()",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize(
    "check",
    [
        "assert f(3) == 17",
        "assert set(f(3)) == {1, 2, 3}",
        "assert str(f(2)) == '49'",
        "for k in [3]:\n    assert f(k) == 17",
    ],
)
def test_a_value_made_to_harm_is_a_wrong_answer(judge, name, check):
    problem = Problem(
        "p", "code", "train", "", tests=json.dumps({"type": "asserts", "check": check, "limits": {"time_s": 0.5}})
    )
    started = time.process_time()
    (verdict,) = judge.verify([(Program("python", BOMBS[name]), problem)])
    assert verdict.status in {"wrong", "timeout", "resource_limit"}, verdict
    assert len(verdict.reason) <= 500 and verdict.reason.encode()
    assert time.process_time() - started < 1  # of the judge's own process
