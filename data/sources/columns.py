r"""Which column of a file is which of ours: asked for, recognised by its name, or absent with a stated default.

In: the head of a file (`formats`) and what was asked for, our column -> theirs (a field of a nested one as `a.b`). For `domain`, `split`,
`source` and `licence`, which most files lack, a value that no column is called is the value of every row. Out: a `Reading`.

Names tell little about what stands there: the `answer` of GSM8K is worked and ends with `#### 42`, and a `solution` may be a bare number.
So the first rows decide: a solution column without a worked row is the answer, where nothing else is.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.schema import PROBLEM_COLUMNS
from data.sources.formats import Head, cell_text, field_of, read_head, stem_of

DOMAINS = ("math", "code", "science", "gym")
CONSTANTS = ("domain", "split", "source", "licence")
SPLITS = ("", "train", "traces", "base", "sft", "validation", "rl", "probe", "heldout", "eval")
UNKNOWN_LICENCE = "unknown"
_NAMES: dict[str, tuple[str, ...]] = {  # in lower case, best first
    "prompt": ("prompt", "question", "problem", "instruction", "query", "input"),
    "answer": (
        "answer",
        "final_answer",
        "expected_answer",
        "reference_answer",
        "ground_truth",
        "gold",
        "target",
        "label",
    ),
    "solution": ("solution", "reasoning", "rationale", "explanation", "cot", "output", "response", "completion"),
    "tests": ("tests",),
    "domain": ("domain",),
    "split": ("split",),
    "source": ("source",),
    "licence": ("licence", "license"),
    "id": ("id", "problem_id", "question_id", "unique_id", "task_id"),
    "meta": ("meta",),
}
_FORMS = {"domain": DOMAINS, "split": SPLITS}
_EXAMPLES = {"domain": "math", "split": "rl"}
_SHOWN = 12  # names in a message


@dataclass(frozen=True, slots=True)
class Reading:
    """How one file is read. `is_uniform`: it has all our columns, and its rows are taken as they stand."""

    columns: dict[str, str]  # ours -> theirs
    constants: dict[str, str]  # ours -> the value of every row
    read: tuple[str, ...]  # columns of the file
    unread: tuple[str, ...]
    is_uniform: bool

    def describe(self) -> str:
        """One line for people: what is which, what is not there and stands for it, what is not read."""
        given = [f"{ours} = {theirs}" for ours, theirs in self.columns.items()]
        stated = [f'{ours} "{value}"' for ours, value in self.constants.items() if value]
        if not ({"split"} & (self.columns.keys() | self.constants.keys())):
            stated.append("split by curation.splits")
        parts = [", ".join(given), f"for all rows: {', '.join(stated)}" if stated else ""]
        parts.append(f"not read: {', '.join(self.unread[:_SHOWN])}" if self.unread else "")
        return "; ".join(part for part in parts if part)


def is_worked(text: Any) -> bool:  # noqa: ANN401 - a cell of any type
    r"""Whether a cell looks like a solution that ends with its answer: it has a box, or a line `#### 42`."""
    shown = cell_text(text)
    return isinstance(shown, str | bytes) and any(mark in _decoded(shown) for mark in ("\\boxed", "\\fbox", "#### "))


def _decoded(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode(errors="replace")


def reading_of(path: Path, asked: Mapping[str, str]) -> Reading:
    """How the file is to be read.

    Raises ValueError for a file that cannot be, a column that is not there, and one that does not hold what it should.
    """
    head = read_head(path, enough=PROBLEM_COLUMNS)
    is_uniform = set(PROBLEM_COLUMNS) <= set(head.columns)
    columns, constants = _asked(asked, head, path)
    found = dict(zip(PROBLEM_COLUMNS, PROBLEM_COLUMNS, strict=True)) if is_uniform else _recognised(head, columns)
    columns = {**{ours: theirs for ours, theirs in found.items() if ours not in {*columns, *constants}}, **columns}
    if not is_uniform:
        _check(columns, head, path)
        constants = _defaults(columns, path) | constants
    read = {cell_path(theirs, head.columns)[0] for theirs in columns.values()}
    unread = tuple(name for name in head.columns if name not in read)
    ordered = {ours: columns[ours] for ours in PROBLEM_COLUMNS if ours in columns}
    return Reading(ordered, constants, tuple(sorted(read)), unread, is_uniform)


def cell_path(theirs: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Column and fields of a dotted name; a column that is called so itself comes first."""
    parts = theirs.split(".")
    for length in range(len(parts), 0, -1):
        if (column := ".".join(parts[:length])) in columns:
            return (column, *parts[length:])
    return (theirs,)


