"""Linear equations with one unknown and a small whole solution.

All levels are a x + b = c x + d or a ( x + b ) = c x + d, with c = 0 below level 3:
`solve 2 x + 9 = 1 x + 11` -> `2 - 1 = 1`, `1 x = 11 - 9 = 2`, `x = 2 / 1 = 2` -> `2`. Skipped: the operations.
"""

from random import Random

from data.sources.procedural.kind import Kind, Operands, Slips, Statement
from data.sources.procedural.notation import boxed, number, signed, trace

MAX_SOLUTION = 12
BRACKETED = (2, 4)  # levels of the form a ( x + b )


def draw(rng: Random, level: int) -> Statement:
    """Draw coefficients and a solution of 1 to 12; b is negative in half of levels 1 and 2 where d stays above 0."""
    x, a = rng.randint(1, MAX_SOLUTION), rng.randint(2, 9)
    c = rng.randint(1, a - 1) if level >= 3 else 0
    b = rng.randint(1, 20 if level == 1 else min(12, 199 // a - x))  # a ( x + b ) stays below 200
    if level <= 2 and b < (a * x if level == 1 else x) and rng.random() < 0.5:
        b = -b
    left = a * (x + b) if level in BRACKETED else a * x + b
    operands = {"bracketed": level in BRACKETED, "a": a, "b": b, "c": c, "d": left - c * x}
    return Statement(prompt=_prompt(operands), operands=operands, answer=str(x))


def reason(operands: Operands, style: str, slips: Slips) -> str:
    """Isolate x; only the results when steps are skipped."""
    a, b, c, d = (operands[name] for name in "abcd")
    lines: list[tuple[str, str, int]] = []  # (left side, operation, result)
    if operands["bracketed"] and c == 0:
        inner = slips.result(d // a)
        x = slips.result(inner - b)
        lines = [(f"x {signed(b)}", f"{d} / {a}", inner), ("x", f"{inner} {signed(-b)}", x)]
    else:
        if operands["bracketed"]:
            product = slips.result(a * b)
            lines.append(("", f"{a} * {b}", product))
            b = product
        factor = a
        if c:
            factor = slips.result(a - c, low=1)
            lines.append(("", f"{a} - {c}", factor))
        rest = slips.result(d - b)
        x = slips.result(rest // factor)
        lines += [(f"{factor} x", f"{d} {signed(-b)}", rest), ("x", f"{rest} / {factor}", x)]
    return trace((_line(*line, skip=style == "skip") for line in lines if style != "direct"), boxed(number(x)))


def _prompt(operands: Operands) -> str:
    a, b, c, d = (operands[name] for name in "abcd")
    left = f"{a} ( x {signed(b)} )" if operands["bracketed"] else f"{a} x {signed(b)}"
    right = f"{c} x + {d}" if c else str(d)
    return f"solve {left} = {right}"


def _line(left: str, operation: str, result: int, *, skip: bool) -> str:
    """A line without a left side (`2 - 1 = 1`) keeps its operation, or it would say nothing."""
    return " = ".join(part for part in (left, "" if skip and left else operation, str(result)) if part)


LIN = Kind(
    domain="math",
    description="linear equations with one unknown",
    draw=draw,
    reason=reason,
)
