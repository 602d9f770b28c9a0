"""Domains of one's own: a file that RING_DOMAINS names judges as ours do, and what is no such file is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.domain_names import BUILT_IN, VARIABLE, domain_names, own_domain_files
from data.domains import DOMAINS, Judge
from data.domains.own import load_own_domains
from data.schema import Problem

RIDDLE = r'''"""Riddles: the answer is a word; case does not count, and its first letter is worth a quarter."""
from dataclasses import dataclass

from data.domains import Domain, Outcome
from data.domains.extraction import last_box


@dataclass
class Given:
    word: str


def verify(text, problem, instruments):
    box = last_box(text)
    if box is None:
        return Outcome("no_answer", reason="no box")
    given = Given(box.lower())
    if given.word == "burst":
        raise RuntimeError("it burst")
    if given.word == "shrug":
        return Outcome("perhaps", box)
    if given.word == "bribe":
        return Outcome("wrong", box, credit=2.0)
    if given.word == "none":
        return None
    if given.word == problem.answer.lower():
        return Outcome("correct", box, "the word")
    return Outcome("wrong", box, "another word", credit=0.25 * (given.word[:1] == problem.answer[:1].lower()))


DOMAIN = Domain("riddle", "\nOne word in \\boxed{}.", verify)
'''


@pytest.fixture
def name_files(tmp_path, monkeypatch):
    def make(**texts: str) -> list[Path]:
        paths = [tmp_path / f"{name}.py" for name in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text)
        monkeypatch.setenv(VARIABLE, os.pathsep.join(map(str, paths)))
        return paths

    return make


def test_without_the_variable_there_are_ours_alone(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert domain_names() == BUILT_IN
    assert load_own_domains() == {}


def test_a_file_is_a_domain_of_its_name(name_files):
    (path,) = name_files(riddle=RIDDLE)
    assert own_domain_files() == {"riddle": path}
    assert domain_names() == (*BUILT_IN, "riddle")
    assert load_own_domains()["riddle"].prompt_suffix == "\nOne word in \\boxed{}."


@pytest.mark.parametrize(
    ("response", "status", "score", "reason"),
    [
        (r"it is \boxed{Echo}", "correct", 1.0, "the word"),
        (r"\boxed{elephant}", "wrong", 0.25, "another word"),
        (r"\boxed{wind}", "wrong", 0.0, "another word"),
        ("echo", "no_answer", 0.0, "no box"),
        (r"\boxed{burst}", "judge_error", 0.0, "RuntimeError: it burst"),
        (r"\boxed{shrug}", "judge_error", 0.0, "verify of riddle gave Outcome(status='perhaps'"),
        (r"\boxed{bribe}", "judge_error", 0.0, "gave the credit 2.0; it lies from 0 to 1"),
        (r"\boxed{none}", "judge_error", 0.0, "verify of riddle gave None; needed is an Outcome"),
    ],
)
def test_it_judges_as_ours_do_and_its_mistakes_are_the_judges(name_files, monkeypatch, response, status, score, reason):
    name_files(riddle=RIDDLE)
    monkeypatch.setitem(DOMAINS, "riddle", load_own_domains()["riddle"])
    problem = Problem("r1", "riddle", "rl", "I speak without a mouth. What am I?", "Echo")
    with Judge() as judge:
        (verdict,) = judge.verify([(f"hm </think> {response}", problem)])
    assert (verdict.status, verdict.score) == (status, score)
    assert reason in verdict.reason


def test_every_process_knows_it(name_files):
    name_files(riddle=RIDDLE)
    code = "from data.domains import DOMAINS, verify; print([*DOMAINS], verify(r'\\boxed{echo}', domain='riddle', gold='Echo').status)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("] ") == ["['math', 'code', 'science', 'gym', 'riddle'", "correct\n"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("riddle", "1 +", "cannot be imported: SyntaxError"),
        ("riddle", "import nowhere", "cannot be imported: ModuleNotFoundError"),
        ("riddle", "x = 1", r'needed is DOMAIN = Domain\("riddle", PROMPT_SUFFIX, verify\).*it is a NoneType'),
        ("rebus", RIDDLE, "called after the file; it is 'riddle'"),
    ],
)
def test_what_is_no_domain_is_refused_with_what_is_needed(name_files, name, text, message):
    name_files(**{name: text})
    with pytest.raises(ValueError, match=message):
        load_own_domains()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere.py", "nowhere.py: no such Python file"),
        ("riddle.toml", "no such Python file"),
        ("math.py", "'math' cannot be"),
        ("all.py", "'all' cannot be"),
        ("My-Riddles.py", "'My-Riddles' cannot be"),
        ("a/riddle.py:b/riddle.py", "'riddle' cannot be"),
    ],
)
def test_a_name_that_is_none_or_taken_is_refused(tmp_path, monkeypatch, value, message):
    for text in value.split(":"):
        if text != "nowhere.py":
            (tmp_path / text).parent.mkdir(exist_ok=True)
            (tmp_path / text).write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ValueError, match=message):
        domain_names()
