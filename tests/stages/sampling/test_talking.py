"""A model that is talked to says what it says when it is asked, however its text is cut into pieces."""

import random

import pytest

from ring_model.streaming import Manner
from ring_model.tokenizer import build_word_tokenizer
from stages.sampling.asking import respond
from stages.sampling.prompting import prompt_ids
from stages.sampling.talking import Talker, Text, Thinking, held_back, said_turn
from tests.stages.conftest import PROBLEMS


@pytest.fixture(scope="module")
def talker(tiny_model):
    return Talker(tiny_model)


def greedy(talker, **changes):
    return Manner(end_ids=talker.tokenizer.end_ids, **{"max_new_tokens": 20, **changes})


@pytest.mark.parametrize("problem", PROBLEMS[:3])
def test_one_turn_with_its_instruction_is_asked_and_answered_as_in_evaluation(talker, tiny_model, problem):
    prompt = talker.prompt([{"role": "user", "content": problem.prompt}], domain=problem.domain)
    assert prompt == prompt_ids(talker.tokenizer, problem)
    pieces = list(talker.respond(prompt, greedy(talker)))
    recorded = respond(tiny_model, problem, max_new_tokens=20)
    assert "".join(piece.answer for piece in pieces) == recorded.response
    assert sum(piece.token is not None for piece in pieces) == recorded.tokens
    assert pieces[-1].finish == ("stop" if recorded.finished else "length")
    assert {piece.finish for piece in pieces[:-1]} == {""}


def test_without_a_domain_nothing_is_added(talker):
    turn = {"role": "user", "content": "compute 2 + 3"}
    assert talker.prompt([turn]) == talker.tokenizer.render_prompt("compute 2 + 3")


@pytest.mark.parametrize(
    ("role", "domain", "said"), [("tool", None, "no role 'tool'"), ("user", "history", "no domain 'history'")]
)
def test_what_is_no_talk_is_refused(talker, role, domain, said):
    with pytest.raises(ValueError, match=said):
        talker.prompt([{"role": role, "content": "a"}], domain=domain)


def test_a_response_ends_before_a_stop_text(talker):
    prompt = talker.prompt([{"role": "user", "content": PROBLEMS[0].prompt}], domain="math")
    whole = "".join(piece.answer for piece in talker.respond(prompt, greedy(talker)))
    stop = whole.split()[4]
    pieces = list(talker.respond(prompt, greedy(talker), stops=["never said", stop]))
    assert "".join(piece.answer for piece in pieces) == whole[: whole.index(stop)]
    assert pieces[-1].finish == "stop"


def test_text_in_pieces_is_the_text_and_nothing_of_a_stop_is_told():
    words = "a b c d e".split()
    tokenizer = build_word_tokenizer(words, phrases=["\n"])
    source = random.Random(0)
    for _ in range(200):
        said = source.choices([*words, "\n"], k=12)
        ids = tokenizer.encode(" ".join(said))
        stop = source.choice(["c d", "e\n", "a b c", "zz"])
        whole = tokenizer.decode(ids)
        text, told = Text(tokenizer, stops=[stop]), ""
        for index in ids:
            told += text.add(index)
            if text.is_stopped:
                break
            assert whole.startswith(told)
        told += text.rest()
        assert told == (whole[: whole.index(stop)] if stop in whole else whole)


@pytest.mark.parametrize("is_open", [True, False])
def test_thinking_and_answer_do_not_depend_on_how_the_text_is_cut(is_open):
    source = random.Random(1)
    parts = ["<think>", "</think>", "<", "</", "</th", "think>", "x", " ", "\n", "<thi"]
    for _ in range(2000):
        whole = "".join(source.choices(parts, k=source.randint(0, 6)))
        opened = is_open or whole.lstrip().startswith("<think>")
        body = whole if is_open else whole.lstrip().removeprefix("<think>") if opened else whole
        thinking, _, answer = body.partition("</think>") if opened else ("", "", whole)
        split = Thinking(is_open=is_open)
        told = [split.add(letter) for letter in whole] + [split.rest()]
        assert "".join(one for one, _ in told) == thinking
        assert "".join(one for _, one in told) == answer


def test_what_is_held_back_is_the_beginning_of_a_mark():
    assert held_back("ab</th", ["</think>"]) == 4
    assert held_back("ab</think>", ["</think>"]) == 0
    assert held_back("aab", ["abc", "bb"]) == 2
    assert held_back("", ["x"]) == held_back("x", []) == 0


def test_a_turn_that_was_said_has_its_thinking_in_tags():
    assert said_turn("a ", " b") == {"role": "assistant", "content": "<think>a </think> b"}
    assert said_turn("", "b") == {"role": "assistant", "content": "b"}


def test_a_talk_goes_on_behind_what_was_said(talker):
    first = {"role": "user", "content": PROBLEMS[0].prompt}
    pieces = list(talker.reply(talker.prompt([first], domain="math"), greedy(talker)))
    thinking, answer = ("".join(getattr(piece, name) for piece in pieces) for name in ("thinking", "answer"))
    whole = talker.prompt([first, said_turn(thinking, answer), first], domain="math")
    once = talker.prompt([first], domain="math")
    assert whole[: len(once)] == once
    assert whole[-len(once) :] == once
    between = talker.tokenizer.decode(whole[len(once) : -len(once)]).split()
    assert between[-1] == "<|endoftext|>"
    assert between[:3] == thinking.split()[:3]
