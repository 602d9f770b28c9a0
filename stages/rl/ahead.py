"""Steps on their way into the journal: one after the other beside the training, as far ahead of it as the objective allows.

With max_lag = 0 a step is asked when the weights of the step before are there, and the trainer waits for it. With n, step s is asked of the
weights after s - 1 - n steps, so that up to n steps are sampled while others are trained on; its rows say which weights drew them.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from stages.config import RlArm
from stages.rl.attempts import Attempts
from stages.rl.collect import Collected, Collector, Weights
from stages.sampling.requests import Policy


class Ahead:
    """The steps that were asked and not waited for yet; used as a context."""

    def __init__(self, collector: Collector, *, attempts: Attempts | None = None) -> None:
        """`attempts`: of the arm; none: it has one."""
        self._collector, self._attempts = collector, attempts
        self._waiting: dict[int, Future[Collected]] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="collect")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=kind is None, cancel_futures=True)

    def needs_weights(self, step: int) -> bool:
        """Whether one of the steps that are to be asked with `step` must be sampled."""
        return not all(map(self._collector.journal.has, self._next(step)))

    def ask(self, step: int, policy: Policy | None) -> None:
        """Ask for steps up to `step` + max_lag of the weights after `step` - 1; None where the journal has them all."""
        for wanted in self._next(step):
            attempt = self._attempts.of(wanted) if self._attempts is not None else 0
            sampled = self._collector.journal.has(wanted)
            weights = None if sampled or policy is None else Weights(policy, step - 1)
            self._waiting[wanted] = self._executor.submit(self._collector.collect, wanted, weights, attempt=attempt)

    def _next(self, step: int) -> range:
        """The steps that were not asked yet: as many as there may be behind `step`."""
        last = min(step + self._collector.config.objective.max_lag, self._collector.arm.num_steps)
        return range(max(self._waiting, default=step - 1) + 1, last + 1)

    def take(self, step: int) -> Collected:
        """Wait for a step that was asked. Raises what collecting it raised."""
        return self._waiting.pop(step).result()

    def settle(self) -> None:
        """Wait until the journal has all that was asked: those steps may be of weights that a resume point does not bring back."""
        for future in self._waiting.values():
            future.result()

    def follow(self, arm: RlArm) -> None:
        """Ask the next steps by another arm, which has the same steps as far as they were asked."""
        self._collector = replace(self._collector, arm=arm)

    def go_back(self, *, cursor: Mapping[str, Any], judged: Sequence[tuple[int, Mapping[str, int]]]) -> None:
        """Begin again from where the cursor stood; what was asked, and is settled, is forgotten."""
        self._waiting.clear()
        self._collector = self._collector.moved(cursor=cursor, judged=judged)
