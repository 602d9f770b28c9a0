r"""Answers that are different from a gold by construction, one small generator for each kind.

In: a gold without the dollars around it, and a generator of random numbers. Out: mutants. Most come from the tree of
`readings` and are let through only where `comparisons` proves that they differ; the others need no proof (words, choices,
bases, `\cup` for `\cap`). Golds with constants of integration or of a general solution are left out: such a family has
many texts. What a policy of the judge accepts (order of lists, a left side, `50` for `50\%`) is nowhere the only change.
"""

import itertools
import random
import re
from collections.abc import Callable, Iterator

from benchmarks.comparisons import (
    are_different,
    different,
    differs_below_zero,
    has_free_constants,
    is_interval,
    number,
)
from benchmarks.readings import Node, edited, has_unit, names, nodes, parents, read, spelled, values

Generator = Callable[[str, random.Random], Iterator[str]]
MUTANTS: dict[str, Generator] = {}
UNIT_MUTANTS: dict[str, Generator] = {}  # of golds of science: a number and a unit
_OTHER_FUNCTION = {
    "sin": "cos", "cos": "sin", "tan": "cot", "cot": "tan", "sec": "csc", "csc": "sec", "sinh": "cosh", "cosh": "sinh",
    "tanh": "sinh", "arcsin": "arccos", "arccos": "arcsin", "arctan": "arcsin", "ln": "sin", "exp": "cos",
}  # fmt: skip
_OPPOSITES = (
    ("True", "False"),
    ("Yes", "No"),
    ("even", "odd"),
    ("converges", "diverges"),
    ("consistent", "inconsistent"),
)
_WORDS = re.compile(r"(?:\\text\{)?([A-Za-z][a-z]{3,}(?: [A-Za-z]?[a-z]+)*)\}?")
_CHOICE = re.compile(r"(?:\\text\{)?\(?([A-E])\)?\}?")
_RATIO = re.compile(r"(\d+)\s*:\s*(\d+)")
_POWER_OF_TEN = re.compile(r"(-?\d+(?:\.\d+)?[eE])([+-]?\d+)")
_RELATION_SIGN = re.compile(r"<|>|=|\\(?:leqslant|geqslant|leq|geq|lt|gt|le|ge)(?![A-Za-z])")
_FLIPPED = {"<": ">", ">": "<", "\\lt": ">", "\\gt": "<", "\\le": "\\ge", "\\ge": "\\le", "\\leq": "\\geq", "\\geq": "\\leq",
            "\\leqslant": "\\geqslant", "\\geqslant": "\\leqslant"}  # fmt: skip
_STRICTER = {"<": "\\le ", ">": "\\ge ", "\\lt": "\\le ", "\\gt": "\\ge ", "\\le": "<", "\\ge": ">", "\\leq": "<", "\\geq": ">",
             "\\leqslant": "<", "\\geqslant": ">"}  # fmt: skip


def _proved(generator: Generator) -> Generator:
    """Only what surely differs, of golds without free constants."""

    def proved(gold: str, rng: random.Random) -> Iterator[str]:
        if not has_free_constants(gold):
            yield from (mutant for mutant in generator(gold, rng) if are_different(gold, mutant))

    MUTANTS[generator.__name__] = proved
    return proved


def _certain(generator: Generator) -> Generator:
    """Differs whatever it stands for: the generator has looked itself."""
    MUTANTS[generator.__name__] = generator
    return generator


def _of_unit(generator: Generator) -> Generator:
    UNIT_MUTANTS[generator.__name__] = generator
    return generator


# ---------------------------------------------------------------- digits


def _numbers(gold: str) -> list[Node]:
    """Numbers written without separators."""
    return [node for node in nodes(gold, "number") if spelled(gold, node) == node.mark]


def _other_digit(digit: str, rng: random.Random, *, first: bool = False) -> str:
    return rng.choice([other for other in "0123456789"[first:] if other != digit])


@_proved
def last_digit_changed(gold: str, rng: random.Random) -> Iterator[str]:
    for node in _numbers(gold):
        only = len(node.mark) == 1
        yield edited(gold, node, node.mark[:-1] + _other_digit(node.mark[-1], rng, first=only))


