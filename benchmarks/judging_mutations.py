"""Tens of thousands of answers made from real golds: mutants that no judge may accept, rewritings that it should.

`python -m benchmarks judging_mutations`; `RING_DATA_DIR` is the data folder, `RING_MUTATIONS` the number of each (40 000),
`RING_MUTATIONS_PEER` how many of each Math-Verify judges alone (4 000), `RING_MUTATIONS_OUT` the file for every accepted mutant
and refused rewriting (else a temporary one, whose name is printed), `RING_MUTATIONS_SEED` another draw. The kinds are the tables of
`mutants` and `rewritings`; none has more than an eighth. Everything is seeded: the same golds give the same answers.
"""

import json
import os
import random
import re
import sys
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.judging import MATHEMATICS
from benchmarks.math_verify_alone import equal_pairs
from benchmarks.mutants import MUTANTS, QUANTITY, UNIT_MUTANTS, Generator
from benchmarks.rewritings import REWRITINGS
from data.domains import Judge
from data.domains.verdict import Verdict
from data.schema import Problem, problems_from_table
from flows.tables import rows_table

NUM_EACH, NUM_PEER, LARGEST_SHARE = 40_000, 4_000, 8
MAX_OF_GOLD = 3  # of one kind
BATCH = 400
_DOLLARS = re.compile(r"\$([^$]+)\$\.?")


@dataclass(frozen=True, slots=True)
class Gold:
    """A problem, and its answer without the dollars around it."""

    problem: Problem
    text: str


@dataclass(frozen=True, slots=True)
class Case:
    """An answer made from a gold."""

    kind: str
    gold: Gold
    answer: str


