"""Puzzles of reasoning-gym: their golds are right, nothing else is, and no answer is run."""

import ast
import json
from pathlib import Path

import pytest

pytest.importorskip("reasoning_gym", reason="needs the extra `gym`: pip install -e '.[gym]' -c constraints.txt")

from data.domains import gym
from data.domains.gym_generators import EXCLUDED, FORMS, GENERATORS, VERSION, fault_of
from data.sandbox import tagged
from data.schema import Problem
from data.sources.gym import draw_problems

EVALUATING = {"eval", "exec", "compile", "__import__", "parse_expr", "sympify", "literal_eval", "loads"}
OF_ITS_OWN_TEXT = {  # evaluates what the generator wrote, never what an answer says
    "basic_arithmetic": ["eval"],
    "bf": ["compile"],
    "bitwise_arithmetic": ["eval"],
}
READS_JSON = "cryptarithm game_of_life group_anagrams jugs knight_swap palindrome_partitioning".split()


@pytest.fixture(scope="session")
def drawn():
    """Twenty problems of every generator: about a minute of one core."""
    shares = {name: 1 / len(GENERATORS) for name in GENERATORS}
    rows = draw_problems(
        name="all", split="rl", num_problems=20 * len(GENERATORS), generators=shares, settings={}, seed=0
    )
    by_generator = {name: [] for name in GENERATORS}
    for row in rows:
        by_generator[row.metadata["generator"]].append(row)
    return by_generator


def puzzle(generator: str, answer: str, metadata: dict | None = None, **settings) -> Problem:
    entry = tagged.dumps({"answer": answer, "metadata": metadata or {}})
    tests = gym.tests_text(generator, settings=tagged.dumps(settings), entry=entry)
    return Problem("p", "gym", "rl", "the prompt", answer, tests)


def verdict(judge, problem: Problem, answer: str):
    return judge.verify([(f"steps </think>\n\\boxed{{{answer}}}", problem)])[0]


def test_every_generator_of_the_package_is_used_or_left_out_with_a_reason():
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    assert set(DATASETS) == set(GENERATORS) | set(EXCLUDED)
    assert not set(GENERATORS) & set(EXCLUDED)
    assert all(EXCLUDED.values())
    modules = {name: kind.__module__.removeprefix(f"{reasoning_gym.__name__}.") for name, (kind, _) in DATASETS.items()}
    assert {name: modules[name] for name in GENERATORS} == GENERATORS


