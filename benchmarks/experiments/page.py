"""The page of an experiment: words by hand, and a generated part between two markers, which a command replaces."""

from collections.abc import Iterable, Sequence
from pathlib import Path

BEGIN, END = "<!-- begin: generated -->", "<!-- end: generated -->"
_NEW = """# {title}

## What is asked

The claim, where the paper makes it, and what would speak against it.

## What came out

In words, by whoever read the figures below. The command writes between its two markers alone.

{begin}
{end}
"""


def write_page(path: Path, lines: Iterable[str], *, title: str) -> None:
    """Put the lines between the markers; a page that is not there is made, with places for words.

    Raises ValueError for a page that has not both markers, each once and in order.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else _NEW.format(title=title, begin=BEGIN, end=END)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(replaced(text, lines, name=path.name), encoding="utf-8")


def replaced(text: str, lines: Iterable[str], *, name: str) -> str:
    """The page's text with other lines between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in before + after:
        raise ValueError(
            f"{name} must hold {BEGIN!r} and behind it {END!r}, each once: between them the figures go, the rest is yours"
        )
    return "\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"])


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [_line(titles), _line(["---"] * len(titles)), *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
