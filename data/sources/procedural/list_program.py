"""Programs of named operations on four digits.

`program rot inc : 6 1 8 1` -> `rot 1 8 1 6`, `inc 2 9 2 7` -> `2 9 2 7`. Skipped: the state after every other operation.
"""

from collections.abc import Callable, Sequence
from random import Random

from data.sources.procedural.kind import Kind, Operands, Slips, Statement
from data.sources.procedural.notation import boxed, trace

NUM_OPERATIONS = {1: (2, 3), 2: (4, 5), 3: (6, 7), 4: (8, 8)}
NUM_DIGITS = 4
OPERATIONS: dict[str, Callable[[list[int]], list[int]]] = {
    "inc": lambda state: [(digit + 1) % 10 for digit in state],
    "dec": lambda state: [(digit - 1) % 10 for digit in state],  # running sums stayed at 9 % right after SFT
    "dbl": lambda state: [digit * 2 % 10 for digit in state],
    "neg": lambda state: [-digit % 10 for digit in state],
    "rev": lambda state: state[::-1],
    "swap": lambda state: [state[1], state[0], *state[2:]],  # the first two
    "rot": lambda state: [*state[1:], state[0]],  # the first goes to the end
    "sort": sorted,
}
NAMES = tuple(OPERATIONS)


def draw(rng: Random, level: int) -> Statement:
    """Draw a program and its input."""
    program = rng.choices(NAMES, k=rng.randint(*NUM_OPERATIONS[level]))
    digits = [rng.randrange(10) for _ in range(NUM_DIGITS)]
    state = digits
    for name in program:
        state = OPERATIONS[name](state)
    prompt = f"program {' '.join(program)} : {_words(digits)}"
    return Statement(prompt=prompt, operands={"program": program, "digits": digits}, answer=_words(state))


def reason(operands: Operands, style: str, slips: Slips) -> str:
    """One line per operation, `name state`; two operations a line when steps are skipped."""
    state, states = operands["digits"], []
    for name in operands["program"]:
        state = OPERATIONS[name](state)
        if slips.happens():
            state = _slipped(state, slips.rng)
        states.append(state)
    stride = {"long": 1, "skip": 2, "direct": 0}[style]
    lines = _lines(operands["program"], states, stride) if stride else []
    return trace(lines, boxed(_words(state)))


def _lines(program: Sequence[str], states: Sequence[list[int]], stride: int) -> list[str]:
    blocks = [slice(start, start + stride) for start in range(0, len(program), stride)]
    return [f"{' '.join(program[block])} {_words(states[block][-1])}" for block in blocks]


def _slipped(state: list[int], rng: Random) -> list[int]:
    """Another digit at one place."""
    place, shift = rng.randrange(NUM_DIGITS), rng.randrange(1, 10)
    return [(digit + shift) % 10 if index == place else digit for index, digit in enumerate(state)]


def _words(digits: Sequence[int]) -> str:
    return " ".join(map(str, digits))


LIST = Kind(
    domain="code",
    description="what a list of named operations makes of four digits",
    draw=draw,
    reason=reason,
)