@_proved
def first_digit_changed(gold: str, rng: random.Random) -> Iterator[str]:
    for node in _numbers(gold):
        if len(node.mark) > 1 and node.mark[0].isdigit():
            yield edited(gold, node, _other_digit(node.mark[0], rng, first=True) + node.mark[1:])


@_proved
def digit_added(gold: str, rng: random.Random) -> Iterator[str]:
    for node in _numbers(gold):
        if node.mark != "0" and not _is_bare(gold, node):
            yield edited(gold, node, node.mark + rng.choice("123456789"))


@_proved
def digit_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in _numbers(gold):
        place = rng.randrange(len(node.mark))
        left = node.mark[:place] + node.mark[place + 1 :]
        if node.mark.isdigit() and left and left[0] != "0":
            yield edited(gold, node, left)


@_proved
def digits_transposed(gold: str, rng: random.Random) -> Iterator[str]:
    for node in _numbers(gold):
        for place in range(len(node.mark) - 1):
            one, other = node.mark[place : place + 2]
            if one.isdigit() and other.isdigit() and one != other and not (place == 0 and other == "0"):
                yield edited(gold, node, node.mark[:place] + other + one + node.mark[place + 2 :])


@_proved
def decimal_point_moved(gold: str, rng: random.Random) -> Iterator[str]:
    for node in _numbers(gold):
        whole, _, rest = node.mark.partition(".")
        if len(whole) > 1:
            yield edited(gold, node, f"{whole[:-1]}.{whole[-1]}{rest}")
        elif rest and whole:
            yield edited(gold, node, f"{int(whole + rest[0])}.{rest[1:]}".rstrip("."))


@_certain
def power_of_ten_changed(gold: str, rng: random.Random) -> Iterator[str]:
    if match := _POWER_OF_TEN.fullmatch(gold):
        for by in (-2, -1, 1, 2):
            yield f"{match[1]}{int(match[2]) + by}"


def _is_bare(gold: str, node: Node) -> bool:
    r"""An argument of one digit without braces, which cannot have two: `x^2`, `\frac12`."""
    before = gold[: node.start].rstrip()
    return before.endswith(("^", "_", "\\frac", "\\sqrt")) or re.search(r"\\[dt]?frac\s*\S$", before) is not None


# ---------------------------------------------------------------- terms and factors


@_proved
def difference_swapped(gold: str, rng: random.Random) -> Iterator[str]:
    """`b - a` for `a - b`."""
    for node in nodes(gold, "sum"):
        for (left, sign), (right, other) in itertools.combinations(zip(node.parts, node.mark, strict=True), 2):
            if {sign, other} == {"+", "-"}:
                yield _swapped(gold, left, right)


def _swapped(gold: str, left: Node, right: Node) -> str:
    between = gold[left.end : right.start]
    return edited(gold, Node("", left.start, right.end), spelled(gold, right) + between + spelled(gold, left))


@_proved
def term_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "sum"):
        for place in range(1, len(node.parts)):
            yield edited(gold, Node("", node.parts[place - 1].end, node.parts[place].end), "")
        if len(node.parts) > 1:
            sign = "" if node.mark[1] == "+" else "-" if node.mark[1] == "-" else "\\pm "
            yield edited(gold, Node("", node.start, node.parts[1].start), sign)


@_proved
def factor_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "product"):
        for place, part in enumerate(node.parts):
            if has_unit(part) or (place == 0 and node.mark[0] == "/"):
                continue
            start = node.parts[place - 1].end if place else node.start
            yield edited(gold, Node("", start, part.end if place else node.parts[1].start), "")


@_proved
def sign_changed(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "sum"):
        for place in range(1, len(node.parts)):
            if node.mark[place] in "+-":
                between = Node("", node.parts[place - 1].end, node.parts[place].start)
                yield edited(gold, between, spelled(gold, between).translate(str.maketrans("+-", "-+")))


@_proved
def product_for_sum(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "sum"):
        for place in range(1, len(node.parts)):
            if node.mark[place] == "+":
                yield edited(gold, Node("", node.parts[place - 1].end, node.parts[place].start), " \\cdot ")


