"""Answer verification (paper 2.3): no row is kept whose solution, or whose gold answer, the judge of RL and evaluation rejects.

Generated rows with a teacher: up to `max_tries` proposals, the first that verifies becomes the solution (rejection sampling).
Rows of files and data sets: the solution must verify; in rl and probe a mathematics or science row without a good one is kept,
with an empty solution, if the judge accepts its gold answer given back; a reference program must pass the tests.
A failure of the judge is a reason of its own, never a wrong answer.

Work is cut into chunks of a fixed number of rows, each a pure function of its rows, so the number of processes does not matter.
A departure: the paper takes the pass rate of several models; here one solution is enough, and selection measures solve rates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from data.domains import FAILED_STATUSES, Judge, Verdict
from data.schema import Problem
from data.sources.procedural import propose_trace
from stages.config import CurationConfig, ProceduralSource, Runtime, Teacher
from stages.curation.pool import Candidate, Drop, Sifted
from stages.curation.solutions import boxed_gold, trace_of
from stages.seeds import derive_seed
from stages.stage import StageLog
from stages.workers import Worker, work_through

JUDGE_FAILED = "judge failed"  # how the reason begins where the judge does not know
_CHUNK_ROWS = 16
_EVIDENCE = 200  # characters of an extracted answer
_TRACED = ("base", "sft", "validation")  # splits that are trained on solutions


@dataclass(frozen=True, slots=True)
class Chunk:
    """A unit of work: rows of one source."""

    problems: tuple[Problem, ...]
    source: str
    teacher: Teacher | None  # none: the rows bring their own solutions
    seed: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What verification makes of a row: its solution, or a reason to drop it."""

    solution: str = ""
    reason: str = ""  # empty: the row is kept
    evidence: str = ""
    num_judged: int = 0


def verify(candidates: Sequence[Candidate], config: CurationConfig, *, runtime: Runtime, log: StageLog) -> Sifted:
    """Verify the rows that need it and pass on the others as they are."""
    teachers = {source.name: source.teacher for source in config.sources if isinstance(source, ProceduralSource)}
    needing = [position for position, candidate in enumerate(candidates) if _needs_verification(candidate, teachers)]
    chunks = list(_chunks([candidates[position] for position in needing], teachers, seed=config.seed))
    findings = dict(zip(needing, _run(chunks, runtime=runtime, log=log), strict=True))
    sifted = Sifted([], [], num_judged=sum(finding.num_judged for finding in findings.values()))
    for position, candidate in enumerate(candidates):
        finding = findings.get(position)
        if finding is None:
            sifted.kept.append(candidate)
        elif finding.reason:
            sifted.dropped.append(Drop(candidate, finding.reason, finding.evidence))
        else:
            sifted.kept.append(replace(candidate, problem=replace(candidate.problem, solution=finding.solution)))
    return sifted


def _needs_verification(candidate: Candidate, teachers: Mapping[str, Teacher | None]) -> bool:
    """Everything but generated rows without a teacher, whose answers are right by construction."""
    return not candidate.generated or teachers[candidate.source] is not None


def _chunks(candidates: Sequence[Candidate], teachers: Mapping[str, Teacher | None], *, seed: int) -> Iterator[Chunk]:
    start = 0
    while start < len(candidates):
        source = candidates[start].source
        stop = start
        while stop < min(start + _CHUNK_ROWS, len(candidates)) and candidates[stop].source == source:
            stop += 1
        problems = tuple(candidate.problem for candidate in candidates[start:stop])
        yield Chunk(problems, source, teachers.get(source), seed)
        start = stop


# ---------------------------------------------------------------- processes


def _run(chunks: Sequence[Chunk], *, runtime: Runtime, log: StageLog) -> list[Finding]:
    """The findings of every row, in order."""
    total, done = sum(len(chunk.problems) for chunk in chunks), 0
    found: dict[int, list[Finding]] = {}
    for position, findings in work_through(_verify_chunk, chunks, runtime=runtime):
        found[position] = findings
        done += len(chunks[position].problems)
        log.progress(done, total, unit="problems", detail="verification")
    return [finding for position in range(len(chunks)) for finding in found[position]]


