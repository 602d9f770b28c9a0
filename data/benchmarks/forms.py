r"""Rows of benchmarks in the form in which their authors publish them, as problems of ours.

In: one row, field -> value, as `data/sources/formats.py` or `datasets` reads it. Out: a `Problem` with split `eval`. A row that cannot be
one is refused with what is wrong; the caller adds which row it is.

Nothing is unpickled here. LiveCodeBench packs its private tests as base64 of zlib of a pickle, in which stands one JSON text: that text is
read from the listing of the pickle's instructions (`pickletools`), which carries none of them out, and a pickle with anything else is
refused.
"""

import base64
import hashlib
import json
import pickletools
import random
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data.benchmarks.catalogue import Benchmark
from data.domains.extraction import final_answer
from data.schema import Problem
from data.sources.columns import is_worked
from data.sources.formats import cell_text

SEED = 0  # of the order of choices
MAX_TESTS_BYTES = 512_000_000  # of the packed tests of one problem, unpacked

Row = Mapping[str, Any]
Texts = dict[str, str]  # column of ours -> text

_LETTERS = "ABCDEFGH"
_LETTER = re.compile(r"[A-H]")
_CALL_NOTE = "\n\nComplete this starter code:\n```python\n{code}\n```"
_STDIN_NOTE = "\n\nThe program reads from standard input and writes to standard output."


def problem_of(row: Row, benchmark: Benchmark, number: int) -> Problem:
    """The problem of a row; `number` counts from 0 and is its id where the set gives none.

    Raises ValueError for a row that lacks a field, or holds none of the form.
    """
    texts = FORMS[benchmark.form](row)
    own = texts.pop("id", "") or str(number)
    if not texts["prompt"].strip():
        raise ValueError("the question is empty")
    if not (texts.get("answer", "") + texts.get("tests", "")).strip():
        raise ValueError("there is neither an answer nor a test")
    given = {"domain": benchmark.domain, "split": "eval", "source": benchmark.name, "licence": benchmark.licence}
    return Problem(id=f"{benchmark.name}/{own}", **{**given, **texts})


def _text(row: Row, *names: str, optional: bool = False) -> str:
    """The first of these fields that is there, as text. Raises ValueError where none is, unless it is optional."""
    for name in names:
        if row.get(name) is not None:
            text = cell_text(row[name])
            return text.decode() if isinstance(text, bytes) else text or ""
    if optional:
        return ""
    raise ValueError(f"has no field {' or '.join(map(repr, names))}; it has {', '.join(row) or 'nothing'}")


def _meta(row: Row, *names: str) -> str:
    """Those fields that are there, as JSON."""
    return json.dumps({name: row[name] for name in names if row.get(name) is not None}, ensure_ascii=False, default=str)


def _values(value: Any) -> list[Any]:  # noqa: ANN401 - a cell
    return list(value) if isinstance(value, list | tuple) else [value]


# ---------------------------------------------------------------- mathematics


def _question(row: Row) -> Texts:
    """A question and an answer under their usual names, as MATH-500, AIME, LiveMathBench and GSM8K have them."""
    answer = _text(row, "answer_number", "final_answer", "answer", "Answer")
    solution = _text(row, "solution", "Solution", optional=True)
    if is_worked(answer) and (final := final_answer(answer)):
        answer, solution = final, solution or answer
    return {
        "id": _text(row, "unique_id", "id", "problem_idx", "ID", optional=True),
        "prompt": _text(row, "problem", "Problem", "question", "Question"),
        "answer": answer,
        "solution": solution,
        "meta": _meta(row, "subject", "level", "year", "url", "question_type", "Answer_type"),
    }


def _olympiadbench(row: Row) -> Texts:
    """`final_answer` is a list of one text, in which commas part the answers where there are several."""
    finals = [str(value) for value in _values(row.get("final_answer")) if value is not None]
    if not finals:
        raise ValueError("has no 'final_answer': it asks for a proof")
    meta = {
        "answer_type": row.get("answer_type"),
        "multiple": row.get("is_multiple_answer"),
        "subfield": row.get("subfield"),
    }
    return {
        "id": _text(row, "id"),
        "prompt": _text(row, "question"),
        "answer": ", ".join(final.strip().strip("$") for final in finals)
        if len(finals) > 1
        else finals[0].strip().strip("$"),
        "solution": "\n\n".join(str(part) for part in _values(row.get("solution") or "")),
        "meta": json.dumps({name: value for name, value in meta.items() if value is not None}, ensure_ascii=False),
    }


