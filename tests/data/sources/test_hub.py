import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.sources.hub import load_hub

ROOT = Path(__file__).resolve().parents[3]


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
        ({"prompt": "problem"}, "must map `prompt` and one of `answer`, `solution`, `tests`"),
    ],
)
def test_a_wrong_map_of_columns_is_refused(repo, columns, message):
    with pytest.raises(ValueError, match=message):
        _load(repo, columns)


def test_an_unknown_split_is_refused_with_what_to_check(repo):
    with pytest.raises(ValueError, match=r"hub source 'mine'.*'dev'.*check repo, revision and split"):
        _load(repo, {"prompt": "problem", "answer": "gold"}, split="dev")


def test_a_subset_is_the_one_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "sets"
    for name in ("main", "socratic"):
        (folder / name).mkdir(parents=True)
        (folder / name / "test.jsonl").write_text(json.dumps({"q": f"of {name}", "a": "1"}) + "\n", encoding="utf-8")
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.jsonl\n" for name in ("main", "socratic"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n", encoding="utf-8")
    (row,) = _load(str(folder), {"prompt": "q", "answer": "a"}, subset="socratic")
    assert row.prompt == "of socratic"


def test_without_an_answer_it_is_the_one_with_which_the_solution_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    solutions = [r"So \boxed{\frac{1}{2}}.", "48/2 = <<48/2=24>>24\n#### 1,024", "Left to the reader.", ""]
    lines = [json.dumps({"q": "?", "worked": text, "list": ["7"]}) + "\n" for text in solutions]
    (tmp_path / "set" / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    rows = _load(str(tmp_path / "set"), {"prompt": "q", "solution": "worked"})
    assert [row.answer for row in rows] == [r"\frac{1}{2}", "1,024", "", ""]
    rows = _load(str(tmp_path / "set"), {"prompt": "q", "solution": "worked", "answer": "list"})
    assert {row.answer for row in rows} == {"7"}


def test_a_hub_that_cannot_be_reached_is_a_message_with_the_way_out(tmp_path):
    script = (
        "from data.sources.hub import load_hub\n"
        f"load_hub('owner/set', revision='{'0' * 40}', split='test', name='mine', domain='math', licence='MIT',"
        " columns={'prompt': 'question', 'answer': 'answer'})"
    )
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=offline, capture_output=True, text=True)
    *_, message = done.stderr.strip().splitlines()
    assert message.startswith(f"ValueError: hub source 'mine': owner/set at {'0' * 40}, split 'test', cannot be loaded")
    assert "--data-dir" in message
