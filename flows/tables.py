"""Rows as a table that fits the terminal: no number, key or word is cut, and none is split that a line can hold.

What does not fit is folded: titles break between words, prose breaks between words, then the columns go into blocks one below
the other, each with the columns that name the row. Where not even one column fits beside those, each row is a list of names and values.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from flows.console import shown

_PROSE = 24  # characters from which a text with blanks may be broken between words
_GAP = 3  # between two columns: a blank, the box's, a blank


@dataclass(frozen=True, slots=True)
class Column:
    """A column as text."""

    name: str
    cells: tuple[str, ...]
    is_number: bool

    @property
    def least(self) -> int:
        """Width below which a word of it would be split."""
        cells = _words(self.cells) if self._is_prose else self.cells
        wanted = _widest([*cells, *_words([_title(self.name)])])
        return max(wanted, min(_PROSE, _widest(self.cells))) if self._is_prose else wanted

    @property
    def most(self) -> int:
        """Width that it can use."""
        return _widest([*self.cells, _title(self.name)])

    @property
    def _is_prose(self) -> bool:
        return not self.is_number and any(" " in cell and cell_len(cell) > _PROSE for cell in self.cells)


@dataclass(frozen=True, slots=True)
class RowsTable:
    """Rows of equal keys; the first `num_keys` columns name a row and stand in every block."""

    rows: Sequence[Mapping[str, Any]]
    title: str
    num_keys: int = 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        columns = [_column(name, self.rows) for name in self.rows[0]]
        if self.title:
            yield Text(shown(self.title), style="bold")
        for block in blocks(columns, num_keys=self.num_keys, width=options.max_width):
            if _width(block) <= options.max_width:
                yield self._table(block, width=options.max_width)
            else:
                yield from _records(block)
            yield Text("")

    def _table(self, columns: Sequence[Column], *, width: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        widths = _widths(columns, width=width)
        titles = [wrapped(_title(column.name), width=wide) for column, wide in zip(columns, widths, strict=True)]
        height = max(map(len, titles))
        for column, wide, lines in zip(columns, widths, titles, strict=True):
            header = Text("\n".join([""] * (height - len(lines)) + lines))
            table.add_column(header, width=wide, justify="right" if column.is_number else "left", overflow="fold")
        for number, row in enumerate(self.rows):
            style = "bold green" if row.get("chosen") is True else None
            table.add_row(*(Text(column.cells[number]) for column in columns), style=style)
        return table


def rows_table(rows: Sequence[Mapping[str, Any]], *, title: str, num_keys: int = 1) -> RowsTable:
    """Rows of equal keys as a table; numbers to the right. The first `num_keys` columns name a row."""
    return RowsTable(rows, title, num_keys)


def blocks(columns: Sequence[Column], *, num_keys: int, width: int) -> Iterator[list[Column]]:
    """Columns that fit side by side, each time after the ones that name a row."""
    keys, rest = list(columns[:num_keys]), list(columns[num_keys:])
    block = keys.copy()
    for column in rest:
        if len(block) > len(keys) and _width([*block, column]) > width:
            yield block
            block = keys.copy()
        block.append(column)
    yield block


def _width(columns: Sequence[Column]) -> int:
    return sum(column.least for column in columns) + _GAP * (len(columns) - 1)


def _widths(columns: Sequence[Column], *, width: int) -> list[int]:
    """The least widths, and what is left to those that can use it, from the left."""
    left = width - _width(columns)
    widths = []
    for column in columns:
        more = min(left, column.most - column.least)
        widths.append(column.least + more)
        left -= more
    return widths


def _records(columns: Sequence[Column]) -> Iterator[Text]:
    """Every row as lines of a name and a value; a word wider than the terminal goes on in the next line, so that nothing is lost."""
    for cells in zip(*(column.cells for column in columns), strict=True):
        for column, cell in zip(columns, cells, strict=True):
            yield Text(f"{column.name}: {cell}", overflow="fold")
        yield Text("")


def _column(name: str, rows: Sequence[Mapping[str, Any]]) -> Column:
    values = [row[name] for row in rows]
    there = [value for value in values if value is not None]
    is_number = bool(there) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in there)
    return Column(shown(name), tuple(shown(_cell(value)) for value in values), is_number)


def _cell(value: Any) -> str:  # noqa: ANN401 - any table value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _title(name: str) -> str:
    """A key as words: `validation_loss` may stand on two lines."""
    return name.replace("_", " ")


def _words(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in text.split()]


def _widest(texts: Iterable[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)


def wrapped(text: str, *, width: int, indent: str = "") -> list[str]:
    """Lines of whole words, those after the first indented; a word wider than the width stands alone and whole."""
    lines: list[str] = []
    for word in text.split():
        if lines and cell_len(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"{indent if lines else ''}{word}")
    return lines or [""]
