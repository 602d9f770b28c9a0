"""Answer verification (paper 2.3): no row is kept whose solution, or whose gold answer, the judge of RL and evaluation rejects.

Generated rows with a teacher: up to `max_tries` proposals, the first that verifies becomes the solution (rejection sampling).
Rows of files and data sets, and generated ones with a solution of their own (dirt): the solution must verify; in rl and probe a
mathematics or science row without a good one is kept, with an empty solution, if the judge accepts its gold answer given back; a code
row needs a reference program that passes its tests, unless `code_without_reference` keeps those that have none.
A failure of the judge is a reason of its own, never a wrong answer. Tests of code must refuse answers that are none (`canaries`), and
leave RL where an answer's own operators decide (`weak_tests`).

A departure: the paper takes the pass rate of several models; here one solution is enough, and selection measures solve rates.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from data.domains import FAILED_STATUSES, Judge, Verdict
from data.domains.extraction import last_code_block
from data.sandbox import preamble
from data.schema import Problem, problems_from_table
from data.sources.procedural import propose_trace
from stages.config import CurationConfig, ProceduralSource, Teacher
from stages.curation.canaries import accepted_canary, operators_can_decide
from stages.curation.names import unresolved_names
from stages.curation.pool import Drop, Sifted
from stages.curation.solutions import boxed_gold, trace_of
from stages.curation.traces import trace_fault
from stages.sampling.workers import Worker
from stages.seeds import derive_seed

JUDGE_FAILED = "judge failed"  # how the reason begins where the judge does not know
ACCEPT_ANYTHING = "tests accept anything"
PART_ROWS = 32  # of a batch that a process takes at a time
_MOST_KNOWN = 100_000  # verdicts that a process remembers
_EVIDENCE = 200  # characters of an extracted answer
_UNRESOLVED = re.compile(r"\b(?:NameError|ModuleNotFoundError|ImportError)\b")  # a reference that lacks what it names
_TRACED = ("base", "sft", "validation")  # splits that are trained on solutions


_Gold = tuple[str, str, str, str]  # domain, answer, meta and tests: all that a verdict on a gold answer can depend on


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one source."""

    problems: tuple[Problem, ...]
    source: str
    teacher: Teacher | None  # none: the rows bring their own solutions
    seed: int
    needs_reference: bool = True  # of code
    keeps_weak: bool = False  # code whose tests an answer's own operators decide, in rl


@dataclass(frozen=True, slots=True)
class Finding:
    """What verification makes of a row: its solution, or a reason to drop it."""

    solution: str = ""
    reason: str = ""  # empty: the row is kept
    evidence: str = ""
    num_judged: int = 0


def verify(worker: Worker, task: tuple[pa.Table, CurationConfig]) -> Sifted:
    """Verify the rows that need it and pass on the others as they are."""
    batch, config = task
    teachers = {source.name: source.teacher for source in config.sources if isinstance(source, ProceduralSource)}
    problems = problems_from_table(batch)
    solutions = [problem.solution for problem in problems]
    drops, num_judged = [], 0
    for rows, chunk in _chunks(batch, problems, teachers, config):
        known = worker.kept.setdefault("gold answers", {})
        for row, finding in zip(rows, verify_chunk(chunk, worker.judge, known), strict=True):
            num_judged += finding.num_judged
            solutions[row] = finding.solution
            if finding.reason:
                drops.append(Drop(row, finding.reason, finding.evidence))
    return Sifted(sorted(drops, key=lambda drop: drop.row), {"solution": solutions}, num_judged=num_judged)


def _chunks(
    batch: pa.Table, problems: Sequence[Problem], teachers: Mapping[str, Teacher | None], config: CurationConfig
) -> Iterator[tuple[list[int], Chunk]]:
    """The rows of each source that need verification: all but our generated ones without a teacher, which are right by construction.

    A row that brings a solution is not taught another one.
    """
    by_source: dict[tuple[str, bool], list[int]] = {}
    for row, (via, generated) in enumerate(zip(batch["via"].to_pylist(), batch["generated"].to_pylist(), strict=True)):
        is_taught = generated and not problems[row].solution and via in teachers
        if not is_taught or teachers[via] is not None:
            by_source.setdefault((via, is_taught), []).append(row)
    for (via, is_taught), rows in by_source.items():
        yield (
            rows,
            Chunk(
                tuple(problems[row] for row in rows),
                via,
                teachers.get(via) if is_taught else None,
                config.seed,
                needs_reference=config.code_without_reference == "drop",
                keeps_weak=config.weak_tests == "keep",
            ),
        )


# ---------------------------------------------------------------- the rows of a source