@_proved
def fraction_turned_over(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "fraction"):
        above, below = (spelled(gold, part) for part in node.parts)
        yield edited(gold, node, f"\\frac{{{below}}}{{{above}}}")


@_proved
def quotient_turned_over(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "product"):
        if node.mark.count("/") == 1 and node.mark.endswith("/") and not has_unit(node):
            above = spelled(gold, Node("", node.start, node.parts[-2].end))
            yield edited(gold, node, f"{spelled(gold, node.parts[-1])}/({above})")


def _powers(gold: str) -> list[Node]:
    return [node for node in nodes(gold, "power") if not has_unit(node)]


@_proved
def power_swapped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in _powers(gold):
        base, exponent = (spelled(gold, part) for part in node.parts)
        yield edited(gold, node, f"({exponent})^{{{base}}}")


@_proved
def exponent_changed(gold: str, rng: random.Random) -> Iterator[str]:
    for node in _powers(gold):
        exponent = node.parts[1]
        if exponent.kind == "number" and exponent.mark.isdigit():
            for by in (-1, 1):
                changed = str(int(exponent.mark) + by)
                yield edited(gold, exponent, f"{{{changed}}}" if _is_bare(gold, exponent) else changed)


@_proved
def brackets_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "group"):
        if node.mark == "(" and node.parts[0].kind in ("sum", "product") and "\\circ" not in gold:
            yield edited(gold, node, spelled(gold, node.parts[0]))


@_proved
def radical_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "root"):
        inner = spelled(gold, node.parts[0])
        yield edited(gold, node, f"({inner})" if node.parts[0].kind in ("sum", "product") else f" \\cdot {inner}")
        yield edited(gold, node, inner)


@_proved
def radicand_changed(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "root"):
        if node.parts[0].kind == "number" and node.parts[0].mark.isdigit():
            changed = str(int(node.parts[0].mark) + rng.choice((1, 2, 3)))
            bare = _is_bare(gold, node.parts[0])
            yield edited(gold, node.parts[0], f"{{{changed}}}" if bare else changed)


@_proved
def index_of_root_changed(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "root"):
        inner, index = spelled(gold, node.parts[0]), node.parts[1].mark if len(node.parts) > 1 else "2"
        if index.isdigit():
            yield edited(gold, node, f"\\sqrt[{int(index) + 1}]{{{inner}}}")


@_proved
def radical_moved(gold: str, rng: random.Random) -> Iterator[str]:
    r"""`3\sqrt{2}` for `2\sqrt{3}`."""
    for node in nodes(gold, "product"):
        for left, right in itertools.pairwise(node.parts):
            if left.kind == "number" and right.kind == "root" and len(right.parts) == 1:
                inner = spelled(gold, right.parts[0])
                root = f"({inner})" if right.parts[0].kind != "number" else inner
                yield edited(gold, Node("", left.start, right.end), f"{root}\\sqrt{{{left.mark}}}")


# ---------------------------------------------------------------- functions, letters, constants


@_proved
def function_replaced(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "call"):
        text = spelled(gold, node)
        yield edited(gold, node, text.replace(f"\\{node.mark}", f"\\{_OTHER_FUNCTION[node.mark]}", 1))


@_proved
def argument_changed(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "call", "log"):
        inner = node.parts[0]
        text = spelled(gold, inner.parts[0] if inner.kind in ("group", "absolute") else inner)
        yield edited(gold, inner, f"({text} + 1)")
        yield edited(gold, inner, f"(2 \\cdot ({text}))")


@_proved
def base_of_logarithm_changed(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "log"):
        if len(node.parts) > 1 and node.parts[1].kind == "number":
            yield edited(gold, node.parts[1], f"{{{int(float(node.parts[1].mark)) + 1}}}")


@_proved
def factorial_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "factorial"):
        yield edited(gold, node, spelled(gold, node.parts[0]))


@_certain
def absolute_value_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    """Not within a logarithm, where it is often left out."""
    for node in nodes(gold, "absolute"):
        above = parents(gold, node)
        mutant = edited(gold, node, f"({spelled(gold, node.parts[0])})")
        if not {"log", "call"} & {one.kind for one in above} and differs_below_zero(gold, mutant):
            yield mutant


