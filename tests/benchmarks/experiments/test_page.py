"""The command writes between its markers, and nowhere else."""

from pathlib import Path

import pytest

from benchmarks.experiments.page import BEGIN, END, table, write_page


def test_words_before_and_behind_the_markers_stay_as_they_are(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Mine\n\nwords\n{BEGIN}\nold\n{END}\nmore words\n")
    write_page(page, ["new", "lines"], title="ignored")
    assert page.read_text() == f"# Mine\n\nwords\n{BEGIN}\n\nnew\nlines\n\n{END}\nmore words\n"


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    page = tmp_path / "deep" / "page.md"
    write_page(page, ["a line"], title="Experiment: x")
    first = page.read_text()
    assert first.startswith("# Experiment: x\n\n## What is asked\n")
    write_page(page, ["a line"], title="Experiment: x")
    assert page.read_text() == first


@pytest.mark.parametrize(
    "text",
    ["none", f"{BEGIN} alone", f"{END} {BEGIN}", f"{BEGIN} {END} {BEGIN} {END}", f"{BEGIN} {END} {END}", f"{BEGIN} {BEGIN} {END}"],
)  # fmt: skip
def test_a_page_whose_markers_are_not_one_pair_is_refused_and_left(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"page\.md must hold"):
        write_page(page, ["new"], title="x")
    assert page.read_text() == text


def test_a_table_is_markdown() -> None:
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]
