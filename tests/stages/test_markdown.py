"""Texts of others in Markdown: shown, and nothing else."""

import pytest

from stages.markdown import cell, plain, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b\nc", "a \\| b c"),
        ("a\\|b", "a\\\\\\|b"),  # the backslash first, else it would free the bar
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("[click](javascript:alert(1))", "\\[click\\](javascript:alert(1))"),
        ("![b](http://beacon)", "\\!\\[b\\](http://beacon)"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("`<b>`", "\\`&lt;b&gt;\\`"),
        ("plain words, 2 * 3", "plain words, 2 * 3"),
    ],
)
def test_what_a_viewer_would_obey_is_shown(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_text_stays_in_its_cell_and_its_name_too() -> None:
    lines = [*table([{"a|b": "x|y\\", "n": 0.12345}, {"a|b": "", "n": 2}], digits=".3f")]
    assert lines == ["| a\\|b | n |", "| --- | --- |", "| x\\|y\\\\ | 0.123 |", "|  | 2 |"]
    assert [*table([])] == []


def test_numbers_are_written_to_their_digits_and_whole_ones_whole() -> None:
    assert (cell(0.123456), cell(0.123456, digits=".6g"), cell(12), cell(None)) == ("0.1235", "0.123456", "12", "None")