@_proved
def index_changed(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "name"):
        text = spelled(gold, node)
        if any(one.kind == "relation" for one in parents(gold, node)):
            continue
        if match := re.search(r"_\s*\{?\s*(\d)\s*\}?$", text):
            changed = _other_digit(match[1], rng)
            yield edited(gold, node, text[: match.start(1)] + changed + text[match.end(1) :])


@_proved
def variable_replaced(gold: str, rng: random.Random) -> Iterator[str]:
    """One occurrence, of a letter without an index, by another letter of the gold or a new one; no equation."""
    tree = read(gold)
    if tree is None or nodes(gold, "relation"):
        return
    for node in nodes(gold, "name"):
        if "_" not in node.mark:
            others = sorted((names(tree) | {"w", "z"}) - {node.mark})
            yield edited(gold, node, rng.choice([other for other in others if "_" not in other]))


@_proved
def pi_replaced_by_e(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "constant"):
        if node.mark == "π":
            yield edited(gold, node, "e")


@_proved
def conjugated(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "constant"):
        if node.mark == "i":
            yield edited(gold, node, "(-i)")


@_certain
def base_of_number_changed(gold: str, rng: random.Random) -> Iterator[str]:
    """Of numbers with more than one digit; one of a single digit is the same in every base."""
    for node in nodes(gold, "based"):
        digits, _, base = node.mark.partition("_")
        others = [other for other in range(int(max(digits)) + 1, 12) if other > 1 and other != int(base)]
        if len(digits) > 1 and others:
            yield edited(gold, node, f"{digits}_{{{rng.choice(others)}}}")


# ---------------------------------------------------------------- the whole answer


@_proved
def negated(gold: str, rng: random.Random) -> Iterator[str]:
    for node in [] if _CHOICE.fullmatch(gold) else values(gold):
        text = spelled(gold, node)
        if node.kind == "sum":
            one = len(node.parts) == 1
            yield edited(gold, node, spelled(gold, node.parts[0]) if one else f"-({text})")
        else:
            yield edited(gold, node, f"-{text}")


@_proved
def one_added(gold: str, rng: random.Random) -> Iterator[str]:
    for node in values(gold):
        yield edited(gold, node, f"{spelled(gold, node)} + 1")


@_proved
def doubled(gold: str, rng: random.Random) -> Iterator[str]:
    for node in values(gold):
        yield edited(gold, node, f"2({spelled(gold, node)})")


@_proved
def halved(gold: str, rng: random.Random) -> Iterator[str]:
    for node in values(gold):
        yield edited(gold, node, f"\\frac{{{spelled(gold, node)}}}{{2}}")


@_proved
def reciprocal(gold: str, rng: random.Random) -> Iterator[str]:
    for node in values(gold):
        yield edited(gold, node, f"\\frac{{1}}{{{spelled(gold, node)}}}")


@_proved
def squared(gold: str, rng: random.Random) -> Iterator[str]:
    for node in values(gold):
        yield edited(gold, node, f"({spelled(gold, node)})^2")


@_proved
def plus_minus_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    for match in re.finditer(r"\\pm(?![A-Za-z])", gold):
        for sign in "+-":
            yield gold[: match.start()] + sign + gold[match.end() :]


# ---------------------------------------------------------------- lists, tuples, matrices


@_proved
def coordinates_swapped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "tuple"):
        if not is_interval(node):
            for left, right in itertools.combinations(node.parts, 2):
                yield _swapped(gold, left, right)


@_proved
def coordinate_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "tuple"):
        for place in range(1, len(node.parts) if len(node.parts) > 2 else 0):
            yield edited(gold, Node("", node.parts[place - 1].end, node.parts[place].end), "")


@_proved
def item_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "list", "set"):
        for place in range(1, len(node.parts)):
            yield edited(gold, Node("", node.parts[place - 1].end, node.parts[place].end), "")
        if len(node.parts) > 1:
            yield edited(gold, Node("", node.parts[0].start, node.parts[1].start), "")


