"""What de-duplication needs to know of a row: hashes of its text, and signs by which similar texts meet without comparing all pairs.

One table a batch, in the order of the rows: `raw` and `key` (hashes of the prompt, and of it after normalisation), `masked` (with one
sign for every number), `in_order` (its numbers and operators in order), `block` (its numbers in any order, and its answer), `answer`,
`gold` and `given` (of a row that is no code, its answer, and that with which its solution ends, else its answer), and `bands` (hashes of
MinHash bands over character 5-grams). 0 says: takes no part.
"""

import json
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from data.domains.extraction import final_answer
from data.schema import Problem, problems_from_table
from stages.config import Duplicates
from stages.curation.normalisation import answer_words, comparison_key, masked, numbers, stable_hash
from stages.sampling.workers import Worker

NUM_BANDS, BAND_ROWS = 32, 4  # two texts of Jaccard similarity .6 share a band with probability .988
_SEED = 20250616
_SHINGLE = 5  # characters
_LEAST_MASKED_WORDS = 6  # beside numbers; shorter texts are mostly numbers
_LEAST_NUMBERS = 3  # different ones that a block needs: with two, "x - y = 6, x + y = 12" meets "x - y = 12, x + y = 6"
_OPERATORS = frozenset(
    ("+", "-", "*", "/", "=", "<", ">", "<=", ">=", "!", "cup", "cap", "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log")
)  # fmt: skip
_OF_A_VALUE = frozenset(
    ("-", "^", "!", "pi", "infty", "e", "i", "sqrt", "sin", "cos", "tan", "log")
)  # beside its numbers
_FUNCTIONS = {"ln": "log", "lg": "log"}  # texts differ in how they write it
_CHECKED = re.compile(r"^check\((?:.*\.)?(\w+)\)\s*$", re.MULTILINE)  # `check(Solution().name)`
_CALLED = re.compile(r"\bassert\s+\(*\s*(?:not\s+)?([A-Za-z_]\w*)\s*\(")
_DEFINED = re.compile(r"^\s*def\s+(?!__)(\w+)", re.MULTILINE)
_FIELDS = ("raw", "key", "masked", "in_order", "block", "answer", "gold", "given")
SCHEMA = pa.schema([*((name, pa.uint64()) for name in _FIELDS), ("bands", pa.list_(pa.uint32(), NUM_BANDS))])


def shingles(key: str) -> set[str]:
    """Character 5-grams of a normalised text; a shorter text is one."""
    return {key[start : start + _SHINGLE] for start in range(max(1, len(key) - _SHINGLE + 1))}


def sketch(_worker: Worker, task: tuple[pa.Table, Duplicates]) -> pa.Table:
    """Sketches of a batch. Generated rows take part by `raw` and `key` alone: the templates of a generator are all alike."""
    batch, rule = task
    if not len(batch):
        return SCHEMA.empty_table()
    problems = problems_from_table(batch)
    keys = [comparison_key(problem.prompt) for problem in problems]
    is_compared = [not generated for generated in batch["generated"].to_pylist()]
    rows = [
        _hashes(problem, key)
        if compared
        else (stable_hash(problem.prompt), stable_hash(key), *[0] * (len(_FIELDS) - 2))
        for problem, key, compared in zip(problems, keys, is_compared, strict=True)
    ]
    columns = [pa.array(values, pa.uint64()) for values in zip(*rows, strict=True)]
    bands = _bands([key if compared and rule.near else "" for key, compared in zip(keys, is_compared, strict=True)])
    return pa.table([*columns, pa.FixedSizeListArray.from_arrays(bands.reshape(-1), NUM_BANDS)], schema=SCHEMA)


def _hashes(problem: Problem, key: str) -> tuple[int, ...]:
    tokens = key.split()
    found = numbers(tokens)
    without = masked(tokens)
    answer = answer_key(problem)
    is_block = bool(answer) and len(set(found)) >= _LEAST_NUMBERS
    return (
        stable_hash(problem.prompt),
        stable_hash(key),
        stable_hash(" ".join(without)) if len(tokens) - len(found) >= _LEAST_MASKED_WORDS else 0,
        stable_hash(" ".join(_in_order(tokens))),
        stable_hash(" ".join([problem.domain, answer, "|", *sorted(found)])) if is_block else 0,
        _hash(answer),
        *(
            (0, 0)
            if problem.domain == "code"
            else (_hash(answer), _hash(_key(final_answer(problem.solution) or "") or answer))
        ),
    )


def _in_order(tokens: Sequence[str]) -> Iterator[str]:
    """Numbers and operators."""
    for token in tokens:
        sign = _FUNCTIONS.get(token, token)
        if sign[0].isdigit() or sign in _OPERATORS:
            yield sign


def _hash(key: str) -> int:
    return stable_hash(key) if key else 0


def answer_key(problem: Problem) -> str:
    """What two spellings of an answer share: its numbers, constants and functions, or else its words; of code, the function that is called.

    Empty where there is neither.
    """
    return called_name(problem) if problem.domain == "code" else _key(problem.answer)


def _key(answer: str) -> str:
    tokens = [_FUNCTIONS.get(token, token) for token in answer_words(answer)]
    return " ".join(
        tokens if not numbers(tokens) else (token for token in tokens if token[0].isdigit() or token in _OF_A_VALUE)
    )


def called_name(problem: Problem) -> str:
    """The function that tests call, as they or the prompt name it; empty where they feed standard input."""
    try:
        tests = json.loads(problem.tests or "{}")
    except (ValueError, RecursionError):
        return ""
    if not isinstance(tests, dict) or tests.get("type") == "stdin":
        return ""
    if name := str(tests.get("entry_point") or tests.get("fn_name") or ""):
        return name
    check = str(tests.get("check", ""))
    for called in (_CHECKED.search(check), _CALLED.search(check)):
        if called and called[1] != "candidate":
            return called[1]
    return next(iter(_DEFINED.findall(problem.prompt)[::-1]), "")


def _bands(keys: Sequence[str]) -> np.ndarray:
    """One row of band hashes a text; zeros for an empty one."""
    bands = np.zeros((len(keys), NUM_BANDS), np.uint32)
    present = [row for row, key in enumerate(keys) if key]
    if present:
        from rensa import RMinHash  # ty: ignore  # an extension without stubs; needed only where near copies are looked for

        digests = RMinHash.digests_from_token_sets(
            [sorted(shingles(keys[row])) for row in present], NUM_BANDS * BAND_ROWS, _SEED
        )
        parts = np.array(digests, np.uint64).reshape(len(present), NUM_BANDS, BAND_ROWS)
        mixed = np.zeros(parts.shape[:2], np.uint64)
        for part in range(BAND_ROWS):
            mixed = (mixed ^ parts[:, :, part]) * np.uint64(0x9E3779B97F4A7C15)
        bands[present] = np.maximum(mixed >> np.uint64(32), 1)
    return bands
