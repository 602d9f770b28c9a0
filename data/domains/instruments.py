"""The processes that a judge needs, each started at first need: the Math-Verify worker and the sandbox."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from data.domains.math_worker import MathWorkers
from data.domains.policy import DEFAULT_POLICY, Policy
from data.sandbox import Job, Limits, Run, Sandbox, require_confinement


class Instruments:
    """Started lazily, closed together. `packages` are what answers may import beside the standard library."""

    def __init__(
        self, *, unsafe_local_execution: bool, policy: Policy = DEFAULT_POLICY, packages: Sequence[str] = ()
    ) -> None:
        self.policy = policy
        self.math = MathWorkers()
        self._sandbox = Sandbox(confined=not unsafe_local_execution, packages=packages)
        self._tests_sandbox: Sandbox | None = None  # beside the answer's
        self._scorer_sandbox: Sandbox | None = None
        self._sandbox_is_tested = self.is_unsafe = unsafe_local_execution

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.math.close()
        self._sandbox.close()
        for sandbox in (self._tests_sandbox, self._scorer_sandbox):
            if sandbox is not None:
                sandbox.close()

    def run(self, job: Job, limits: Limits) -> Run:
        """Run code in the sandbox. Raises SandboxError where there is none, at the first run."""
        self._require_confinement()
        return self._sandbox.run(job, limits)

    def run_connected(self, answer: Job, tests: Job, limits: Limits) -> tuple[Run, Run]:
        """Run an answer and its tests in two sandboxes, connected. Raises SandboxError where there is none, at the first run."""
        self._require_confinement()
        if self._tests_sandbox is None:  # the same rung, which was tested
            self._tests_sandbox = Sandbox(confined=not self.is_unsafe)
        self._tests_sandbox.stay_on(self._sandbox.rung)
        return self._sandbox.run_connected(self._tests_sandbox, (answer, tests), limits)

    def run_scorer(self, job: Job, limits: Limits, *, packages: Sequence[str], module: tuple[str, str]) -> Run:
        """Run code of ours on what an answer says, in a server that holds `packages` and `module`, always the same ones.

        Raises SandboxError where there is no sandbox, at the first run.
        """
        if self._scorer_sandbox is None:
            self._scorer_sandbox = Sandbox(confined=not self.is_unsafe, packages=packages, module=module)
            require_confinement(self._scorer_sandbox)
        return self._scorer_sandbox.run(job, limits)

    def _require_confinement(self) -> None:
        if not self._sandbox_is_tested:
            require_confinement(self._sandbox)
            self._sandbox_is_tested = True
