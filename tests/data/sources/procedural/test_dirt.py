"""Dirt says what it is, comes in the stated shares, and is wrong in the way that it says."""

from collections import Counter
from dataclasses import replace

import pytest

from data.domains import Judge
from data.sources.procedural import DIRT, Material, generate_problems, num_spare, plant

KINDS = {"chain": 0.2, "lin": 0.2, "list": 0.2, "fit": 0.2, "science": 0.2}
SHARES = {"copies": 0.2, "leaks": 0.1, "broken_traces": 0.2, "cut_off": 0.1, "malformed": 0.3}


def _drawn(name, count):
    return generate_problems(name=name, split="sft", num_problems=count, kinds=KINDS, levels={2: 0.5, 3: 0.5}, seed=0)


def _planted(*, num_clean=100, shares=SHARES, seed=0):
    problems = _drawn("a", num_clean + num_spare(shares, num_clean))
    material = Material(problems[:num_clean], problems[num_clean:], _drawn("held", 40))
    return plant("a", material, shares=shares, split="sft", seed=seed), material


def _of(rows, kind, form):
    return [row for row in rows if (row.metadata["dirt"]["kind"], row.metadata["dirt"]["form"]) == (kind, form)]


def test_every_row_says_what_it_is_and_each_kind_has_its_share():
    rows, _ = _planted(num_clean=200)
    counts = Counter(row.metadata["dirt"]["kind"] for row in rows)
    assert counts == {"copy": 40, "leak": 20, "broken trace": 40, "cut off": 20, "malformed": 60}
    assert [row.id for row in rows] == [f"a-dirt-{number:06d}" for number in range(180)]
    assert {row.split for row in rows} == {"sft"}
    forms = Counter((row.metadata["dirt"]["kind"], row.metadata["dirt"]["form"]) for row in rows)
    assert forms["copy", "verbatim"] in (8, 9) and forms["broken trace", "cut off"] == 8
    assert forms.keys() == {(kind, form) for kind, forms in DIRT.values() for form in forms}


def test_dirt_is_a_function_of_the_seed():
    assert _planted()[0] == _planted()[0] != _planted(seed=1)[0]


def test_copies_name_their_row_and_leaks_one_of_the_held_out_rows():
    rows, material = _planted()
    for kind, there in (("copy", material.clean), ("leak", material.heldout)):
        named = {problem.id: problem for problem in there}
        for row in rows:
            if row.metadata["dirt"]["kind"] == kind:
                original = named[row.metadata["dirt"]["of"]]
                assert (row.answer, row.tests) == (original.answer, original.tests)
                assert (row.prompt == original.prompt) == (row.metadata["dirt"]["form"] == "verbatim")


def test_traces_are_broken_as_they_say():
    rows, _ = _planted()
    sound = {"wrong step": "correct", "wrong answer": "wrong", "no box": "no_answer"}
    judged = [
        (form, replace(row, solution=""), row.solution.removeprefix("<think>\n"))
        for form in sound
        for row in _of(rows, "broken trace", form)
    ]
    assert len(judged) == 12
    with Judge() as judge:
        verdicts = judge.verify([(trace, problem) for _, problem, trace in judged])
    assert [verdict.status for verdict in verdicts] == [sound[form] for form, _, _ in judged]
    assert all("</think>" not in row.solution for row in _of(rows, "broken trace", "cut off"))


def test_a_cut_prompt_is_the_beginning_of_another_one():
    rows, material = _planted()
    prompts = [problem.prompt for problem in material.spare]
    for form in ("between words", "inside a word"):
        for row in _of(rows, "cut off", form):
            assert any(prompt.startswith(row.prompt) and prompt != row.prompt for prompt in prompts)


def test_more_leaks_than_held_out_rows_are_refused():
    with pytest.raises(
        ValueError, match=r"source a: dirt\.leaks asks for 50 rows, and there are 40 .* lower the share"
    ):
        _planted(shares={"leaks": 0.5})
