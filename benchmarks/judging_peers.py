r"""The tests of other graders, given to ours: how often it says what their authors expect.

`python -m benchmarks judging_peers`. The tests are read by `ast` and never run; none is kept in this repository. They come from
the source distributions of the packages below, fetched with pip, or from the folder `RING_PEER_TESTS`: what lies there unpacked
(as `<folder>/math_verify-0.9.0/tests/test_all.py`, or a file that pip has not, as NeMo-Skills' `test_math_equal.py`) is not
fetched. `RING_PEER_OUT` names the file for the pairs that differ. Of a gold counts what stands in its boxes or between
its dollars; a prediction without a box gets one around what stands between its last dollars, for ours reads nothing else.
"""

import ast
import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from data.domains import Judge, Policy
from data.domains.extraction import final_boxes
from data.domains.verdict import Verdict
from data.schema import Problem
from flows.tables import rows_table


@dataclass(frozen=True, slots=True)
class Peer:
    """A grader and where in its tests the pairs stand."""

    requirement: str  # of pip; empty where no source distribution has the tests
    files: str  # glob
    calls: Mapping[
        str, tuple[int, int]
    ]  # grading function -> place of the gold and of the prediction among its arguments


@dataclass(frozen=True, slots=True)
class Pair:
    """A gold, a prediction and whether the authors call it right; `options` are those of their grader."""

    gold: str
    prediction: str
    expected: bool
    options: str
    where: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call of the grading function in a test."""

    gold: Any
    prediction: Any
    options: str


PEERS = {
    "Math-Verify 0.9.0": Peer(
        "math-verify==0.9.0", "math_verify-*/tests/test_*.py", {"compare_strings": (0, 1), "verify": (0, 1)}
    ),
    "lm-eval 0.4.13": Peer("lm_eval==0.4.13", "lm_eval-*/tests/test_minerva_math.py", {"is_equiv": (1, 0)}),
    "tinker-cookbook 0.6.1": Peer(
        "tinker-cookbook==0.6.1",
        "tinker_cookbook-*/tinker_cookbook/recipes/math_rl/math_env_test.py",
        {"grade_answer": (1, 0)},
    ),
    "NeMo-Skills": Peer("", "**/test_math_equal*.py", {"math_equal": (1, 0), "verify_answer": (1, 0)}),
}
_OPEN = {"parse", "normalize", "norm", "str"}  # calls that stand for their first argument
_DOLLARS = re.compile(
    r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|(?<!\\)\$([^\n]+?)(?<!\\)\$|\\\[(.+?)\\\]|\\\(([^\n]+?)\\\)", re.DOTALL
)
_SAID = re.compile(r"\b(?:is|it's|by|are|Sphere)\s+(-?\d[\d,./]*\d|\d)(?=%?(?:\.?(?:\s|$)|€|m²|%))")
_JOINING = re.compile(r"(?:[\s,;.]|and|or)*")


def _verdict(judge: Judge, pair: Pair) -> Verdict:
    """Under the precision that the authors ask for: to so many places a decimal may stand for what it rounds."""
    precision = re.search(r"precision=(\d+)", pair.options)
    if precision is None:
        return judge.verify([_asked(pair)])[0]
    with Judge(requires_thinking=False, policy=Policy(rounded_places=int(precision[1]))) as other:
        return other.verify([_asked(pair)])[0]


def main() -> None:
    """Print how many pairs of each peer come out as expected, and the others."""
    console = Console(width=160)
    given = os.environ.get("RING_PEER_TESTS", "")
    rows, failures = [], []
    with tempfile.TemporaryDirectory() as fetched, Judge(requires_thinking=False) as judge:
        for name, peer in PEERS.items():
            files = _files(peer, [Path(given)] if given else [], Path(fetched))
            pairs = list(dict.fromkeys(pair for file in files for pair in pairs_of(file, peer.calls)))
            if not pairs:
                console.print(f"{name}: no tests; put them into the folder that RING_PEER_TESTS names")
                continue
            verdicts = [_verdict(judge, pair) for pair in pairs]
            missed = [
                (pair, verdict) for pair, verdict in zip(pairs, verdicts, strict=True) if not _agrees(pair, verdict)
            ]
            rows.append(_row(name, pairs, missed))
            failures += [_failure(name, pair, verdict) for pair, verdict in missed]
    console.print(rows_table(rows, title="pairs of other graders' tests"))
    for line in failures:
        console.print(json.dumps(line, ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)
    if out := os.environ.get("RING_PEER_OUT"):
        Path(out).write_text(
            "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in failures), encoding="utf-8"
        )
    print("; ".join(f"{row['peer']}: {row['as expected']} of {row['pairs']} as expected" for row in rows))


def _row(name: str, pairs: Sequence[Pair], missed: Sequence[tuple[Pair, Verdict]]) -> dict:
    return {
        "peer": name,
        "pairs": len(pairs),
        "as expected": len(pairs) - len(missed),
        "share": f"{1 - len(missed) / len(pairs):.1%}",
        "expected right, refused": sum(pair.expected for pair, _ in missed),
        "expected wrong, accepted": sum(not pair.expected for pair, _ in missed),
        "of these with options": sum(bool(pair.options) for pair, _ in missed),
    }


def _failure(name: str, pair: Pair, verdict: Verdict) -> dict:
    return {
        "peer": name, "gold": pair.gold, "prediction": pair.prediction, "expected": pair.expected, "got": verdict.status,
        "reason": verdict.reason, "options": pair.options, "where": pair.where,
    }  # fmt: skip


def _agrees(pair: Pair, verdict: Verdict) -> bool:
    return (verdict.status == "correct") == pair.expected


def _asked(pair: Pair) -> tuple[str, Problem]:
    response = pair.prediction if "\\boxed" in pair.prediction else f"\\boxed{{{_answer_of(pair.prediction)}}}"
    return response, Problem(pair.where, "math", "eval", "", gold_of(pair.gold))


def _answer_of(text: str) -> str:
    """Of a prediction without a box: what stands last between dollars, or a plain value behind the last "is" where that comes later."""
    formulas, values = list(_DOLLARS.finditer(text)), list(_SAID.finditer(text))
    if values and (not formulas or values[-1].start() > formulas[-1].start()):
        return values[-1][1]
    return _formulas(text)[-1]


def gold_of(text: str) -> str:
    """All boxes; else what stands between dollars, of several the last unless nothing but commas and words as "and" joins them."""
    if boxes := final_boxes(text):
        return ", ".join(boxes)
    formulas = _formulas(text)
    return ", ".join(formulas) if _JOINING.fullmatch(_DOLLARS.sub("", text)) else formulas[-1]


def _formulas(text: str) -> list[str]:
    """What stands between dollars, else the whole text."""
    return [next(filter(None, match.groups())).strip() for match in _DOLLARS.finditer(text)] or [text.strip()]


# ---------------------------------------------------------------- files


def _files(peer: Peer, folders: Sequence[Path], fetched: Path) -> list[Path]:
    """The test files of a peer, from the folders that were given, else by pip."""
    found = [file for folder in folders for file in sorted(folder.glob(peer.files))]
    if not found and peer.requirement:
        _fetch(peer.requirement, fetched)
        found = sorted(fetched.glob(peer.files))
    return found


def _fetch(requirement: str, folder: Path) -> None:
    """Download and unpack a source distribution; that it cannot be had is said, and leaves the peer out."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        ":all:",
        requirement,
        "-d",
        str(folder),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(f"{requirement} could not be fetched: {done.stderr.strip().splitlines()[-1:]}\n")
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        archive.unlink()


