"""Find the program a * x + b from three visible tests; 23 hidden ones decide.

`tests 2 > 10 ; 5 > 31 ; 3 > 17` -> slope from two tests, intercept, check on the third -> `7 * x - 4` in a Python block.
Skipped: the differences and the check.
"""

import json
from random import Random

from data.sources.procedural.kind import Kind, Operands, Slips, Statement
from data.sources.procedural.notation import CODE_CLOSING, CODE_OPENING, number, signed, trace

INPUTS = range(-10, 16)  # visible and hidden inputs of a problem together
MAX_X = 9
SIZES_OF_B = {1: (1, 9), 2: (1, 9), 3: (1, 9), 4: (10, 20)}  # smallest and largest absolute value


def draw(rng: Random, level: int) -> Statement:
    """Draw a of 2 to 9, b and three inputs; the first is below the second, and no visible output is negative."""
    a, xs = rng.randint(2, 9), rng.sample(range(2 if level >= 3 else 0, MAX_X + 1), 3)
    xs[:2] = sorted(xs[:2])
    smallest, largest = SIZES_OF_B[level]
    lowest = -min(largest, a * min(xs)) if level >= 2 else 0
    b = rng.choice([value for value in range(lowest, largest + 1) if abs(value) >= smallest])
    visible = " ; ".join(f"{x} > {a * x + b}" for x in xs)
    hidden = [x for x in INPUTS if x not in xs]
    tests = {
        "type": "call",
        "function": "f",
        "inputs": [[x] for x in hidden],
        "outputs": [a * x + b for x in hidden],
        "limits": {"time_s": 1},
    }
    return Statement(
        prompt=f"tests {visible}",
        operands={"xs": xs, "ys": [a * x + b for x in xs]},
        tests=json.dumps(tests),
    )


def reason(operands: Operands, style: str, slips: Slips) -> str:
    """Five lines; two when steps are skipped. The check itself has no slips and mends none."""
    (x1, x2, x3), (y1, y2, _) = operands["xs"], operands["ys"]
    rise, run = slips.result(y2 - y1), slips.result(x2 - x1, low=1)
    a = slips.result(rise // run)
    start = slips.result(a * x1)
    b = slips.result(y1 - start, low=-199)
    slope, intercept = f"a = {rise} / {run} = {a}", f"b = {y1} - {start} = {number(b)}"
    end = min(a * x3, 199)
    lines = {
        "direct": [],
        "skip": [slope, intercept],
        "long": [
            f"{y2} - {y1} = {rise}",
            f"{x2} - {x1} = {run}",
            slope,
            f"b = {y1} - {a} * {x1} = {y1} - {start} = {number(b)}",
            f"{a} * {x3} {signed(b)} = {end} {signed(b)} = {number(min(end + b, 199))}",
        ],
    }[style]
    return trace(lines, f"{CODE_OPENING} {a} * x {signed(b)}{CODE_CLOSING}")


FIT = Kind(
    domain="code",
    description="the line of Python a * x + b that passes three tests",
    draw=draw,
    reason=reason,
)
