"""What a kind of problem is: how a problem is drawn, and how its reasoning is written."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

Operands = Mapping[str, Any]  # Any: a JSON object, kept in `meta`; each kind reads only what it wrote

LEVELS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Statement:
    """A drawn problem, before it has a name and a split."""

    prompt: str  # canonical words
    operands: Operands  # what the teacher needs
    answer: str = ""  # the right answer; empty where tests decide
    tests: str = ""  # JSON of the hidden tests


@dataclass(frozen=True, slots=True)
class Slips:
    """A hand that writes results, each one wrong with a fixed chance."""

    rng: Random
    chance: float  # per operation, in 0..1

    def happens(self) -> bool:
        """Whether this operation goes wrong; draws once."""
        return self.rng.random() < self.chance

    def result(self, value: int, *, low: int = 0) -> int:
        """Write a result, or after a slip one that is off by one or two. Both are kept in low..199.

        Only what follows an earlier slip can lie outside of that range.
        """
        value = min(max(value, low), 199)
        if not self.happens():
            return value
        return self.rng.choice([near for near in (value - 2, value - 1, value + 1, value + 2) if low <= near <= 199])


@dataclass(frozen=True, slots=True)
class Kind:
    """One family of problems."""

    domain: str  # math, code or science
    description: str  # for people, as it stands behind "code is"
    draw: Callable[[Random, int], Statement]  # (rng, level): always ends, may repeat an earlier prompt
    reason: Callable[[Operands, str, Slips], str]  # (operands, style, slips): what follows an opened <think>


def derive_seed(*parts: str | int) -> int:
    """Return 63 bits of sha256 over the parts: the same in every process and on every machine."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
