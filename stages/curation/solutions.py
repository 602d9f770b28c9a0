r"""Solutions of public sets in the one form that SFT trains on: what follows an opened `<think>`.

`<think> thought </think> answer` loses its opening tag, which training sets where the model's template does not. A worked solution
becomes the thought, followed by its own last box; GSM8K's `#### 72` counts as one and its calculator marks `<<48/2=24>>` go. A
reference program follows an empty thought.
"""

import re

from data.domains.extraction import final_answer, final_line, last_box
from data.schema import Problem

_OPENING = re.compile(r"^\s*<think>\s*")
_BACKTICKS = re.compile(r"`{3,}")
_CALCULATOR = re.compile(r"<<[^<>]*>>")


def trace_of(problem: Problem) -> str | None:
    """The problem's solution as a trace; None where it has no final answer, or its thinking is not closed."""
    solution = problem.solution.strip()
    if "<think>" in solution or "</think>" in solution:
        return _OPENING.sub("", solution, count=1) if "</think>" in solution else None
    if problem.domain == "code" and problem.tests.strip():
        return f"\n</think>\n\n{_fenced(solution)}"
    return _worked(solution)


def _fenced(program: str) -> str:
    if program.startswith("```"):
        return program
    fence = "`" * max([3, *(len(run) + 1 for run in _BACKTICKS.findall(program))])
    return f"{fence}python\n{program}\n{fence}"


def _worked(solution: str) -> str | None:
    answer = final_answer(solution)
    if not answer:
        return None
    line = final_line(solution) if last_box(solution) is None else None
    thought = _CALCULATOR.sub("", solution[: line.start]).strip() if line else solution
    return f"{thought}\n</think>\n\n\\boxed{{{answer}}}"


def boxed_gold(problem: Problem) -> str:
    """A response that gives the gold answer and nothing else."""
    return f"\n</think>\n\n\\boxed{{{problem.answer.strip()}}}"
