"""A place in a run of tokens, and what a parser knows of it."""

from dataclasses import dataclass

from data.domains.formulas.nodes import UnreadableError
from data.domains.formulas.notation import CLOSERS, CLOSING


@dataclass(frozen=True, slots=True)
class Reading:
    r"""How to read what has two readings; `units`: an upright word behind a number is a unit, as in science."""

    long_arguments: bool = True  # \sin a b is sin(ab), else sin(a) b
    long_divisors: bool = True  # a/bc is a/(bc), else (a/b)c
    units: bool = False


READINGS = tuple(Reading(arguments, divisors) for arguments in (True, False) for divisors in (True, False))


class Cursor:
    """Tokens, the place in them, and what was seen so far."""

    def __init__(self, items: list[str], reading: Reading, *, depth: int = 0) -> None:
        self.tokens = items
        self.position = 0
        self.depth = depth
        self.reading = reading
        self.has_number = False  # so that an upright m is a metre
        self.differential = ""  # the sign of a derivative, below its line
        self.bars = 0  # open |
        self.is_ambiguous = False

    def peek(self, ahead: int = 0) -> str:
        place = self.position + ahead
        return self.tokens[place] if place < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        if not token:
            raise UnreadableError("ends too early")
        self.position += 1
        return token

    def take(self, *wanted: str) -> bool:
        if self.peek() in wanted and self.peek():
            self.position += 1
            return True
        return False

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise UnreadableError(f"{token!r} is missing")

    def raw_group(self) -> list[str]:
        """The tokens of `{...}`, or one token."""
        if self.peek() != "{":
            return [self.next()]
        depth, start = 0, self.position + 1
        while True:
            if not self.peek() and self.reading.units:  # a brace that the text's end cuts off counts as there
                return self.tokens[start : self.position]
            token = self.next()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return self.tokens[start : self.position - 1]

    def within(self, opening: str) -> tuple[list[str], str]:
        """The tokens up to the bracket that closes, and that bracket; of intervals it may be of the other kind."""
        start, depth = self.position, 0
        while True:
            if not self.peek() and self.reading.units:  # cut off, as above
                return self.tokens[start:], CLOSING.get(opening, "]")
            token = self.next()
            if token in ("(", "[", "{", "\\{") and not (opening == "]" and depth == 0 and token == "["):
                depth += 1
            elif token in CLOSERS or (opening == "]" and depth == 0 and token == "["):
                if depth == 0:
                    closing = token
                    break
                depth -= 1
        if (closing in ("}", "\\}")) != (opening == "\\{"):
            raise UnreadableError(f"{opening!r} is closed by {closing!r}")
        return self.tokens[start : self.position - 1], closing


def outside(items: list[str], wanted: tuple[str, ...]) -> list[int]:
    """The places of signs outside all brackets."""
    depth, places = 0, []
    for place, token in enumerate(items):
        depth += (token in CLOSING) - (token in CLOSERS)
        if depth == 0 and token in wanted:
            places.append(place)
    return places
