"""Quantities that follow from others by one to three chained formulas, with their units.

`find energy : distance = 2 m , mass = 9 - 6 kg , acceleration = 7 m/s^2` -> `mass = 9 - 6 = 3`,
`force = mass * acceleration = 3 * 7 = 21`, `energy = force * distance = 21 * 2 = 42` -> `42 J`.
Skipped: the differences and the formulas' names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from data.sources.procedural.kind import Kind, Operands, Slips, Statement
from data.sources.procedural.notation import boxed, trace

UNITS = {
    "acceleration": "m/s^2",
    "area": "m^2",
    "charge": "C",
    "current": "A",
    "density": "kg/m^3",
    "distance": "m",
    "energy": "J",
    "force": "N",
    "mass": "kg",
    "momentum": "kg*m/s",
    "power": "W",
    "pressure": "Pa",
    "resistance": "ohm",
    "speed": "m/s",
    "time": "s",
    "voltage": "V",
    "volume": "m^3",
}
DEPTH = {1: 1, 2: 2, 3: 3, 4: 3}  # level -> number of formulas
MAX_FACTOR = {1: 12, 2: 9, 3: 6}  # depth -> largest operand, so that all results stay below 200
PRIMES = (2, 3, 5, 7)  # values of the givens when chains are searched for contradictions
NUM_DIFFERENCES = {1: (0, 0), 2: (0, 1), 3: (0, 1), 4: (2, 3)}


@dataclass(frozen=True, slots=True)
class Formula:
    """result = left sign right."""

    result: str
    left: str
    sign: str  # * or /
    right: str

    def apply(self, values: Mapping[str, Fraction]) -> Fraction:
        """The result without rounding."""
        left, right = values[self.left], values[self.right]
        return left * right if self.sign == "*" else left / right

    @property
    def text(self) -> str:
        """As it is written in a trace."""
        return f"{self.result} = {self.left} {self.sign} {self.right}"


FORMULAS: dict[str, Formula] = {
    formula.text: formula
    for formula in (
        Formula("force", "mass", "*", "acceleration"),
        Formula("energy", "force", "*", "distance"),
        Formula("power", "energy", "/", "time"),
        Formula("speed", "distance", "/", "time"),
        Formula("power", "force", "*", "speed"),
        Formula("energy", "power", "*", "time"),
        Formula("momentum", "mass", "*", "speed"),
        Formula("force", "momentum", "/", "time"),
        Formula("pressure", "force", "/", "area"),
        Formula("mass", "density", "*", "volume"),
        Formula("voltage", "current", "*", "resistance"),
        Formula("current", "voltage", "/", "resistance"),
        Formula("power", "voltage", "*", "current"),
        Formula("charge", "current", "*", "time"),
        Formula("energy", "charge", "*", "voltage"),
    )
}


def _givens(chain: Iterable[Formula]) -> list[str]:
    """Operands that no formula of the chain makes, in the order of their use."""
    made = {formula.result for formula in chain}
    return [name for formula in chain for name in (formula.left, formula.right) if name not in made]


def _is_sound(chain: tuple[Formula, ...]) -> bool:
    """No quantity is given twice or made again, and no other formula between the chain's quantities contradicts them."""
    givens = _givens(chain)
    if len({*givens, *(formula.result for formula in chain)}) <= 2 * len(chain):
        return False
    values = {name: Fraction(prime) for name, prime in zip(givens, PRIMES, strict=False)}
    for formula in chain:
        values[formula.result] = formula.apply(values)
    among = [formula for formula in FORMULAS.values() if {formula.left, formula.right, formula.result} <= values.keys()]
    return all(formula.apply(values) == values[formula.result] for formula in among)