def _verify_chunk(worker: Worker, chunk: Chunk) -> list[Finding]:
    return verify_chunk(chunk, worker.judge)


# ---------------------------------------------------------------- inside a worker


def verify_chunk(chunk: Chunk, judge: Judge) -> list[Finding]:
    """The finding of every row of the chunk, in order."""
    if chunk.teacher is not None:
        return _teach(chunk, chunk.teacher, judge)
    return [_check(problem, judge) for problem in chunk.problems]


def _teach(chunk: Chunk, teacher: Teacher, judge: Judge) -> list[Finding]:
    """Rejection sampling: every try proposes for the rows that have no trace yet."""
    styles: dict[str, float] = {**teacher.styles}
    slips: dict[str, float] = {**teacher.slips}
    findings: dict[int, Finding] = {}
    open_rows = dict(enumerate(chunk.problems))
    for attempt in range(teacher.max_tries):
        proposals = {
            row: propose_trace(
                problem,
                styles=styles,
                slips=slips,
                seed=derive_seed(chunk.seed, "curation", "teacher", chunk.source, problem.id, attempt),
            )
            for row, problem in open_rows.items()
        }
        verdicts = judge.verify([(proposals[row], problem) for row, problem in open_rows.items()])
        for (row, problem), verdict in zip(list(open_rows.items()), verdicts, strict=True):
            findings[row] = _of_proposal(problem, proposals[row], verdict, num_judged=attempt + 1)
            if verdict.status == "correct":
                del open_rows[row]
        if not open_rows:
            break
    return [findings[row] for row in range(len(chunk.problems))]


def _of_proposal(problem: Problem, proposal: str, verdict: Verdict, *, num_judged: int) -> Finding:
    if verdict.status == "correct":
        return Finding(solution=proposal, num_judged=num_judged)
    if verdict.status in FAILED_STATUSES:
        return Finding(reason=f"{JUDGE_FAILED}: {verdict.status}", evidence=_evidence(verdict), num_judged=num_judged)
    if problem.split in _TRACED:
        return Finding(reason="trace does not verify", evidence=_evidence(verdict), num_judged=num_judged)
    return Finding(num_judged=num_judged)


def _evidence(verdict: Verdict) -> str:
    return f"{verdict.status}: {verdict.extracted[:_EVIDENCE]!r}; {verdict.reason[:_EVIDENCE]}"


def _check(problem: Problem, judge: Judge) -> Finding:
    """The row's own solution, and where that may be missing, its gold answer."""
    solved = _check_solution(problem, judge)
    needs_solution = problem.split in _TRACED or (problem.domain == "code" and problem.solution.strip())
    if solved is not None and (not solved.reason or needs_solution):
        return solved
    if needs_solution:
        return Finding(reason="no solution", evidence=f"the split {problem.split} is trained on solutions")
    return _check_gold(problem, judge, num_judged=solved.num_judged if solved else 0)


def _check_solution(problem: Problem, judge: Judge) -> Finding | None:
    """None where there is no solution."""
    if not problem.solution.strip():
        return None
    trace = trace_of(problem)
    if trace is None:
        end = problem.solution.strip()[-_EVIDENCE:]
        return Finding(reason="solution without a final answer", evidence=f"ends with {end!r}")
    (verdict,) = judge.verify([(trace, problem)])
    if verdict.status == "correct":
        return Finding(solution=trace, num_judged=1)
    kind = f"{JUDGE_FAILED}: {verdict.status}" if verdict.status in FAILED_STATUSES else "solution does not verify"
    return Finding(reason=kind, evidence=_evidence(verdict), num_judged=1)


def _check_gold(problem: Problem, judge: Judge, *, num_judged: int) -> Finding:
    """A row to be solved: the judge must accept its gold answer. Tests without a reference cannot be checked and pass."""
    if not problem.answer.strip():
        return Finding(num_judged=num_judged)
    (verdict,) = judge.verify([(boxed_gold(problem), problem)])
    if verdict.status == "correct":
        return Finding(num_judged=num_judged + 1)
    kind = f"{JUDGE_FAILED}: {verdict.status}" if verdict.status in FAILED_STATUSES else "gold answer does not verify"
    return Finding(reason=kind, evidence=_evidence(verdict), num_judged=num_judged + 1)
