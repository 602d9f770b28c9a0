"""No key, number or word of a table is cut or split, however narrow the terminal is."""

import io
import re

import pytest
from rich.console import Console

from flows.ending import chain_tables
from flows.tables import RowsTable, rows_table, wrapped
from stages.records.artifact import Manifest, Store
from tests.flows.conftest import by_key

WIDTHS = [80, 60, 30]


def printed(table, *, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, color_system=None)
    console.print(table)
    return console.file.getvalue()


def words_of(table: RowsTable) -> set[str]:
    """Each word of the cells and of the titles, in which `_` counts as a blank."""
    cells = {word for row in table.rows for value in row.values() for word in as_text(value).split()}
    return cells | {word for name in table.rows[0] for word in re.split(r"[ _]", name)} | set(table.title.split())


def as_text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def shows_whole(table: RowsTable, *, width: int) -> None:
    said = printed(table, width=width)
    missing = words_of(table) - set(said.split()) - set(re.split(r"[\s_]", said))
    assert not missing, (missing, said)


ROWS = [
    {"checkpoint": "epoch-01", "validation_loss": 1.23456, "tokens_trained": 1_106_928, "share of SFT": 0.1, "chosen": False},
    {"checkpoint": "epoch-02", "validation_loss": None, "tokens_trained": 5, "share of SFT": 1, "chosen": True},
]  # fmt: skip


@pytest.mark.parametrize("width", [200, *WIDTHS])
def test_a_table_shows_every_word_whole(width: int) -> None:
    shows_whole(rows_table(ROWS, title="Epochs"), width=width)


@pytest.mark.parametrize("width", WIDTHS)
def test_lines_are_no_wider_than_the_terminal_and_name_their_row_in_every_block(width: int) -> None:
    lines = printed(rows_table(ROWS, title="Epochs"), width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert sum("epoch-01" in line for line in lines) == sum("checkpoint" in line for line in lines)


def test_columns_that_do_not_fit_go_into_a_block_below() -> None:
    rows = [{"name": "a", "first": "x" * 20, "second": "y" * 20}]
    assert [line.split() for line in printed(rows_table(rows, title=""), width=40).splitlines() if "─" not in line] == [
        ["name", "first"],
        ["a", "x" * 20],
        [],
        ["name", "second"],
        ["a", "y" * 20],
        [],
    ]


def test_prose_is_broken_between_words_before_columns_are_folded() -> None:
    rows = [{"name": "a", "why": "one two three four five six seven eight nine ten"}]
    lines = printed(rows_table(rows, title=""), width=40).splitlines()
    assert max(map(len, lines)) <= 40 and len([line for line in lines if "name" in line]) == 1


@pytest.mark.parametrize("width", [40, 10])
def test_a_word_wider_than_the_terminal_goes_on_in_the_next_line(width: int) -> None:
    table = rows_table([{"id": "f" * 64, "folder": "/a/" + "b" * 50, "number": 1_106_928}], title="t")
    said = printed(table, width=width)
    assert max(map(len, said.splitlines())) <= width
    assert all(word in "".join(said.split()) for word in words_of(table))


def test_numbers_stand_to_the_right_also_when_all_are_zero() -> None:
    lines = printed(rows_table([{"name": "a", "number": 0}], title=""), width=40).splitlines()
    assert lines[2].rstrip().endswith("     0")


def test_text_is_wrapped_between_words_and_a_long_one_stays_whole() -> None:
    assert wrapped("- aa bb cccccccccc dd", width=7, indent="  ") == ["- aa bb", "  cccccccccc", "  dd"]
    assert wrapped("", width=7) == [""]


# ---------------------------------------------------------------- the tables of a real chain


def tables_of(smoke) -> list[RowsTable]:
    store = Store(smoke.ring.home)
    found = {key: store.find(entry["stage"], entry["fingerprint"]) for key, entry in by_key(smoke.document).items()}
    manifests: dict[str, Manifest] = {key: manifest for key, manifest in found.items() if manifest}
    everything = [
        rows_table(rows, title=name) for item in manifests.values() for name, rows in item.tables().items() if rows
    ]
    return [*everything, *(table for table in chain_tables(smoke.document, manifests) if isinstance(table, RowsTable))]


@pytest.mark.parametrize("width", [80, 60])
def test_every_table_of_a_chain_shows_every_word_whole(smoke, width: int) -> None:
    tables = tables_of(smoke)
    assert len(tables) > 20
    for table in tables:
        shows_whole(table, width=width)
