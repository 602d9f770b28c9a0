"""Texts of data sets, models and files as Markdown that shows them and does nothing else: no tag, link, image or further cell."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_ACTIVE = re.compile(r"[\\|`\[\]!<>&]")
_TAGS = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def plain(text: str) -> str:
    """One line of Markdown that reads as the text; line breaks become blanks."""
    return _ACTIVE.sub(lambda found: _TAGS.get(found[0], f"\\{found[0]}"), " ".join(text.split()))


def cell(value: Any, *, digits: str = ".4g") -> str:  # noqa: ANN401 - any table value
    """A value of a table; `digits` is the format of numbers with a fraction."""
    return plain(format(value, digits) if isinstance(value, float) else str(value))


def table(rows: Iterable[Mapping[str, Any]], *, digits: str = ".4g") -> Iterator[str]:
    """Rows of equal keys as lines of a Markdown table; nothing where there is no row."""
    for number, row in enumerate(rows):
        if not number:
            yield _line(map(cell, row))
            yield _line("---" for _ in row)
        yield _line(cell(value, digits=digits) for value in row.values())


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