# ---------------------------------------------------------------- pairs


def pairs_of(file: Path, calls: Mapping[str, tuple[int, int]]) -> Iterator[Pair]:
    """Every assertion about a grading function whose arguments are literals or parameters of the test."""
    for test in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test"):
            for given in _parameters(test):
                for asked, expected in _asserted(test.body, dict(given), calls):
                    if isinstance(asked.gold, str | int | float) and isinstance(asked.prediction, str | int | float):
                        yield Pair(
                            str(asked.gold), str(asked.prediction), expected, asked.options, f"{file.name}:{test.name}"
                        )


def _parameters(test: ast.FunctionDef) -> Iterator[Mapping[str, Any]]:
    """One mapping for each row of `pytest.mark.parametrize`, of several in all combinations; an empty one without."""
    tables = [
        _table(mark)
        for mark in test.decorator_list
        if isinstance(mark, ast.Call) and "parametrize" in ast.unparse(mark.func)
    ]
    for rows in itertools.product(*tables):
        yield {name: value for row in rows for name, value in row.items()}


def _table(mark: ast.Call) -> list[dict[str, Any]]:
    names = _value(mark.args[0], {}, {})
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    rows = [_cells(row, len(names)) for row in getattr(mark.args[1], "elts", [])]
    return [dict(zip(names, row, strict=True)) for row in rows if row is not None and len(row) == len(names)]


