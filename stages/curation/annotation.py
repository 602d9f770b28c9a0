"""Annotation (paper 2.3): what a row is about, for whom, in which language, how long; and the licence filter.

The annotations of a row of a file or data set stand in its `meta` under `annotations`: `subject` (see `subjects`; of mathematics
alone), `level`, `language`, `characters`. Generated rows say all of that by their source and keep their `meta` as it is.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from data.schema import Problem, problems_from_table
from stages.config import CurationConfig
from stages.curation.language import language_of
from stages.curation.pool import Drop, Sifted
from stages.curation.subjects import SUBJECTS, subject_of
from stages.sampling.workers import Worker

NAME = "annotation"
KEY = "annotations"
_NON_COMMERCIAL = re.compile(
    r"(?<![a-z])NC(?![a-z])|non[-_\s]?commercial|no money charged|(?:research|academic) (?:use |purposes? )?only",
    re.IGNORECASE,
)
_LEVELS: tuple[tuple[str, str], ...] = (  # by the name of the set
    (r"gsm8k|cmath|mgsm", "primary"),
    (r"aime|amc|hmmt|olym|cn_math", "olympiad"),
    (r"gaokao|math500|math_train|math_test", "secondary"),
    (r"college|scibench|minerva|kaoyan|theoremqa", "college"),
    (r"physics_r1|graduate|phd", "graduate"),
)
_GRADES = ((6, "primary"), (12, "secondary"))


def annotate(_worker: Worker, task: tuple[pa.Table, CurationConfig]) -> Sifted:
    """Annotate the batch; drop what its licence keeps from commercial use where the recipe says so."""
    batch, config = task
    drops, metas = [], []
    generated = batch["generated"].to_pylist()
    for row, problem in enumerate(problems_from_table(batch)):
        if config.non_commercial == "drop" and (found := _NON_COMMERCIAL.search(problem.licence)):
            drops.append(Drop(row, "non-commercial licence", f"{found[0]!r} in {problem.licence[:160]!r}"))
        metas.append(problem.meta if generated[row] else _annotated(problem))
    return Sifted(drops, {"meta": metas})


def _annotated(problem: Problem) -> str:
    meta = read_meta(problem.meta)
    return with_notes(meta, annotations(problem, meta))


def with_notes(meta: dict[str, Any], notes: dict[str, Any]) -> str:
    """`meta` as text, with further annotations. What UTF-8 cannot hold (half a surrogate pair) stays escaped."""
    whole = {**meta, KEY: {**earlier_notes(meta), **notes}}
    text = json.dumps(whole, ensure_ascii=False, sort_keys=True)
    return text if _is_utf8(text) else json.dumps(whole, sort_keys=True)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def earlier_notes(meta: dict[str, Any]) -> dict[str, Any]:
    """What an earlier step, or an earlier curation, noted of the row."""
    notes = meta.get(KEY)
    return notes if isinstance(notes, dict) else {}


def read_annotations(metas: Sequence[str]) -> list[dict[str, Any]]:
    """The annotations of rows, from their `meta`, subjects by name; empty where there are none."""
    found = [earlier_notes(read_meta(meta)) if f'"{KEY}"' in meta else {} for meta in metas]
    return [{**notes, "subject": _named(notes["subject"])} if notes.get("subject") else notes for notes in found]


def _named(subject: object) -> str:
    return f"{subject} {SUBJECTS.get(str(subject), '')}".strip()


def read_meta(text: str) -> dict[str, Any]:
    """`meta` as an object; what is none is kept as it is written."""
    try:
        meta = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {"unparsed": text}
    return meta if isinstance(meta, dict) else {"unparsed": meta}


def annotations(problem: Problem, meta: dict[str, Any]) -> dict[str, Any]:
    """Subject, level, language and length."""
    return {
        "subject": subject_of(problem.prompt) if problem.domain == "math" else "",
        "level": _level(problem, meta),
        "language": language_of(problem.prompt),
        "characters": len(problem.prompt),
    }


def _level(problem: Problem, meta: dict[str, Any]) -> str:
    """For whom: by a school year in `meta`, by DeepMath's difficulty, or by the name of the set; empty where nothing says."""
    grade = meta.get("grade")
    if isinstance(grade, int):
        return next((level for last, level in _GRADES if grade <= last), "college")
    difficulty = meta.get("difficulty")
    if "deepmath" in problem.source and isinstance(difficulty, int | float):
        return "secondary" if difficulty < 4 else "college" if difficulty < 7 else "graduate"
    return next((level for pattern, level in _LEVELS if re.search(pattern, problem.source)), "")
