r"""A benchmark's own answers as responses: whatever judges it must call them right, or say why it cannot.

In: problems. Out: for each the response that gives its gold back, as `\boxed{42}` or the reference program in a fence, and the verdict.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.domains import Judge, Verdict
from data.schema import Problem

EXPLAINED = {  # id -> why its gold need not be judged right
    "mbpp/123": "the reference takes 3 of the 4 seconds of processor time that a call has, and more where others use the core",
    "leetcode_test/126": "the reference imports sortedcontainers, which is not of the standard library",
}


@dataclass(frozen=True, slots=True)
class Given:
    """A problem whose gold was given back, and what the judge said."""

    problem: Problem
    verdict: Verdict

    @property
    def is_right(self) -> bool:
        """Whether it was called right."""
        return self.verdict.status == "correct"


def gold_response(problem: Problem) -> str | None:
    """The gold as a response; None where there is none: an open question, or tests without a program that passes them."""
    if problem.tests.strip():
        return f"```python\n{problem.solution}\n```" if problem.solution.strip() else None
    return boxed(problem.answer) if problem.answer.strip() else None


def boxed(answer: str) -> str:
    """A response that gives an answer and nothing else."""
    return f"\\boxed{{{answer}}}"


def give_back(problems: Iterable[Problem], judge: Judge) -> list[Given]:
    """The verdicts on the golds of those problems that have one; `judge` must not require thinking."""
    asked = [(response, problem) for problem in problems if (response := gold_response(problem)) is not None]
    verdicts = judge.verify(asked)
    return [Given(problem, verdict) for (_, problem), verdict in zip(asked, verdicts, strict=True)]


def spread(problems: Sequence[Problem], most: int) -> list[Problem]:
    """At most so many of them, evenly over the set."""
    return (
        [problems[index * len(problems) // most] for index in range(most)] if len(problems) > most else list(problems)
    )