@_proved
def item_repeated_changed(gold: str, rng: random.Random) -> Iterator[str]:
    """One item becomes a copy of another: the set is smaller."""
    for node in nodes(gold, "list", "set"):
        for left, right in itertools.permutations(node.parts, 2):
            yield edited(gold, left, spelled(gold, right))


@_proved
def item_added(gold: str, rng: random.Random) -> Iterator[str]:
    tree = read(gold)
    if tree is not None and tree.kind in ("list", "number", "fraction", "root"):
        yield f"{gold}, {rng.randrange(1000, 9999)}.5"


@_proved
def matrix_entries_swapped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "matrix"):
        cells = [cell for row in node.parts for cell in row.parts]
        for left, right in itertools.pairwise(cells):
            yield _swapped(gold, left, right)


@_certain
def matrix_transposed(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "matrix"):
        if len({len(row.parts) for row in node.parts}) == 1:
            columns = list(zip(*(row.parts for row in node.parts), strict=True))
            body = " \\\\ ".join(" & ".join(spelled(gold, cell) for cell in column) for column in columns)
            mutant = edited(gold, node, f"\\begin{{{node.mark}}} {body} \\end{{{node.mark}}}")
            square = len(columns) == len(node.parts)
            if are_different(gold, mutant) if square else min(len(columns), len(node.parts)) > 1:
                yield mutant  # a vector may be written as a row or as a column


# ---------------------------------------------------------------- intervals and relations


@_proved
def bracket_kind_changed(gold: str, rng: random.Random) -> Iterator[str]:
    """At a finite end of what is surely an interval."""
    for node in nodes(gold, "tuple"):
        if is_interval(node) or "union" in {one.kind for one in parents(gold, node)}:
            text = spelled(gold, node)
            for place, end in ((text.find(node.mark[0]), node.parts[0]), (len(text) - 1, node.parts[1])):
                if "infinity" not in {end.kind, *(part.kind for part in end.parts)}:
                    turned = text[place].translate(str.maketrans("()[]", "[]()"))
                    yield edited(gold, node, text[:place] + turned + text[place + 1 :])


@_proved
def half_line_turned(gold: str, rng: random.Random) -> Iterator[str]:
    r"""`(3, \infty)` for `(-\infty, 3)`."""
    for node in nodes(gold, "tuple"):
        if is_interval(node) and number(node.parts[0]) is None and number(node.parts[1]) is not None:
            yield edited(gold, node, f"{node.mark[0]}{spelled(gold, node.parts[1])}, \\infty)")
        if is_interval(node) and number(node.parts[1]) is None and number(node.parts[0]) is not None:
            yield edited(gold, node, f"(-\\infty, {spelled(gold, node.parts[0])}{node.mark[1]}")


@_proved
def interval_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "union"):
        for place in range(1, len(node.parts) if len(node.parts) > 2 else 0):
            yield edited(gold, Node("", node.parts[place - 1].end, node.parts[place].end), "")


@_certain
def intersection_for_union(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "union"):
        if any(different(*pair) for pair in itertools.combinations(node.parts, 2)):
            yield edited(gold, node, spelled(gold, node).replace("\\cup", "\\cap"))


def _relation_signs(gold: str) -> Iterator[re.Match[str]]:
    return _RELATION_SIGN.finditer(gold) if nodes(gold, "relation") else iter(())


@_proved
def relation_flipped(gold: str, rng: random.Random) -> Iterator[str]:
    mutant = _RELATION_SIGN.sub(lambda match: f"{_FLIPPED.get(match[0], match[0])} ", gold)
    if list(_relation_signs(gold)):
        yield mutant


@_proved
def strictness_changed(gold: str, rng: random.Random) -> Iterator[str]:
    for match in _relation_signs(gold):
        if match[0] in _STRICTER:
            yield gold[: match.start()] + _STRICTER[match[0]] + gold[match.end() :]


@_certain
def equality_negated(gold: str, rng: random.Random) -> Iterator[str]:
    tree = read(gold)
    if tree is not None and tree.kind == "relation" and tree.mark == "=" and tree.parts[0].kind in ("name", "heading"):
        yield gold.replace("=", "\\ne ", 1)


# ---------------------------------------------------------------- words and choices


