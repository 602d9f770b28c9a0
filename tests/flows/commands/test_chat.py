"""`ring chat`: turn after turn, Ctrl-C for an answer, Ctrl-D for the talk, and nothing that a model says is obeyed."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.domains import DOMAINS
from flows.commands.chat import Talk
from flows.console import plain_console
from ring_model.checkpoint import save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from ring_model.streaming import Manner
from ring_model.tokenizer import build_word_tokenizer
from stages.sampling.talking import Talker

HOSTILE = "\x1b[2J"
WORDS = f"solve 2 + 3 = x 4 {HOSTILE} \u202ereversed"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model with random weights, which would write commands to a terminal."""
    folder = tmp_path_factory.mktemp("talked") / "tiny"
    tokenizer = build_word_tokenizer([WORDS, *(domain.prompt_suffix for domain in DOMAINS.values())])
    config = BailingMoeConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_experts=4, num_experts_per_tok=2, num_shared_experts=1, moe_intermediate_size=8, eos_token_id=0, pad_token_id=0,
        max_position_embeddings=2000, initializer_range=0.02,
    )  # fmt: skip
    save_model(initialise(BailingMoe(config), seed=5), folder, end_ids=tokenizer.end_ids)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def talker(folder) -> Talker:
    return Talker(folder)


def talk_of(talker: Talker, *, end_ids=None, **changes) -> Talk:
    ends = talker.tokenizer.end_ids if end_ids is None else end_ids
    manner = Manner(**{"end_ids": ends, "max_new_tokens": 200, "temperature": 1.0, **changes})
    return Talk(talker, manner, domain="math", console=plain_console())


def test_what_a_model_says_is_shown_and_not_obeyed(talker, capsys):
    talk_of(talker, end_ids=()).hold(iter(["solve 2 + 3"]))
    said = capsys.readouterr().out
    assert "\\x1b[2J" in said
    assert "\\u202ereversed" in said
    assert not {"\x1b", "\u202e"} & set(said)


def test_a_talk_holds_every_turn_with_its_instruction(talker, capsys):
    talk = talk_of(talker, max_new_tokens=5)
    talk.hold(iter(["solve 2", "  ", "solve 3"]))
    assert [turn["role"] for turn in talk.turns] == ["user", "assistant", "user", "assistant"]
    assert [turn["content"] for turn in talk.turns[::2]] == ["solve 2", "solve 3"]
    text = talker.tokenizer.decode(talker.prompt(talk.turns, domain="math"))
    assert text.count("final answer within") == 2


def test_a_talk_afresh_holds_the_last_line_alone(talker, capsys):
    talk = talk_of(talker, max_new_tokens=5)
    talk.afresh = True
    talk.hold(iter(["solve 2", "solve 3"]))
    assert [turn["content"] for turn in talk.turns[::2]] == ["solve 3"]


def test_turns_that_no_longer_fit_are_left_out_and_counted(talker, capsys):
    talk = talk_of(talker, max_new_tokens=400, end_ids=())
    talk.hold(iter(["solve 2"] * 6))
    told = capsys.readouterr().err
    assert "the model has 2,000 positions: the 2 oldest turns are left out" in told
    assert told.count("cut off: --max-new-tokens is 400") == 6
    assert len(talker.prompt(talk.turns, domain="math")) < 2000


def test_a_line_that_fits_nowhere_is_told_and_the_talk_goes_on(talker, capsys):
    talk = talk_of(talker, max_new_tokens=5)
    talk.hold(iter(["solve 2", "x " * 3000, "solve 3"]))
    told = capsys.readouterr().err
    assert "the prompt has 3,0" in told
    assert "prompt and response together may have 2,000" in told
    assert [turn["content"] for turn in talk.turns[::2]] == ["solve 2", "solve 3"]


def test_equal_seeds_give_equal_talks(talker, capsys):
    said = []
    for _ in range(2):
        talk_of(talker, max_new_tokens=20, seed=4).hold(iter(["solve 2", "solve 2"]))
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


# ---------------------------------------------------------------- a real terminal


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.main, other = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *arguments],
            stdin=other, stdout=other, stderr=other, start_new_session=True, preexec_fn=_takes_the_terminal,
            env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(other)
        self.said = ""
        self.heard = 0

    def until(self, text: str, *, seconds: float = 60.0) -> None:
        """Read on until a text was said after the one that was last waited for."""
        deadline = time.monotonic() + seconds
        while (found := self.said.find(text, self.heard)) < 0:
            assert time.monotonic() < deadline, self.said
            if select.select([self.main], [], [], 0.1)[0]:
                self.said += os.read(self.main, 4096).decode("utf-8", "replace")
        self.heard = found + len(text)

    def press_until(self, key: str, text: str) -> None:
        """Press a key, and again after a second: `input` loses a signal that comes between its prompt and its wait."""
        for _ in range(30):
            self.type(key)
            with contextlib.suppress(AssertionError):
                return self.until(text, seconds=1.0)
        raise AssertionError(self.said)

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())


def _takes_the_terminal() -> None:
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.default_int_handler)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.slow
def test_in_a_terminal_ctrl_c_ends_an_answer_and_ctrl_d_the_talk(folder):
    terminal = Terminal("chat", str(folder), "--max-new-tokens", "1900", "--temperature", "3")
    terminal.until("> ")
    terminal.type("solve 2\n")
    terminal.until("thinking: ")
    terminal.until("x")
    terminal.type("\x03")
    terminal.until("stopped; this question and its answer are left out of the talk")
    terminal.until("> ")
    terminal.press_until("\x03", "Ctrl-D ends the talk.")
    terminal.until("> ")  # between two prompts the terminal has the mode in which it eats a Ctrl-D that nobody reads
    terminal.type("\x04")
    assert terminal.process.wait(timeout=30) == 0
    assert "Traceback" not in terminal.said
    assert "\x1b[2m" in terminal.said  # the thinking is dim
    assert HOSTILE not in terminal.said


def test_numbers_that_are_none_are_refused(folder):
    for arguments, said in (
        (["--temperature", "-1"], "--temperature = -1.0"),
        (["--top-p", "0"], "--top-p = 0.0"),
        (["--max-new-tokens", "0"], "--max-new-tokens = 0"),
        (["--domain", "history"], "no domain 'history'"),
    ):
        command = [sys.executable, "-m", "flows.cli", "chat", str(folder), *arguments]
        done = subprocess.run(command, input="", capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False)