def called(path: Path) -> list[str]:
    """Names of functions that evaluate or parse texts, and that a module calls."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = [getattr(call, "id", getattr(call, "attr", "")) for call in calls]
    of_re = {id(call) for call in calls if getattr(getattr(call, "value", None), "id", "") == "re"}
    return sorted(
        {name for name, call in zip(names, calls, strict=True) if name in EVALUATING and id(call) not in of_re}
    )


def test_a_scorer_that_evaluates_gets_to_see_only_what_its_form_lets_pass():
    import reasoning_gym

    folder = Path(reasoning_gym.__file__).parent
    found = {name: called(folder / f"{module.replace('.', '/')}.py") for name, module in GENERATORS.items()}
    found = {name: names for name, names in found.items() if names}
    with_form = {name for name in found if name in FORMS}
    assert set(FORMS) - with_form == {"complex_arithmetic"}  # which reads `nan`
    rest = {name: names for name, names in found.items() if name not in FORMS}
    assert {name: names for name, names in rest.items() if names != ["loads"]} == OF_ITS_OWN_TEXT
    assert {name for name, names in rest.items() if names == ["loads"]} <= set(READS_JSON)


RUN = [
    "__import__('os').system('id')",
    "(lambda: 1)()",
    "().__class__.__base__",
    "[x for x in [1]]",
    "exec('1')",
    "f'{1}'",
]


@pytest.mark.parametrize("generator", FORMS)
def test_no_form_lets_a_call_an_attribute_or_a_keyword_pass(generator):
    for text in [
        *RUN,
        "os.system",
        "open('x')",
        "lambda",
        "__import__",
        "10**10**10" if generator == "countdown" else "x.y",
    ]:
        assert not FORMS[generator].fullmatch(text), text


@pytest.mark.slow
@pytest.mark.parametrize("generator", GENERATORS)
def test_gold_answers_given_back_are_right(generator, drawn, judge):
    rows = drawn[generator]
    assert len(rows) == 20
    verdicts = judge.verify([(f"</think>\\boxed{{{row.answer}}}", row) for row in rows])
    wrong = {row.answer for row, one in zip(rows, verdicts, strict=True) if one.score != 1.0 or one.status != "correct"}
    unsolved = {
        row.answer for row in rows if "Integral" in row.answer
    }  # what SymPy could not integrate: curation drops it
    assert wrong == unsolved
    assert not unsolved or generator == "intermediate_integration"


HOSTILE = (
    "__import__('os').system('id')", "10**10**10", "9" * 19_000, "[" * 9_000 + "]" * 9_000, "(" * 9_000 + ")" * 9_000, "\ud800", "a\0b",
    "nan", "inf", "1e999", "[NaN, NaN]", "null", "[]", "7" * 5_000 + ".0", "x**x**x**9999999", "A " * 9_000, "R10000000 F+1000000000",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("generator", GENERATORS)
def test_hostile_answers_are_wrong_within_their_time_and_never_the_judges_failure(generator, drawn, judge):
    row = drawn[generator][0]
    for answer, one in zip(HOSTILE, judge.verify([(f"</think>\\boxed{{{a}}}", row) for a in HOSTILE]), strict=True):
        assert (one.status, one.score < 1) == ("wrong", True), (answer[:40], one)
        assert one.reason.encode()


@pytest.mark.slow
@pytest.mark.parametrize("generator", GENERATORS)
def test_the_gold_answer_of_another_problem_is_right_of_few(generator, drawn, judge):
    """A scorer that takes anything would show here. Answers from two or three values often agree: those are left out."""
    row, *others = drawn[generator]
    answers = sorted({other.answer for other in others} - {row.answer})
    if len(answers) < 6:
        pytest.skip(f"only {len(answers)} different answers")
    verdicts = judge.verify([(f"</think>\\boxed{{{answer}}}", row) for answer in answers])
    assert sum(one.status == "correct" for one in verdicts) <= len(answers) // 4


def test_a_score_below_one_is_wrong_and_stays_the_score(judge):
    problem = puzzle("chain_sum", "42")
    assert verdict(judge, problem, "42").score == 1.0
    partly = verdict(judge, problem, "42 apples")  # the scorer: characters of the gold / characters
    assert (partly.status, partly.score) == ("wrong", pytest.approx(2 / 9))
    assert verdict(judge, problem, "41").score == 0.0


def test_no_credit_of_a_wrong_answer_is_one_in_a_column_of_32_bits(judge):
    import numpy as np

    long = "7" * 19_000
    partly = verdict(judge, puzzle("chain_sum", long[1:]), f"{long[1:]}z")
    assert partly.status == "wrong"
    assert 0.99 < np.float32(partly.score) < 1


def test_what_latex_asks_for_in_a_box_is_no_part_of_the_answer(judge):
    problem = puzzle("ab", "A# #B")
    assert verdict(judge, problem, r"\text{A\# \#B}").status == "correct"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"generator": "knights_knaves"}, "left out"),
        ({"generator": "os"}, "no generator 'os'"),
        ({"version": "0.1.24"}, "draw the rows again"),
        ({"type": "call"}, "not 'reasoning-gym'"),
        ({"entry": {"dict": []}}, "KeyError"),
    ],
)
def test_a_row_that_cannot_be_scored_is_a_bad_gold_and_says_why(judge, change, reason):
    problem = puzzle("ab", "A#")
    broken = Problem("p", "gym", "rl", "", "A#", json.dumps({**json.loads(problem.tests), **change}))
    one = verdict(judge, broken, "A#")
    assert (one.status, reason in one.reason) == ("bad_gold", True)
    assert gym.fault_of_tests(broken.tests)


def test_a_scorer_that_fails_on_the_gold_as_well_is_the_judges_failure(judge):
    assert verdict(judge, puzzle("survo", "1 2", {}), "1 2").status == "judge_error"  # its board is not there


def test_a_scorer_that_fails_on_the_answer_alone_makes_it_wrong(judge):
    metadata = {"variable": "x", "integrand": "cos(x)"}
    one = verdict(judge, puzzle("simple_integration", "sin(x)", metadata), "9**9**9**9**9")
    assert (one.status, one.checker_failed) == ("wrong", True)


def test_an_answer_that_the_scorer_cannot_read_is_wrong(judge):
    problem = puzzle("prime_factorization", "2 × 3")
    assert verdict(judge, problem, "2 × 3").status == "correct"
    one = verdict(judge, problem, "two")
    assert (one.status, one.checker_failed, one.reason) == (
        "wrong",
        False,
        "the scorer of prime_factorization: call 1: ValueError",
    )


def test_an_unevaluated_integral_is_no_integral(judge):
    metadata = {"variable": "x", "integrand": "cos(x)"}
    assert verdict(judge, puzzle("simple_integration", "sin(x)", metadata), "Integral(cos(x), x)").status == "wrong"
    assert verdict(judge, puzzle("simple_integration", "sin(x)", metadata), "sin(x) + C").status == "correct"


def test_numbers_that_are_none_are_close_to_nothing(judge):
    numbers = puzzle("number_sorting", "[1, 2]", {"direction": "ascending"})
    assert verdict(judge, numbers, "[NaN, NaN]").status == "wrong"
    assert verdict(judge, numbers, "['1', '2']").status == "correct"
    assert verdict(judge, puzzle("complex_arithmetic", "1 + 2i", {"result": [1.0, 2.0]}), "nan").status == "wrong"


def test_a_reason_is_given_for_a_generator_that_is_not_used():
    assert fault_of("countdown") == ""
    assert fault_of("acre") == "generator 'acre' is left out: its code is under GPL-3.0"
    assert fault_of("tetris") == f"no generator 'tetris' in {VERSION}"
