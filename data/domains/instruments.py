"""The processes that a judge needs, each started at first need: the Math-Verify worker and the sandbox."""

from types import TracebackType
from typing import Self

from data.domains.math_worker import MathWorkers
from data.domains.policy import DEFAULT_POLICY, Policy
from data.sandbox import Job, Limits, Run, Sandbox, require_confinement


class Instruments:
    """Started lazily, closed together."""

    def __init__(self, *, unsafe_local_execution: bool, policy: Policy = DEFAULT_POLICY) -> None:
        self.policy = policy
        self.math = MathWorkers()
        self._sandbox = Sandbox(confined=not unsafe_local_execution)
        self._sandbox_is_tested = self.is_unsafe = unsafe_local_execution

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.math.close()
        self._sandbox.close()

    def run(self, job: Job, limits: Limits) -> Run:
        """Run code in the sandbox. Raises SandboxError where there is none, at the first run."""
        if not self._sandbox_is_tested:
            require_confinement(self._sandbox)
            self._sandbox_is_tested = True
        return self._sandbox.run(job, limits)
