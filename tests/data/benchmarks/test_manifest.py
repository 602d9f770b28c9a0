import hashlib
import json
from dataclasses import replace

import pytest

from data.benchmarks.manifest import freeze, frozen, manifest_of, require_frozen, row_digest


def test_a_digest_is_of_id_prompt_answer_and_tests(row):
    one = row(1)
    by_hand = hashlib.sha256(json.dumps(["x/1", "1 + 1?", "2", ""]).encode()).hexdigest()
    assert row_digest(one) == by_hand
    for column in ("id", "prompt", "answer", "tests"):
        assert row_digest(replace(one, **{column: "other"})) != by_hand
    for column in ("solution", "source", "licence", "meta", "split", "domain"):
        assert row_digest(replace(one, **{column: "other"})) == by_hand


def test_a_text_cannot_move_to_the_next_column_unseen(row):
    assert row_digest(row(prompt="a", answer="b")) != row_digest(row(prompt="ab", answer=""))
    assert row_digest(row(prompt='a", "b', answer="")) != row_digest(row(prompt="a", answer="b"))


def test_what_is_frozen_comes_back_and_holds_no_row(row, tmp_path):
    rows = [row(2), row(1)]
    path = freeze("aime24", rows, folder=tmp_path)
    assert frozen("aime24", folder=tmp_path) == manifest_of("aime24", rows)
    lines = path.read_text().splitlines()
    assert lines[0] == "rows 2"
    assert lines[2:] == [f"{row_digest(row(1))} x/1", f"{row_digest(row(2))} x/2"]
    assert "+ 1?" not in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["aime24.txt"]
    assert frozen("other", folder=tmp_path) is None


def test_the_order_of_rows_is_free(row):
    assert manifest_of("a", [row(1), row(2)]) == manifest_of("a", [row(2), row(1)])


def test_large_sets_have_short_digests_and_a_whole_one_of_all(row, monkeypatch):
    monkeypatch.setattr("data.benchmarks.manifest.WHOLE_ROWS", 1)
    assert manifest_of("a", [row(1)]).digests == {"x/1": row_digest(row(1))}
    manifest = manifest_of("a", [row(1), row(2)])
    assert manifest.digests["x/1"] == row_digest(row(1))[:16]
    both = "\n".join([row_digest(row(1)), row_digest(row(2))])
    assert manifest.sha256 == hashlib.sha256(both.encode()).hexdigest()


def test_a_change_that_a_short_digest_does_not_show_is_refused(row, monkeypatch):
    monkeypatch.setattr("data.benchmarks.manifest.WHOLE_ROWS", 0)
    manifest = manifest_of("aime24", [row(1)])
    monkeypatch.setattr("data.benchmarks.manifest._SHORT", 0)
    blind = replace(manifest, digests={"x/1": ""})
    with pytest.raises(ValueError, match="benchmark aime24: the rows differ from the frozen manifest"):
        require_frozen("aime24", [row(1, prompt="other")], blind)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [replace(rows[0], answer="9"), *rows[1:]], "row x/0 is not the row of the frozen manifest"),
        (
            lambda rows: [replace(r, answer="9") for r in rows[:2]] + rows[2:],
            "rows x/0, x/1 are not the rows of the frozen manifest",
        ),
        (lambda rows: rows[1:], r"row x/0 is missing \(2 rows, 3 frozen\)"),
        (lambda rows: [*rows, replace(rows[0], id="x/9")], r"row x/9 is not in it \(4 rows, 3 frozen\)"),
        (lambda rows: [replace(rows[0], id="x/9"), *rows[1:]], "row x/0 is missing; row x/9 is not in it"),
        (lambda rows: [*rows, rows[0]], "row x/0 is there more than once"),
    ],
)
def test_changed_missing_and_added_rows_are_named(row, change, message):
    rows = [row(0), row(1), row(2)]
    manifest = manifest_of("aime24", rows)
    require_frozen("aime24", rows, manifest)
    with pytest.raises(ValueError, match=message):
        require_frozen("aime24", change(rows), manifest)


def test_many_rows_are_named_in_part(row):
    manifest = manifest_of("a", [row(number) for number in range(8)])
    with pytest.raises(ValueError, match="rows x/1, x/2, x/3, x/4, x/5 and 2 more are missing"):
        require_frozen("a", [row(0)], manifest)
    with pytest.raises(ValueError, match="rows x/3, x/4, x/5, x/6, x/7 are missing"):
        require_frozen("a", [row(0), row(1), row(2)], manifest)


def test_what_cannot_be_frozen_is_refused(row, tmp_path):
    with pytest.raises(ValueError, match="there is no row to freeze"):
        freeze("a", [], folder=tmp_path)
    for unfit in ("two\nlines", " ahead", "behind\u2028", ""):
        with pytest.raises(ValueError, match="does not fit on a line"):
            freeze("a", [row(id=unfit)], folder=tmp_path)


@pytest.mark.parametrize(
    "cut", [lambda text: text[: len(text) // 2], lambda text: "", lambda text: text + "deadbeef x/1\n"]
)
def test_a_damaged_manifest_is_refused(row, tmp_path, cut):
    path = freeze("a", [row(1), row(2)], folder=tmp_path)
    path.write_text(cut(path.read_text()))
    with pytest.raises(ValueError, match="is no whole manifest"):
        frozen("a", folder=tmp_path)
