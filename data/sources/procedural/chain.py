"""Chains of operations modulo 7, 9 or 11, evaluated from left to right.

`compute left to right mod 7 : 6 * 2 * 7` -> `6 * 2 = 12 = 5`, `5 * 7 = 35 = 0` -> `0`. Skipped: the unreduced results.
"""

from operator import add, mul, sub
from random import Random

from data.sources.procedural.kind import Kind, Operands, Slips, Statement
from data.sources.procedural.notation import CHAIN_OPENING, boxed, number, trace

MODULI = (7, 9, 11)
NUM_OPERATIONS = {1: (2, 3), 2: (4, 5), 3: (6, 7), 4: (8, 8)}
OPERATIONS = {"+": add, "-": sub, "*": mul}
SIGNS = tuple(OPERATIONS)


def draw(rng: Random, level: int) -> Statement:
    """Draw a chain; numbers are 1 to 9."""
    modulus, num_operations = rng.choice(MODULI), rng.randint(*NUM_OPERATIONS[level])
    signs = rng.choices(SIGNS, k=num_operations)
    numbers = [rng.randint(1, 9) for _ in range(num_operations + 1)]
    operands = {"modulus": modulus, "numbers": numbers, "signs": signs}
    words = [str(numbers[0]), *(f"{sign} {right}" for sign, right in zip(signs, numbers[1:], strict=True))]
    prompt = f"{CHAIN_OPENING} {modulus} : {' '.join(words)}"
    return Statement(prompt=prompt, operands=operands, answer=str(_steps(operands, None)[1]))


def reason(operands: Operands, style: str, slips: Slips) -> str:
    """One line per operation; without the unreduced result when steps are skipped."""
    lines, value = _steps(operands, slips)
    answer = boxed(str(value))
    if style == "direct":
        return trace((), answer)
    if style == "skip":
        return trace((f"{step} = {result}" for step, _, result in lines), answer)
    return trace((f"{step} = {number(whole)} = {result}" for step, whole, result in lines), answer)


def _steps(operands: Operands, slips: Slips | None) -> tuple[list[tuple[str, int, int]], int]:
    """(`6 * 2`, 12, 5) for every operation, and the last residue."""
    modulus, numbers = operands["modulus"], operands["numbers"]
    value, lines = numbers[0], []
    for sign, right in zip(operands["signs"], numbers[1:], strict=True):
        whole = OPERATIONS[sign](value, right)
        slip = slips.rng.randrange(1, modulus) if slips and slips.happens() else 0
        step, value = f"{value} {sign} {right}", (whole + slip) % modulus
        lines.append((step, whole, value))
    return lines, value


CHAIN = Kind(
    domain="math",
    description="operations modulo 7, 9 or 11 from left to right",
    draw=draw,
    reason=reason,
)