def _gaokao(row: Row) -> Texts:
    """A question of an exam with the points it gives; the letters of a choice come as a list or as one text."""
    answers = [str(value).strip() for value in _values(row.get("answer")) if value is not None]
    is_choice = bool(answers) and all(_LETTER.fullmatch(letter) for letter in "".join(answers))
    points = row.get("score", row.get("points"))
    if isinstance(points, bool) or not isinstance(points, int | float) or not points > 0:
        raise ValueError(f"'score' is {points!r}; needed is the number of points that the question gives")
    meta = {name: row[name] for name in ("year", "subject", "kind", "partial") if row.get(name) is not None}
    paper = row.get("paper", row.get("category"))
    return {
        "id": _text(row, "id", "index", optional=True),
        "prompt": _text(row, "question", "problem"),
        "answer": "".join(sorted(set("".join(answers)))) if is_choice else "; ".join(answers),
        "solution": _text(row, "analysis", "solution", optional=True),
        "meta": json.dumps({"score": points, **meta, **({"paper": paper} if paper else {})}, ensure_ascii=False),
    }


# ---------------------------------------------------------------- choices


def _gpqa(row: Row) -> Texts:
    """A question and its choices, in an order that follows from SEED and the question."""
    question, right = _text(row, "Question").strip(), _text(row, "Correct Answer").strip()
    choices = [right, *(_text(row, f"Incorrect Answer {number}").strip() for number in (1, 2, 3))]
    if len(set(choices)) < len(choices):
        raise ValueError("two of the choices are the same")
    digest = hashlib.sha256(f"{SEED}\0{question}".encode()).digest()
    random.Random(int.from_bytes(digest[:8], "big")).shuffle(choices)
    return {
        "id": _text(row, "Record ID", optional=True),
        "prompt": "\n".join(
            [question, "", *(f"({letter}) {choice}" for letter, choice in zip(_LETTERS, choices, strict=False))]
        ),
        "answer": _LETTERS[choices.index(right)],
        "solution": _text(row, "Explanation", optional=True),
        "meta": _meta(row, "High-level domain", "Subdomain"),
    }


# ---------------------------------------------------------------- code


def _livecodebench(row: Row) -> Texts:
    cases = [*_cases(row, "public_test_cases"), *_cases(row, "private_test_cases")]
    kinds = {case.get("testtype", "stdin") for case in cases}
    if not cases or kinds - {"stdin", "functional"} or len(kinds) > 1:
        raise ValueError(
            f"the tests are of the types {sorted(map(str, kinds))}; needed are tests, all 'stdin' or all 'functional'"
        )
    starter = _text(row, "starter_code", optional=True)
    pairs = {"inputs": [case["input"] for case in cases], "outputs": [case["output"] for case in cases]}
    if kinds == {"functional"}:
        tests = {"type": "functional", "function": _function(row), **pairs}
        note = _CALL_NOTE.format(code=starter.strip())
    else:
        tests, note = {"type": "stdin", **pairs}, _STDIN_NOTE
    return {
        "id": _text(row, "question_id"),
        "prompt": _text(row, "question_content").strip() + note,
        "tests": json.dumps(tests, ensure_ascii=False),
        "meta": _meta(row, "platform", "contest_id", "contest_date", "difficulty"),
    }


def _function(row: Row) -> str:
    """The name of the function that functional tests call."""
    meta = row.get("metadata") or {}
    meta = json.loads(meta) if isinstance(meta, str) else meta
    name = meta.get("func_name") if isinstance(meta, dict) else None
    if not name:
        raise ValueError("has functional tests, and no 'func_name' in its 'metadata'")
    return str(name)


