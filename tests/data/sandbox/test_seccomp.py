"""The filter decides each call as the lists of calls say: tried on every number by a second reading of the program."""

import struct

import pytest

from data.sandbox import seccomp

X86_64, ALLOW, EPERM, KILL, NOTHING = 0xC000003E, 0x7FFF0000, 0x00050001, 0x80000000, 0x00050000
RUNG_A = (*seccomp.FORKING, *seccomp.FILES)


def decide(program, number, *arguments, architecture=X86_64):
    data = {0: number, 4: architecture} | {16 + 8 * place: value for place, value in enumerate(arguments)}
    operations = [struct.unpack("=HBBI", program[at : at + 8]) for at in range(0, len(program), 8)]
    at = held = 0
    while True:
        code, if_true, if_false, value = operations[at]
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            held = data.get(value, 0)
        elif code == 0x05:
            at += value
        else:
            is_true = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
            at += if_true if is_true else if_false


@pytest.mark.parametrize("more", [(), RUNG_A, (*RUNG_A, *seccomp.EXECUTING, *seccomp.COMPILING)])
def test_every_number_is_decided_by_the_lists(more):
    program, allowed = seccomp.program(more), {*seccomp._ALLOWED, *more}
    by_argument = {*seccomp._ALLOWED_WITH, 13, 56, 112, 302, 435}
    for number in set(range(1024)) - by_argument:
        assert decide(program, number) == (ALLOW if number in allowed else EPERM), number


@pytest.mark.parametrize(
    ("number", "arguments", "decision"),
    [
        (53, (1, 1), ALLOW),  # socketpair: local, stream
        (53, (1, 2), EPERM),
        (53, (2, 1), EPERM),
        (16, (0, 0x5421), ALLOW),  # ioctl
        (16, (0, 0x5412), EPERM),
        (112, (), NOTHING),  # setsid
        (13, (17,), NOTHING),  # sigaction of SIGCHLD
        (13, (15,), ALLOW),
        (73, (), EPERM),  # flock
        (56, (0x10000,), ALLOW),  # clone of a thread
        (56, (0x7E020000,), EPERM),
        (0x40000001, (), KILL),
    ],
)
def test_arguments_decide(number, arguments, decision):
    assert decide(seccomp.program(RUNG_A), number, *arguments) == decision


def test_another_architecture_is_killed():
    assert decide(seccomp.program(), 1, architecture=0x40000003) == KILL
