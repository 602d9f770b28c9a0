"""How the judge does on labelled cases and golds of real sets, how fast it is, and what hanging answers cost.

The data folder is `RING_DATA_DIR`, or `../shared/data` beside the project; what needs it is left out, and said so, where it is absent.
"""

import json
import os
import random
import resource
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console

from data.domains import FAILED_STATUSES, Judge, science
from data.domains.domain import Question
from data.domains.formulas.cursor import READINGS
from data.domains.formulas.grammar import parsed
from data.domains.formulas.nodes import UnreadableError
from data.domains.formulas.normal import normalised
from data.domains.math_worker import CPU_SECONDS, EQUAL, Answer, MathWorkers
from data.domains.policy import DEFAULT_POLICY
from data.schema import Problem, problems_from_table
from flows.tables import rows_table

MATHEMATICS = (
    "gsm8k",
    "math_train",
    "math_test4500",
    "math500",
    "aime_1983_2023",
    "aime24",
    "aime25",
    "hmmt25",
    "amc",
    "cn_math_2024",
    "deepmath_sample",
    "college_math",
    "cmath",
    "mgsm_zh",
    "kaoyan",
    "olympiadbench_math_en",
    "minerva_math",
    "olymmath",
    "gaokao_math",
    "gaokao2023en",
    "gaokao2024_mix",
    "agieval_gaokao_math",
)  # fmt: skip - files, train rows among them; `python -m benchmarks golds` has the benchmarks as they are evaluated
SCIENCE = ("scibench", "abench_physics", "gaokao_science", "theoremqa")
NUM_FALSE_PAIRS, NUM_ORDINARY, NUM_HANGING = 700, 2000, 20
HANG = "\\prod_{{k=1}}^{{9999}} (k^2+{n})"  # below every limit that is looked at before, and minutes in SymPy


