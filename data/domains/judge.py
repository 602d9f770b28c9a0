"""The judge: responses and problems in, verdicts out, whatever the domain."""

import atexit
import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from types import TracebackType
from typing import Any, Self

from data.domains import gym, mathematics, programs, science
from data.domains.domain import Domain, Outcome, Question
from data.domains.extraction import Program, after_thinking
from data.domains.instruments import Instruments
from data.domains.math_worker import CONTROL, FAILURES, Answer
from data.domains.policy import DEFAULT_POLICY, Policy
from data.domains.verdict import Verdict
from data.sandbox import SandboxError
from data.schema import Problem

DOMAINS: dict[str, Domain] = {
    "math": mathematics.DOMAIN,
    "code": programs.DOMAIN,
    "science": science.DOMAIN,
    gym.NAME: gym.DOMAIN,
}


MAX_REASON = 500  # characters


class Judge:
    """Judges responses; used as a context. Its processes start at first need, so that making one costs nothing.

    `requires_thinking=False` judges texts without thinking tags as a whole, as plain solutions are written. `packages`, as numpy, are
    what answers of code may import beside the standard library.
    """

    def __init__(
        self,
        *,
        unsafe_local_execution: bool = False,
        requires_thinking: bool = True,
        policy: Policy = DEFAULT_POLICY,
        packages: Sequence[str] = (),
    ) -> None:
        self._requires_thinking = requires_thinking
        self._instruments = Instruments(unsafe_local_execution=unsafe_local_execution, policy=policy, packages=packages)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._instruments.__exit__(kind, error, trace)

    def verify(self, answered: Sequence[tuple[str | Program, Problem]]) -> list[Verdict]:
        """One verdict per (response, problem), in order.

        Responses that say the same after their thinking are judged once: samples of one prompt often agree. A Program is taken
        as it is, where its problem is of the domain code.

        Raises:
            SandboxError: a response holds code and untrusted code cannot be run safely here.
            ValueError: a problem's domain is unknown.

        """
        texts = [
            (
                response
                if isinstance(response, Program)
                else after_thinking(response, requires_thinking=self._requires_thinking),
                problem,
            )
            for response, problem in answered
        ]
        timed = {item: self._first_look(*item) for item in dict.fromkeys(texts)}
        questions = {item: look for item, (look, _) in timed.items() if isinstance(look, Question)}
        answers, golds = self._ask(list(questions.values()))
        verdicts = {
            item: _verdict(look, seconds) for item, (look, seconds) in timed.items() if isinstance(look, Outcome)
        }
        for (item, question), answer in zip(questions.items(), answers, strict=True):
            outcome = mathematics.outcome(answer.word, question, golds.get(question.gold, ""))
            verdicts[item] = _verdict(outcome, timed[item][1] + answer.seconds)
        return [verdicts[item] for item in texts]

    def _ask(self, questions: Sequence[Question]) -> tuple[list[Answer], dict[str, str]]:
        """What Math-Verify says and, where it failed, what it says of the gold and a plain number."""
        workers = self._instruments.math
        answers = workers.answer([(question.gold, question.answer) for question in questions])
        failed = {question.gold for question, answer in zip(questions, answers, strict=True) if answer.word in FAILURES}
        words = workers.answer([(gold, CONTROL) for gold in sorted(failed)])
        return answers, {gold: answer.word for gold, answer in zip(sorted(failed), words, strict=True)}

    def _first_look(self, text: str | Program | None, problem: Problem) -> tuple[Outcome | Question, float]:
        """What can be said without Math-Verify, and the seconds that it took."""
        started = time.perf_counter()
        return self._outcome(text, problem), time.perf_counter() - started

    def _outcome(self, text: str | Program | None, problem: Problem) -> Outcome | Question:
        domain = DOMAINS.get(problem.domain)
        if domain is None:
            raise ValueError(
                f"problem {problem.id!r}: unknown domain {problem.domain!r}; there are {', '.join(DOMAINS)}"
            )
        if text is None:
            return Outcome("no_answer", reason="the thinking was not finished")
        try:
            if isinstance(text, Program):
                return programs.verify_program(text, problem, self._instruments)
            return domain.verify(text, problem, self._instruments)
        except SandboxError:
            raise
        except (
            Exception
        ) as error:  # fault isolation: no answer may stop a stage; failures are counted, and stop it above a rate
            return Outcome("judge_error", reason=f"{type(error).__name__}: {error}"[:200])


def _verdict(outcome: Outcome, seconds: float) -> Verdict:
    return Verdict(
        status=outcome.status,
        score=outcome.credit if outcome.status == "wrong" else float(outcome.status == "correct"),
        extracted=_encodable(outcome.extracted),
        reason=_encodable(outcome.reason[:MAX_REASON]),
        seconds=seconds,
        checker_failed=outcome.checker_failed,
        weak=outcome.weak,
    )


def _encodable(text: str) -> str:
    """Without lone surrogates, which no table or file can hold."""
    return text.encode("utf-8", "replace").decode()


@cache
def _shared_judge(policy: Policy) -> Judge:
    """One for the whole process: its workers take a second to start."""
    judge = Judge(requires_thinking=False, policy=policy)
    atexit.register(judge.__exit__, None, None, None)
    return judge


def verify(
    response: str,
    *,
    domain: str,
    gold: str = "",
    tests: str | Mapping[str, Any] = "",
    policy: Policy = DEFAULT_POLICY,
    meta: Mapping[str, Any] | None = None,
) -> Verdict:
    r"""Judge one response: `verify("so \boxed{3}", domain="math", gold="3").score == 1.0`.

    Thinking tags are optional, but what stands in them never counts. `tests` has the shapes of data/domains/code_tests.py.

    Raises:
        SandboxError: the response holds code and untrusted code cannot be run safely here.
        ValueError: the domain is unknown.

    """
    text = tests if isinstance(tests, str) else json.dumps(tests)
    problem = Problem("", domain, "eval", "", gold, text, meta=json.dumps(dict(meta or {})))
    return _shared_judge(policy).verify([(response, problem)])[0]