def verify_chunk(chunk: Chunk, judge: Judge, known: dict[_Gold, Verdict] | None = None) -> list[Finding]:
    """The finding of every row of the chunk, in order. `known` are verdicts on gold answers, so that `5` is not judged anew each time."""
    known = {} if known is None else known
    if chunk.teacher is not None:
        return _teach(chunk, chunk.teacher, judge)
    return [_check(problem, judge, known, chunk) for problem in chunk.problems]


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


def _check(problem: Problem, judge: Judge, known: dict[_Gold, Verdict], chunk: Chunk) -> Finding:
    """The row's own solution, and where that may be missing, its gold answer."""
    if problem.domain == "code" and chunk.needs_reference and problem.tests.strip() and not problem.solution.strip():
        return Finding(reason="no reference program", evidence="nothing shows that the tests can be passed")
    solved = _check_solution(problem, judge, keeps_weak=chunk.keeps_weak)
    needs_solution = problem.split in _TRACED or (problem.domain == "code" and problem.solution.strip())
    if solved is not None and (not solved.reason or needs_solution):
        return solved
    if needs_solution:
        return Finding(reason="no solution", evidence=f"the split {problem.split} is trained on solutions")
    return _check_gold(problem, judge, known, num_judged=solved.num_judged if solved else 0)


def _check_solution(problem: Problem, judge: Judge, *, keeps_weak: bool) -> Finding | None:
    """None where there is no solution."""
    if not problem.solution.strip():
        return None
    if fault := trace_fault(problem.solution, problem.prompt, is_program=problem.domain == "code"):
        return Finding(reason=fault[0], evidence=fault[1])
    trace = trace_of(problem)
    if trace is None:
        end = problem.solution.strip()[-_EVIDENCE:]
        return Finding(reason="solution without a final answer", evidence=f"ends with {end!r}")
    (verdict,) = judge.verify([(trace, problem)])
    if verdict.status == "correct":
        return _check_tests(problem, trace, verdict, judge, keeps_weak=keeps_weak)
    kind = f"{JUDGE_FAILED}: {verdict.status}" if verdict.status in FAILED_STATUSES else "solution does not verify"
    if problem.domain == "code" and verdict.status not in FAILED_STATUSES and _UNRESOLVED.search(verdict.reason):
        names = [
            name
            for name in unresolved_names(last_code_block(trace) or "", *_setup(problem))
            if name not in preamble.NAMES
        ]
        evidence = f"{', '.join(names) or 'no name stands out'}; {verdict.reason[:_EVIDENCE]}"
        return Finding(reason="unresolved name", evidence=evidence, num_judged=1)
    return Finding(reason=kind, evidence=_evidence(verdict), num_judged=1)


def _check_tests(problem: Problem, trace: str, verdict: Verdict, judge: Judge, *, keeps_weak: bool) -> Finding:
    """Of a row whose solution is right: whether its tests would have told a wrong one."""
    if problem.domain == "code" and problem.tests.strip():
        if problem.split == "rl" and not keeps_weak and (verdict.weak or operators_can_decide(problem)):
            return Finding(reason="weak tests", evidence=_evidence(verdict), num_judged=1)
        if accepted := accepted_canary(problem, judge):
            return Finding(reason=ACCEPT_ANYTHING, evidence=accepted, num_judged=2)
    return Finding(solution=trace, num_judged=1)


def _setup(problem: Problem) -> tuple[str, ...]:
    """What runs before the program."""
    setup = json.loads(problem.tests).get("setup")
    return (setup,) if isinstance(setup, str) else ()


def _check_gold(problem: Problem, judge: Judge, known: dict[_Gold, Verdict], *, num_judged: int) -> Finding:
    """A row to be solved: the judge must accept its gold answer. Tests whose reference may be missing pass unchecked."""
    if problem.domain == "code" and problem.tests.strip() and (accepted := accepted_canary(problem, judge)):
        return Finding(reason=ACCEPT_ANYTHING, evidence=accepted, num_judged=num_judged + 1)
    if not problem.answer.strip():
        return Finding(num_judged=num_judged)
    verdict = _gold_verdict(problem, judge, known)
    if verdict.status == "correct":
        return Finding(num_judged=num_judged + 1)
    kind = f"{JUDGE_FAILED}: {verdict.status}" if verdict.status in FAILED_STATUSES else "gold answer does not verify"
    return Finding(reason=kind, evidence=_evidence(verdict), num_judged=num_judged + 1)


def _gold_verdict(problem: Problem, judge: Judge, known: dict[_Gold, Verdict]) -> Verdict:
    """The judge's, or what it said of the same answer before; a failure of the judge is not remembered."""
    key = (problem.domain, problem.answer, problem.meta, problem.tests)
    if key in known:
        return known[key]
    (verdict,) = judge.verify([(boxed_gold(problem), problem)])
    if verdict.status not in FAILED_STATUSES and len(known) < _MOST_KNOWN:
        known[key] = verdict
    return verdict