def _asked(asked: Mapping[str, str], head: Head, path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Columns and values that were asked for by name."""
    columns, constants = {}, {}
    for ours, theirs in asked.items():
        if ours not in PROBLEM_COLUMNS:
            raise ValueError(
                f"columns: {ours!r} is none of ours{_near(ours, PROBLEM_COLUMNS)}: {', '.join(PROBLEM_COLUMNS)}"
            )
        if theirs in head.names:
            columns[ours] = theirs
        elif ours in CONSTANTS:
            constants[ours] = _constant(ours, theirs, head, path)
        else:
            raise ValueError(
                f"{path}: has no column {theirs!r} for the {ours}{_near(theirs, head.names)} {_has(head)};"
                f" change --columns {ours}=..., or `columns` of the recipe"
            )
    return columns, constants


def _constant(ours: str, value: str, head: Head, path: Path) -> str:
    if ours in _FORMS and value not in _FORMS[ours]:
        raise ValueError(
            f"{path}: {ours} = {value!r} is neither a column{_near(value, head.names)} {_has(head)};"
            f" nor one of {_listed(_FORMS[ours])}, which would be that of every row"
        )
    return value


def _recognised(head: Head, asked: Mapping[str, str]) -> dict[str, str]:
    """Our columns by the names that people give them, without what was asked for."""
    taken, found = set(asked.values()), {}
    spelled = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in reversed(head.columns)}
    for ours, names in _NAMES.items():
        theirs = next((spelled[name] for name in names if name in spelled and spelled[name] not in taken), None)
        if ours not in asked and theirs is not None:
            found[ours] = theirs
            taken.add(theirs)
    solution, has_answer = found.get("solution"), bool({"answer", "tests"} & {*found, *asked})
    if solution and not has_answer and not any(map(is_worked, _values(solution, head))):
        found["answer"] = found.pop("solution")
    return found


def _values(theirs: str, head: Head) -> list[Any]:
    column, *fields = cell_path(theirs, head.columns)
    return [field_of(value, fields) for value in head.rows.get(column, [])]


def _defaults(columns: Mapping[str, str], path: Path) -> dict[str, str]:
    is_code = "tests" in columns and "answer" not in columns
    stated = {"domain": "code" if is_code else "math", "source": stem_of(path), "licence": UNKNOWN_LICENCE}
    return {ours: value for ours, value in stated.items() if ours not in columns}


def _check(columns: Mapping[str, str], head: Head, path: Path) -> None:
    if "prompt" not in columns:
        raise ValueError(
            f"{path}: no column is known as the prompt ({', '.join(_NAMES['prompt'])}) {_has(head)};"
            " name it: --columns prompt=...; if the first line holds no names, put a line such as `question,answer` before it"
        )
    if not {"answer", "solution", "tests"} & set(columns):
        raise ValueError(
            f"{path}: no column is known as the answer ({', '.join(_NAMES['answer'])}), the solution or the tests"
            f" {_has(head)}; name it: --columns answer=..."
        )
    for ours in ("prompt", "answer", "solution"):
        if ours in columns and (nested := next((v for v in _values(columns[ours], head) if isinstance(v, dict)), None)):
            raise ValueError(
                f"{path}: the column {columns[ours]!r} for the {ours} holds records with {', '.join(nested)};"
                f" name a field: --columns {ours}={columns[ours]}.{next(iter(nested))}"
            )
    for ours, known in _FORMS.items():
        _check_form(ours, known, columns, head, path)


def _check_form(ours: str, known: Sequence[str], columns: Mapping[str, str], head: Head, path: Path) -> None:
    """A column of which no value in the head is known is another one, or spelled otherwise; single rows are dropped and counted."""
    found = [_decoded(cell_text(value) or "") for value in _values(columns[ours], head)] if ours in columns else []
    if found and not set(found) & set(known):
        raise ValueError(
            f"{path}: the column {columns[ours]!r} holds {found[0]!r}, known as {ours} are {_listed(known)};"
            f" change it, or state one for all rows: --columns {ours}={_EXAMPLES[ours]}"
        )


def _listed(known: Sequence[str]) -> str:
    return ", ".join(filter(None, known))


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), {n.lower(): n for n in known}, n=1, cutoff=0.5)
    return f"; did you mean {next(n for n in known if n.lower() == near[0])!r}?" if near else ""


def _has(head: Head) -> str:
    more = f" and {len(head.names) - _SHOWN} more" if len(head.names) > _SHOWN else ""
    return f"among {', '.join(repr(name) for name in head.names[:_SHOWN])}{more}"