def _cells(row: ast.expr, num: int) -> list[Any] | None:
    """The values of a row, which may be a tuple, a single literal or `pytest.param(...)`; None where they are no literals."""
    several = num > 1 and isinstance(row, ast.Tuple | ast.List)
    cells = row.args if isinstance(row, ast.Call) else row.elts if several else [row]
    try:
        return [_value(cell, {}, {}) for cell in cells]
    except ValueError:
        return None


def _asserted(
    body: Sequence[ast.stmt], known: dict[str, Any], calls: Mapping[str, tuple[int, int]]
) -> Iterator[tuple[_Asked, bool]]:
    """What is asked and expected, statement by statement; results that were given a name are followed."""
    for statement in body:
        if isinstance(statement, ast.Assert):
            if (found := _expectation(statement.test, known, calls)) is not None:
                yield found
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            known[statement.targets[0].id] = _try_value(statement.value, known, calls)


def _expectation(
    test: ast.expr, known: Mapping[str, Any], calls: Mapping[str, tuple[int, int]]
) -> tuple[_Asked, bool] | None:
    """`assert f(...)`, `assert not f(...)`, `assert f(...) == expected`, `assert f(...) is True`."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        found = _expectation(test.operand, known, calls)
        return None if found is None else (found[0], not found[1])
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq | ast.Is):
        asked, wanted = _try_value(test.left, known, calls), _try_value(test.comparators[0], known, calls)
        return (asked, bool(wanted)) if isinstance(asked, _Asked) and isinstance(wanted, bool | int | float) else None
    asked = _try_value(test, known, calls)
    return (asked, True) if isinstance(asked, _Asked) else None


def _try_value(node: ast.expr, known: Mapping[str, Any], calls: Mapping[str, tuple[int, int]]) -> Any:
    try:
        return _value(node, known, calls)
    except ValueError:
        return None


def _value(node: ast.expr, known: Mapping[str, Any], calls: Mapping[str, tuple[int, int]]) -> Any:
    """A literal, a parameter, an item of one, a quotient of numbers, or a call of the grader.

    Raises:
        ValueError: it is something else.

    """
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, ast.Subscript):
        return _value(node.value, known, calls)[ast.literal_eval(node.slice)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _value(node.left, known, calls) / _value(node.right, known, calls)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _called(node, known, calls)
    if isinstance(node, ast.Tuple):
        return tuple(_value(part, known, calls) for part in node.elts)
    return ast.literal_eval(node)


def _called(node: ast.Call, known: Mapping[str, Any], calls: Mapping[str, tuple[int, int]]) -> Any:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in calls:
        gold, prediction = (_value(node.args[place], known, calls) for place in calls[name])
        return _Asked(gold, prediction, _options(node, known))
    if name in _OPEN or name in ("int", "bool"):
        return _value(node.args[0], known, calls)
    raise ValueError(f"a call of {name}")


def _options(node: ast.Call, known: Mapping[str, Any]) -> str:
    """The options of the peer's grader that are not its defaults; ours has none of them."""
    given = {word.arg: _try_value(word.value, known, {}) for word in node.keywords}
    usual = {"strict": True, "allow_set_relation_comp": False, "precision": 6, "match_types": ["latex", "expr"]}
    return ", ".join(f"{name}={value}" for name, value in given.items() if name in usual and value != usual[name])