def main() -> None:
    """Print a table of mutants and one of rewritings, then the line that counts both."""
    console = Console(width=140)
    folder = Path(os.environ.get("RING_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        console.print(f"no folder {folder}: set RING_DATA_DIR to the data sets")
        return
    num, num_peer = (
        int(os.environ.get("RING_MUTATIONS", NUM_EACH)),
        int(os.environ.get("RING_MUTATIONS_PEER", NUM_PEER)),
    )
    golds, quantities = _golds(folder), _quantities(folder)
    mutants = _cases({**MUTANTS, **UNIT_MUTANTS}, golds, quantities, num)
    rewritings = _cases(REWRITINGS, golds, [], num)
    judged = {"mutants": _judged(mutants, "mutants"), "rewritings": _judged(rewritings, "rewritings")}
    for name, cases, wanted in (("mutants", mutants, False), ("rewritings", rewritings, True)):
        peer = _by_math_verify(cases, num_peer)
        title = f"{name}, which {'are the same' if wanted else 'are different'}; Math-Verify alone on {len(peer)} of {len(cases)}"
        console.print(rows_table(_rows(cases, judged[name], peer), title=title))
    out = _written({"mutants": mutants, "rewritings": rewritings}, judged)
    console.print(f"accepted mutants and refused rewritings, one a line: {out}")
    console.print(_failures(judged))
    print(_last_line(judged))


def _last_line(judged: Mapping[str, Sequence[Verdict]]) -> str:
    accepted = {name: sum(verdict.status == "correct" for verdict in verdicts) for name, verdicts in judged.items()}
    return ", ".join(f"{name} accepted {accepted[name]} of {len(verdicts)}" for name, verdicts in judged.items())


def _failures(judged: Mapping[str, Sequence[Verdict]]) -> str:
    """Verdicts that say neither right nor wrong count as not accepted."""
    statuses = {name: Counter(verdict.status for verdict in verdicts) for name, verdicts in judged.items()}
    return "; ".join(f"{name}: {dict(sorted(counts.items()))}" for name, counts in statuses.items())


def _number(text: str) -> int:
    """Of a text, the same for the same seed."""
    return zlib.crc32(f"{os.environ.get('RING_MUTATIONS_SEED', '')}{text}".encode())


# ---------------------------------------------------------------- golds


def _golds(folder: Path) -> list[Gold]:
    """Each answer of the sets of mathematics once, in an order of no meaning."""
    first: dict[str, Problem] = {}
    for name in MATHEMATICS:
        for row in problems_from_table(pq.read_table(folder / f"{name}.parquet")):
            answer = row.answer.strip()
            if answer and "\\boxed" not in answer:
                first.setdefault(answer, Problem(row.id, "math", "eval", row.prompt, answer, meta=row.meta))
    golds = [Gold(problem, _bare(answer)) for answer, problem in first.items()]
    return sorted(golds, key=lambda gold: _number(gold.problem.answer))


def _bare(answer: str) -> str:
    match = _DOLLARS.fullmatch(answer)
    return match[1].strip() if match else answer


def _quantities(folder: Path) -> list[Gold]:
    """Numbers with units: of SciBench with the unit that stands beside them, of mathematics and physics as they are."""
    rows = [
        Problem(row.id, "science", "eval", row.prompt, f"{row.answer.strip()} {row.metadata['unit'].strip('$ ')}")
        for row in problems_from_table(pq.read_table(folder / "scibench.parquet"))
        if row.metadata.get("unit")
    ]
    for name in (*MATHEMATICS, "physics_equivalence_pairs"):
        for row in problems_from_table(pq.read_table(folder / f"{name}.parquet")):
            rows.append(Problem(row.id, "science", "eval", row.prompt, _bare(row.answer.strip())))
    golds = {row.answer: Gold(row, row.answer) for row in rows if QUANTITY.fullmatch(row.answer)}
    return sorted(golds.values(), key=lambda gold: _number(gold.text))


# ---------------------------------------------------------------- cases


def _cases(kinds: Mapping[str, Generator], golds: Sequence[Gold], quantities: Sequence[Gold], num: int) -> list[Case]:
    """About `num` cases, as even over the kinds as the golds allow."""
    seen: set[tuple[str, str]] = set()
    found: dict[str, list[Case]] = {}
    for kind, generator in sorted(kinds.items()):
        sources = quantities if kind in UNIT_MUTANTS else golds
        found[kind] = _taken(kind, generator, sources, seen, max(1, num // LARGEST_SHARE))
        _say(f"{kind}: {len(found[kind])} cases")
    level = _level([len(cases) for cases in found.values()], num)
    return [case for cases in found.values() for case in cases[:level]]


def _taken(kind: str, generator: Generator, golds: Sequence[Gold], seen: set[tuple[str, str]], num: int) -> list[Case]:
    """The first `num` of one kind, first one of each gold, then another of each."""
    rounds: dict[int, list[Case]] = defaultdict(list)
    for gold in golds:
        if len(rounds[0]) >= num:
            break
        for place, answer in enumerate(_answers(kind, generator, gold)):
            if (gold.problem.answer, answer) not in seen:
                seen.add((gold.problem.answer, answer))
                rounds[place].append(Case(kind, gold, answer))
    return [case for place in sorted(rounds) for case in rounds[place]][:num]


def _answers(kind: str, generator: Generator, gold: Gold) -> list[str]:
    """At most three, at random places."""
    rng = random.Random(_number(f"{kind}/{gold.text}"))
    answers = [
        answer for answer in dict.fromkeys(generator(gold.text, rng)) if answer != gold.text and _is_balanced(answer)
    ]
    return rng.sample(answers, min(len(answers), MAX_OF_GOLD))


def _is_balanced(text: str) -> bool:
    """Whether its braces close, so that the box holds all of it."""
    depth = 0
    for brace in re.findall(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    return depth == 0 and not text.endswith("\\")


def _level(sizes: Sequence[int], num: int) -> int:
    """The largest number of each kind at which all together are no more than `num`; at least one."""
    level = 1
    while sum(min(size, level + 1) for size in sizes) <= num and level < max(sizes, default=0):
        level += 1
    return level


# ---------------------------------------------------------------- verdicts


def _judged(cases: Sequence[Case], name: str) -> list[Verdict]:
    verdicts: list[Verdict] = []
    with Judge(requires_thinking=False) as judge:
        for batch in _batches(cases, name):
            verdicts += judge.verify([(f"\\boxed{{{case.answer}}}", case.gold.problem) for case in batch])
    return verdicts


def _by_math_verify(cases: Sequence[Case], num: int) -> dict[int, bool]:
    """Whether Math-Verify by itself takes a sample of the cases, by their place."""
    places = sorted(random.Random(0).sample(range(len(cases)), min(num, len(cases))))
    found: list[bool] = []
    for batch in _batches([cases[place] for place in places], "by Math-Verify"):
        found += equal_pairs([(case.gold.problem.answer, case.answer) for case in batch])
    return dict(zip(places, found, strict=True))


def _batches(cases: Sequence[Case], name: str) -> Iterator[Sequence[Case]]:
    """Some hundreds at a time; the rate and the time left go to standard error."""
    started = time.monotonic()
    for start in range(0, len(cases), BATCH):
        yield cases[start : start + BATCH]
        done = min(start + BATCH, len(cases))
        rate = done / max(time.monotonic() - started, 1e-6)
        _say(f"{name}: {done} of {len(cases)}, {rate:.0f}/s, {(len(cases) - done) / rate:.0f} s left")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


# ---------------------------------------------------------------- tables


def _rows(cases: Sequence[Case], verdicts: Sequence[Verdict], peer: Mapping[int, bool]) -> list[dict]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        places[case.kind].append(place)
    rows = [_row(kind, where, verdicts, peer) for kind, where in sorted(places.items())]
    return [*rows, _row("all", range(len(cases)), verdicts, peer)]


def _row(kind: str, places: Sequence[int], verdicts: Sequence[Verdict], peer: Mapping[int, bool]) -> dict:
    accepted = sum(verdicts[place].status == "correct" for place in places)
    asked = [peer[place] for place in places if place in peer]
    return {
        "kind": kind,
        "number": len(places),
        "accepted": accepted,
        "share": f"{accepted / len(places):.2%}",
        "Math-Verify: number": len(asked),
        "accepted by it": sum(asked),
        "its share": f"{sum(asked) / len(asked):.2%}" if asked else "",
    }


def _written(cases: Mapping[str, Sequence[Case]], judged: Mapping[str, Sequence[Verdict]]) -> Path:
    """Every accepted mutant and refused rewriting as a line of JSON."""
    named = os.environ.get("RING_MUTATIONS_OUT")
    path = Path(named) if named else Path(tempfile.mkdtemp(prefix="mutations-")) / "failures.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for name, wanted in (("mutants", False), ("rewritings", True)):
            for case, verdict in zip(cases[name], judged[name], strict=True):
                if (verdict.status == "correct") != wanted:
                    row = {"side": name, "kind": case.kind, "gold": case.gold.problem.answer, "answer": case.answer,
                           "status": verdict.status, "reason": verdict.reason, "id": case.gold.problem.id}  # fmt: skip
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path