def _chains(depth: int) -> list[tuple[Formula, ...]]:
    """Every sound chain in which each formula uses the result of the one before; one for each question."""
    chains: list[tuple[Formula, ...]] = [(formula,) for formula in FORMULAS.values()]
    for _ in range(depth - 1):
        chains = [
            (*chain, formula)
            for chain in chains
            for formula in FORMULAS.values()
            if chain[-1].result in (formula.left, formula.right)
        ]
    sound = {(chain[-1].result, frozenset(_givens(chain))): chain for chain in reversed(chains) if _is_sound(chain)}
    return list(reversed(sound.values()))


CHAINS = {depth: _chains(depth) for depth in MAX_FACTOR}


def draw(rng: Random, level: int) -> Statement:
    """Draw a chain, values that make every result whole, and which operands are written as a difference."""
    chain = rng.choice(CHAINS[DEPTH[level]])
    values = _draw_values(rng, chain)
    names = _givens(chain)
    rng.shuffle(names)
    differences = set(rng.sample(names, rng.randint(*NUM_DIFFERENCES[level])))
    subtrahends = [rng.randint(1, 9) if name in differences else 0 for name in names]
    given = [(name, values[name] + minus, minus) for name, minus in zip(names, subtrahends, strict=True)]
    target = chain[-1].result
    stated = " , ".join(f"{name} = {_written(first, minus)} {UNITS[name]}" for name, first, minus in given)
    return Statement(
        prompt=f"find {target} : {stated}",
        operands={"formulas": [formula.text for formula in chain], "given": given, "tolerance": 0.0},
        answer=f"{values[target]} {UNITS[target]}",
    )


def reason(operands: Operands, style: str, slips: Slips) -> str:
    """Differences first, then one line per formula; only its numbers when steps are skipped."""
    values, lines = {}, []
    for name, first, minus in operands["given"]:
        values[name] = slips.result(first - minus, low=1) if minus else first
        if minus and style == "long":
            lines.append(f"{name} = {first} - {minus} = {values[name]}")
    chain = [FORMULAS[text] for text in operands["formulas"]]
    for formula in chain:
        left, right = values[formula.left], values[formula.right]
        values[formula.result] = slips.result(_apply(formula.sign, left, right), low=1)
        start = formula.text if style == "long" else formula.result
        lines.append(f"{start} = {left} {formula.sign} {right} = {values[formula.result]}")
    target = chain[-1].result
    return trace(() if style == "direct" else lines, boxed(f"{values[target]} {UNITS[target]}"))


def _draw_values(rng: Random, chain: tuple[Formula, ...]) -> dict[str, int]:
    """Values of all quantities: whole, at least 1 and at most 199."""
    largest = MAX_FACTOR[len(chain)]
    smallest = 1 if len(chain) == 1 else 2
    values: dict[str, int] = {}
    for formula in chain:
        missing = [name for name in (formula.left, formula.right) if name not in values]
        if len(missing) == 2:
            left, right = rng.randint(smallest, largest), rng.randint(smallest, largest)
            values |= {formula.left: left * right if formula.sign == "/" else left, formula.right: right}
        else:
            (name,) = missing
            values[name] = _draw_second(rng, formula, values[_other_operand(formula, name)])
        values[formula.result] = _apply(formula.sign, values[formula.left], values[formula.right])
    return values


def _other_operand(formula: Formula, other: str) -> str:
    """The operand of a formula beside `other`."""
    return formula.right if other == formula.left else formula.left


def _draw_second(rng: Random, formula: Formula, known: int) -> int:
    """A factor that keeps the product below 200, or a divisor; 1 where there is none above it."""
    if formula.sign == "*":
        return rng.randint(2, min(9, 199 // known)) if known < 100 else 1
    return rng.choice([divisor for divisor in range(2, 13) if known % divisor == 0] or [1])


def _apply(sign: str, left: int, right: int) -> int:
    return left * right if sign == "*" else left // right


def _written(first: int, minus: int) -> str:
    return f"{first} - {minus}" if minus else str(first)


SCIENCE = Kind(
    domain="science",
    description="a quantity that follows from others by one to three formulas, with its unit",
    draw=draw,
    reason=reason,
)