def _cases(row: Row, name: str) -> list[dict[str, Any]]:
    """Test cases: a list, its JSON, or JSON packed as LiveCodeBench does. Raises ValueError for anything else."""
    value = row.get(name)
    if value is None:
        raise ValueError(f"has no field {name!r}; it has {', '.join(row)}")
    if isinstance(value, str):
        text = value if value.lstrip().startswith("[") or not value.strip() else _unpacked(value, name)
        try:
            value = json.loads(text or "[]")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name!r} is no JSON: {error}") from error
    if not isinstance(value, list) or not all(
        isinstance(case, dict) and {"input", "output"} <= case.keys() for case in value
    ):
        raise ValueError(f"{name!r} is no list of records with 'input' and 'output'")
    return value


def _unpacked(text: str, name: str) -> str:
    """The JSON text in base64 of zlib of a pickle that holds one text."""
    try:
        inflate = zlib.decompressobj()
        pickled = inflate.decompress(base64.b64decode(text, validate=True), MAX_TESTS_BYTES)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{name!r} is neither JSON nor JSON packed as base64 of zlib of a pickle: {error}") from error
    if inflate.unconsumed_tail:
        raise ValueError(f"{name!r} is larger than {MAX_TESTS_BYTES:,} bytes when unpacked")
    return _only_text(pickled, name)


def _only_text(pickled: bytes, name: str) -> str:
    """The text that a pickle of one text holds; its instructions are listed, none is carried out."""
    try:
        listed = [(code.name, argument) for code, argument, _ in pickletools.genops(pickled)]
    except (ValueError, IndexError) as error:
        raise ValueError(f"{name!r}: the packed tests are damaged: {error}") from error
    texts = [str(argument) for code, argument in listed if code in _TEXT_CODES]
    others = sorted({code for code, _ in listed} - _TEXT_CODES - _IDLE_CODES)
    if others or len(texts) != 1:
        raise ValueError(
            f"{name!r}: the packed tests are a pickle of something else than one JSON text ({', '.join(others) or f'{len(texts)} texts'}),"
            " which is never unpickled here: convert them to JSON yourself if you trust them"
        )
    return texts[0]


_TEXT_CODES = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_IDLE_CODES = frozenset({"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "STOP"})


def _codeelo(row: Row) -> Texts:
    """A problem of a contest; its examples are its only tests, the site's own are not published."""
    own = re.fullmatch(r"(\d+)([A-Z]\d?)", _text(row, "problem_id"))
    if own is None:
        raise ValueError(f"'problem_id' is {row.get('problem_id')!r}; needed is one such as 2000A")
    examples = [(str(example[0]), str(example[1])) for example in _examples(row)]
    parts = [
        ("", "description"),
        ("Input", "input"),
        ("Output", "output"),
        ("Interaction", "interaction"),
        ("Note", "note"),
    ]
    told = [(title, _text(row, name, optional=True).strip()) for title, name in parts]
    shown = [f"Example\nInput:\n{given}\nOutput:\n{output}" for given, output in examples]
    texts = [f"{title}\n{text}" if title else text for title, text in told if text]
    return {
        "id": own[0],
        "prompt": "\n\n".join([*texts, *shown]) + _STDIN_NOTE,
        "tests": json.dumps(
            {"type": "stdin", "inputs": [e[0] for e in examples], "outputs": [e[1] for e in examples]},
            ensure_ascii=False,
        ),
        "meta": json.dumps(
            {
                "contest": own[1],
                "index": own[2],
                "sample_tests_only": True,
                "rating": row.get("rating"),
                "div": row.get("div"),
            }
        ),
    }


def _examples(row: Row) -> Sequence[Sequence[Any]]:
    examples = row.get("examples") or []
    if not all(isinstance(example, list | tuple) and len(example) == 2 for example in examples):
        raise ValueError("'examples' is no list of pairs of input and output")
    return examples


FORMS: dict[str, Callable[[Row], Texts]] = {
    "question": _question,
    "olympiadbench": _olympiadbench,
    "gaokao": _gaokao,
    "gpqa": _gpqa,
    "livecodebench": _livecodebench,
    "codeelo": _codeelo,
}
