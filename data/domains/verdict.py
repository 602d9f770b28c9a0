"""The one record of a judgement, the same for curation, reward and evaluation."""

from dataclasses import dataclass

STATUSES = ("correct", "wrong", "no_answer", "timeout", "resource_limit", "judge_error", "bad_gold", "no_tests")
FAILED_STATUSES = frozenset({"judge_error", "bad_gold", "no_tests"})  # the judge does not know: never a wrong answer


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a response is right. `score` is 1.0 for correct, else 0.0 or partial credit; `extracted` is the answer that was judged."""

    status: str
    score: float
    extracted: str
    reason: str
    seconds: float
    checker_failed: bool = False  # wrong because the checker did not come back on this answer; counted apart
    weak: bool = False  # correct, but an operator of the answer's own class decided; counted apart

    @property
    def is_failure(self) -> bool:
        """The judge failed, so that the sample is neither right nor wrong."""
        return self.status in FAILED_STATUSES