@_certain
def letters_permuted(gold: str, rng: random.Random) -> Iterator[str]:
    for match in _words(gold):
        letters = list(match[1])
        for _ in range(3):
            rng.shuffle(letters)
            if "".join(letters).lower() != match[1].lower():
                yield gold.replace(match[1], "".join(letters).strip())


@_certain
def letters_reversed(gold: str, rng: random.Random) -> Iterator[str]:
    for match in _words(gold):
        if match[1].lower() != match[1][::-1].lower():
            yield gold.replace(match[1], match[1][::-1])


@_certain
def letter_replaced(gold: str, rng: random.Random) -> Iterator[str]:
    for match in _words(gold):
        place = rng.randrange(len(match[1]))
        other = rng.choice([letter for letter in "bdfgkmptvz" if letter != match[1][place].lower()])
        yield gold.replace(match[1], match[1][:place] + other + match[1][place + 1 :])


def _words(gold: str) -> list[re.Match[str]]:
    """A gold that is words, and surely no product of letters."""
    match = _WORDS.fullmatch(gold)
    return [match] if match and re.search("[aeiou]", match[1]) and set(match[1]) - set("abcdxyz") else []


@_certain
def opposite_word(gold: str, rng: random.Random) -> Iterator[str]:
    for pair in _OPPOSITES:
        for word, other in (pair, pair[::-1]):
            if gold.removeprefix("\\text{").removesuffix("}").lower() == word.lower():
                yield other


@_certain
def choice_changed(gold: str, rng: random.Random) -> Iterator[str]:
    if match := _CHOICE.fullmatch(gold):
        for other in "ABCDE":
            if other != match[1]:
                yield gold[: match.start(1)] + other + gold[match.end(1) :]


@_certain
def ratio_turned_over(gold: str, rng: random.Random) -> Iterator[str]:
    if (match := _RATIO.fullmatch(gold)) and match[1] != match[2]:
        yield f"{match[2]}:{match[1]}"
        yield f"{match[1]}:{int(match[2]) + 1}"


# ---------------------------------------------------------------- units

_DIMENSIONS = (  # units of different dimension, and within a row of different size
    ("m", "cm", "km", "mm"), ("s", "ms", "h"), ("kg", "g", "mg"), ("J", "kJ", "MJ"), ("K",), ("V", "mV", "kV"), ("A", "mA"),
    ("N", "kN"), ("W", "kW", "MW"), ("Hz", "kHz"), ("Pa", "kPa"), ("C",), ("T",), ("mol",),
)  # fmt: skip
QUANTITY = re.compile(
    r"(?P<number>-?\d+(?:\.\d+)?(?:\s*\\times\s*10\^\{?-?\d+\}?)?)(?P<space>\s*\\?[,~]?\s*)"
    r"(?P<open>(?:\\(?:mathrm|text)\s*\{\s*~?\s*)?)(?P<unit>[A-Za-z]+)(?P<close>\}?)"
)


def _units(gold: str) -> tuple[re.Match[str], tuple[str, ...]] | None:
    match = QUANTITY.fullmatch(gold)
    for row in _DIMENSIONS:
        if match and match["unit"] in row and float(re.match(r"[-\d.]+", match["number"])[0]):
            return match, row
    return None


@_of_unit
def unit_of_other_dimension(gold: str, rng: random.Random) -> Iterator[str]:
    if found := _units(gold):
        match, _ = found
        for other in rng.sample([row[0] for row in _DIMENSIONS if match["unit"] not in row], 6):
            yield gold[: match.start("unit")] + other + gold[match.end("unit") :]


@_of_unit
def unit_of_other_size(gold: str, rng: random.Random) -> Iterator[str]:
    if found := _units(gold):
        match, row = found
        for other in row:
            if other != match["unit"]:
                yield gold[: match.start("unit")] + other + gold[match.end("unit") :]


@_of_unit
def number_of_unit_changed(gold: str, rng: random.Random) -> Iterator[str]:
    if found := _units(gold):
        match, _ = found
        for factor in ("10", "0.1", "2", "-1"):
            plain = re.match(r"[-\d.]+", match["number"])
            changed = float(plain[0]) * float(factor)
            yield f"{changed:.12g}" + gold[plain.end() :]
