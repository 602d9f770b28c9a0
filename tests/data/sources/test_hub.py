import json

import pytest

from data.sources.hub import load_hub


@pytest.fixture
def repo(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    rows = [
        {
            "problem": "What is 1 + 1?",
            "gold": "2",
            "cases": {"type": "stdin", "inputs": ["1"], "outputs": ["2"]},
            "n": 7,
        },
        {
            "problem": "What is 2 + 2?",
            "gold": None,
            "cases": {"type": "stdin", "inputs": ["2"], "outputs": ["4"]},
            "n": 8,
        },
    ]
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(folder)


def _load(repo, columns, **settings):
    given = {"revision": "a" * 40, "split": "train", "name": "mine", "domain": "math", "licence": "MIT", **settings}
    return load_hub(repo, columns=columns, **given)


def test_columns_are_mapped_and_the_recipe_gives_the_rest(repo):
    first, second = _load(repo, {"prompt": "problem", "answer": "gold"})
    assert (first.id, first.prompt, first.answer, first.split) == ("mine-000000", "What is 1 + 1?", "2", "")
    assert (first.source, first.domain, first.licence) == ("mine", "math", "MIT")
    assert second.answer == ""


def test_what_is_no_text_becomes_json(repo):
    (first, _) = _load(repo, {"prompt": "problem", "tests": "cases"})
    assert json.loads(first.tests) == {"type": "stdin", "inputs": ["1"], "outputs": ["2"]}


def test_their_ids_are_kept_under_our_name(repo):
    assert [row.id for row in _load(repo, {"id": "n", "prompt": "problem", "answer": "gold"})] == ["mine/7", "mine/8"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": "question", "answer": "gold"}, "has no column question; it has problem"),
        ({"prompt": "problem", "answr": "gold"}, "columns names answr"),
        ({"prompt": "problem"}, "must map `prompt` and one of `answer`, `tests`"),
    ],
)
def test_a_wrong_map_of_columns_is_refused(repo, columns, message):
    with pytest.raises(ValueError, match=message):
        _load(repo, columns)


def test_an_unknown_split_is_refused_with_what_to_check(repo):
    with pytest.raises(ValueError, match=r"hub source 'mine'.*'dev'.*check repo, revision and split"):
        _load(repo, {"prompt": "problem", "answer": "gold"}, split="dev")