def main() -> None:
    """Print one table for each question."""
    console = Console(width=140)
    folder = Path(os.environ.get("RING_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if folder.is_dir():
        with Judge(requires_thinking=False) as judge:
            console.print(rows_table(_cases(judge, folder), title="labelled cases of mathematics"))
            console.print(rows_table(_golds(judge, folder), title="golds against themselves"))
            console.print(rows_table(_pairs(folder), title="pairs of physics_equivalence_pairs"))
    else:
        console.print(f"no folder {folder}: set RING_DATA_DIR to the data sets for cases, golds and pairs")
    console.print(rows_table(_speed(), title="mathematics, one core"))


def _cases(judge: Judge, folder: Path) -> list[dict]:
    lines = (folder / "cases" / "math_verifier_cases.jsonl").read_text(encoding="utf-8").splitlines()
    counts: dict[str, Counter] = {"no question of policy": Counter(), "a question of policy": Counter()}
    slowest = 0.0
    for case in map(json.loads, lines):
        (verdict,) = judge.verify([(case["response"], Problem(case["id"], "math", "eval", "", case["gold"]))])
        count = counts["a question of policy" if case["policy"] else "no question of policy"]
        passed = verdict.score == 1.0
        count["rows"] += 1
        count["false positives"] += passed and not case["should_pass"]
        count["false negatives"] += case["should_pass"] and not passed
        slowest = max(slowest, verdict.seconds)
    return [{"rows with": name, **count, "slowest s (all)": round(slowest, 1)} for name, count in counts.items()]


def _golds(judge: Judge, folder: Path) -> list[dict]:
    rows = [_gold_row(judge, folder, name, "math") for name in MATHEMATICS]
    num, right = sum(row["golds"] for row in rows), sum(row["verify"] for row in rows)
    total = {
        "set": "all of mathematics",
        "golds": num,
        "verify": right,
        "share": right / num,
        "not": "",
        "read as formulas": "",
    }
    return [*rows, rows[0] | total, *(_gold_row(judge, folder, name, "science") for name in SCIENCE)]


def _gold_row(judge: Judge, folder: Path, name: str, domain: str) -> dict:
    problems = [row for row in problems_from_table(pq.read_table(folder / f"{name}.parquet")) if row.answer.strip()]
    asked = [Problem(p.id, domain, p.split, "", p.answer, meta=p.meta) for p in problems]
    verdicts = judge.verify([(f"\\boxed{{{problem.answer}}}", problem) for problem in asked])
    right = sum(verdict.status == "correct" for verdict in verdicts)
    failed = [problem.id for problem, verdict in zip(asked, verdicts, strict=True) if verdict.status != "correct"]
    return {
        "set": name, "golds": len(asked), "verify": right, "share": right / len(asked),
        "judge failed": sum(verdict.status in FAILED_STATUSES for verdict in verdicts), "not": " ".join(failed[:6]),
        "read as formulas": _read(problems) if domain == "math" else "",
    }  # fmt: skip


def _read(problems: list[Problem]) -> str:
    """How many golds that are no whole numbers the grammar reads whole."""
    golds = [problem.answer.strip() for problem in problems if not problem.answer.strip().lstrip("-").isdigit()]
    return f"{sum(map(_is_read, golds))}/{len(golds)}"


def _is_read(gold: str) -> bool:
    try:
        parsed(normalised(gold), READINGS[0])
    except UnreadableError:
        return False
    return True


def _pairs(folder: Path) -> list[dict]:
    """A pair holds a gold and a prediction, both extracted already."""
    pairs = (
        pq.read_table(folder / "physics_equivalence_pairs.parquet").select(["answer", "solution", "meta"]).to_pylist()
    )
    verdicts = [json.loads(pair["meta"])["verdict"] for pair in pairs]
    true = [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict]
    false = [pair for pair, verdict in zip(pairs, verdicts, strict=True) if not verdict]
    sampled = random.Random(0).sample(false, NUM_FALSE_PAIRS)
    workers = MathWorkers()
    try:
        return [
            _pair_row(name, rows, workers)
            for name, rows in (("true", true), ("false, sampled", sampled), ("false, all", false))
        ]
    finally:
        workers.close()


def _pair_row(name: str, pairs: list[dict], workers: MathWorkers) -> dict:
    started = time.perf_counter()
    looks = [science.compare(pair["solution"].strip(), pair["answer"].strip(), DEFAULT_POLICY) for pair in pairs]
    questions = [look for look in looks if isinstance(look, Question)]
    words = workers.answer([(question.gold, question.answer) for question in questions])
    accepted = sum(not isinstance(look, Question) and look.status == "correct" for look in looks)
    accepted += sum(answer.word == EQUAL for answer in words)
    seconds = time.perf_counter() - started
    return {
        "pairs": name,
        "number": len(pairs),
        "accepted": accepted,
        "share": accepted / len(pairs),
        "seconds": round(seconds, 1),
    }


def _speed() -> list[dict]:
    """Ordinary answers, each another one, with and without hanging ones among them; wall, and CPU of the workers without their start."""
    ordinary = [(f"\\frac{{{n}}}{{{n + 1}}}", f"\\frac{{{2 * n}}}{{{2 * n + 2}}}") for n in range(1, NUM_ORDINARY + 1)]
    generator = random.Random(0)
    mixed = list(ordinary)
    for n in range(NUM_HANGING):
        mixed[generator.randrange(len(mixed))] = ("7", HANG.format(n=n))
    rows = [_speed_row("ordinary", ordinary), _speed_row(f"{NUM_HANGING} hanging among them", mixed)]
    return [*rows, _judge_row(ordinary, rows[0])]


def _judge_row(pairs: list[tuple[str, str]], workers: dict) -> dict:
    """The same answers through the judge, which decides them without a worker."""
    problems = [(f"\\boxed{{{answer}}}", Problem("p", "math", "eval", "", gold)) for gold, answer in pairs]
    with Judge(requires_thinking=False) as judge:
        started = time.perf_counter()
        judge.verify(problems)
        wall = time.perf_counter() - started
    rate = round(len(pairs) / wall)
    return {
        "answers": f"ordinary, by the judge: {rate / workers['answers/s']:.1f} times the workers' rate",
        "number": len(pairs), "timed out": 0,
        "wall s": round(wall, 1), "answers/s": rate, "answers/CPU-s": rate, "CPU s": round(wall, 1), "kill time x timed out, CPU s": 0,
    }  # fmt: skip


def _speed_row(name: str, pairs: list[tuple[str, str]]) -> dict:
    start, _, _ = _cpu_seconds([])
    cpu, wall, answers = _cpu_seconds(pairs)
    stuck = sum(answer.word == "timeout" for answer in answers)
    return {
        "answers": name, "number": len(pairs), "timed out": stuck, "wall s": round(wall, 1), "answers/s": round(len(pairs) / wall),
        "answers/CPU-s": round(len(pairs) / (cpu - start)), "CPU s": round(cpu - start, 1),
        "kill time x timed out, CPU s": stuck * (CPU_SECONDS + 1),
    }  # fmt: skip


def _cpu_seconds(pairs: list[tuple[str, str]]) -> tuple[float, float, list[Answer]]:
    """CPU seconds of the workers, wall seconds once the first has started, and the answers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    workers = MathWorkers()
    try:
        workers.compare("1", "2")
        started = time.perf_counter()
        answers = workers.answer(pairs)
        wall = time.perf_counter() - started
    finally:
        workers.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, answers
