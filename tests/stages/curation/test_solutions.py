import pytest

from stages.curation.solutions import trace_of


def test_a_thinking_solution_loses_only_its_opening_tag(problem):
    row = problem(solution=r"<think>six sevens</think> \boxed{42}")
    assert trace_of(row) == r"six sevens</think> \boxed{42}"


def test_thinking_that_is_not_closed_is_no_trace(problem):
    assert trace_of(problem(solution=r"<think>six sevens, \boxed{42}")) is None


def test_a_worked_solution_becomes_the_thought_before_its_last_box(problem):
    row = problem(solution=r"First \boxed{1}. Then \boxed{\frac{84}{2}}.")
    assert trace_of(row) == "First \\boxed{1}. Then \\boxed{\\frac{84}{2}}.\n</think>\n\n\\boxed{\\frac{84}{2}}"


@pytest.mark.parametrize(
    ("end", "answer"),
    [
        (r"\boxed 7", "7"),
        (r"$x=\boxed 7$.", "7"),
        (r"\boxed -7.5.", "-7.5"),
        (r"\boxed\frac12", r"\frac12"),
        (r"\fbox x", "x"),
    ],
)
def test_a_box_without_braces_is_an_answer(problem, end, answer):
    assert trace_of(problem(solution=f"It is {end}")) == f"It is {end}\n</think>\n\n\\boxed{{{answer}}}"


def test_the_final_line_of_gsm8k_is_its_answer_and_calculator_marks_go(problem):
    row = problem(solution="She sold 6*7 = <<6*7=42>>42 clips.\n#### 42")
    assert trace_of(row) == "She sold 6*7 = 42 clips.\n</think>\n\n\\boxed{42}"


def test_a_solution_without_a_final_answer_is_no_trace(problem):
    assert trace_of(problem(solution="It is clear.")) is None


def test_a_program_follows_an_empty_thought(program):
    assert trace_of(program(solution="def add(a, b): ...")) == "\n</think>\n\n```python\ndef add(a, b): ...\n```"
