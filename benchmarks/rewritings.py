r"""Answers that say the same as a gold by construction, one small generator for each kind.

In: a gold without the dollars around it, and a generator of random numbers. Out: rewritings. What `readings` can read is let
through only where `comparisons` proves it the same; the rest is notation that it does not know (Unicode, `\boldsymbol`).
"""

import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from benchmarks.comparisons import are_same
from benchmarks.readings import Node, edited, has_unit, nodes, read, spelled, values

Generator = Callable[[str, random.Random], Iterator[str]]
REWRITINGS: dict[str, Generator] = {}
_NEXT = r"(?![A-Za-z])"
_TIGHT = r"\\text|matrix|\d,\d{3}(?!\d)|\d[eE][+-]?\d"  # where white space around signs would not be the same
_UNSIZED = r"(?<!\\left)(?<!\\right)"
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
_VULGAR = {
    ("1", "2"): "½", ("1", "3"): "⅓", ("2", "3"): "⅔", ("1", "4"): "¼", ("3", "4"): "¾", ("1", "5"): "⅕", ("1", "8"): "⅛",
}  # fmt: skip
_FLIPPED = str.maketrans("<>≤≥", "><≥≤")
_SIGNS = {"<": "<", ">": ">", "≤": "\\le", "≥": "\\ge", "=": "="}
_SYMBOLS = {
    "pi_unicode": (rf"\\pi{_NEXT}\s*", "π"), "theta_unicode": (rf"\\theta{_NEXT}\s*", "θ"),
    "times_unicode": (rf"\s*\\times{_NEXT}\s*", "×"), "dot_unicode": (rf"\s*\\cdot{_NEXT}\s*", "·"),
    "times_for_dot": (r"(?<=\d)\s*\\cdot(?=\s*\d)", r"\\times"), "dot_for_times": (r"(?<=\d)\s*\\times(?=\s*\d)", r"\\cdot"),
    "infinity_unicode": (rf"\\infty{_NEXT}", "∞"), "union_unicode": (rf"\\cup{_NEXT}", "∪"),
    "plus_infinity": (rf"(?<![-+])(?<!- )\\infty{_NEXT}", r"+\\infty"), "plus_minus_unicode": (rf"\\pm{_NEXT}\s*", "±"),
    "at_most_unicode": (rf"\\le(?:q|qslant)?{_NEXT}\s*", "≤"), "at_least_unicode": (rf"\\ge(?:q|qslant)?{_NEXT}\s*", "≥"),
    "relations_short": (rf"\\(le|ge)q{_NEXT}", r"\\\1"), "relations_long": (rf"\\(le|ge){_NEXT}", r"\\\1q"),
    "relations_slanted": (rf"\\(le|ge)q?{_NEXT}", r"\\\1qslant"), "relations_as_letters": (r"<", r"\\lt "),
    "empty_set": (rf"\\emptyset{_NEXT}", r"\\varnothing"), "braces_spelled": (r"\\([{}])", lambda m: f"\\{'lr'[m[1] == '}']}brace "),
    "braces_sized": (rf"{_UNSIZED}\\([{{}}])", lambda m: f"\\{('left', 'right')[m[1] == '}']}\\{m[1]}"),
    "degree_unicode": (r"\s*\^\s*\{?\s*\\circ\s*\}?", "°"), "degree_braced": (r"\^\s*\\circ", r"^{\\circ}"),
    "percent_unescaped": (r"\\%", "%"), "percent_escaped": (r"(?<!\\)%", r"\\%"),
    "fractions_large": (r"\\[dt]?frac", r"\\dfrac"), "fractions_small": (r"\\[dt]?frac", r"\\tfrac"),
    "fractions_plain": (r"\\[dt]frac", r"\\frac"), "fractions_short": (r"\\([dt]?frac)\{(\d)\}\{(\d)\}", r"\\\1\2\3"),
    "roots_short": (r"\\sqrt\{(\d)\}(?!\s*\d)", r"\\sqrt\1"), "exponents_braced": (r"\^(\d)(?!\d)", r"^{\1}"),
    "exponents_unbraced": (r"\^\{(\d)\}(?!\s*\d)", r"^\1"), "brackets_unsized": (r"\\(?:left|right)(?=[()\[\]|])\s*", ""),
    "brackets_to_big": (r"\\(left|right)(?=[()\[\]])\s*", lambda m: f"\\big{m[1][0]}"),
    "matrix_brackets": (r"\{([pb])matrix\}", lambda m: f"{{{'bp'['pb'.index(m[1])]}matrix}}"),
    "thin_spaces_after_commas": (r"(?<=[^\d\\{]),\s*|,\s+", r",\\, "), "full_width_commas": (r"(?<![\d{]),\s*(?!\\!)|,\s+", "，"),
    "logarithm_upright": (rf"\\ln{_NEXT}", r"\\operatorname{ln}"), "functions_upright": (rf"\\(sin|cos|tan){_NEXT}", r"\\mathrm{\1}"),
}  # fmt: skip


def _proved(generator: Generator) -> Generator:
    """Only another text that is surely the same."""

    def proved(gold: str, rng: random.Random) -> Iterator[str]:
        yield from (text for text in generator(gold, rng) if text != gold and are_same(gold, text))

    REWRITINGS[generator.__name__] = proved
    return proved


def _notation(generator: Generator) -> Generator:
    """As `_proved`, but where the text cannot be read it is notation that means the same by convention."""

    def checked(gold: str, rng: random.Random) -> Iterator[str]:
        for text in generator(gold, rng):
            if text != gold and (read(text) is None or read(gold) is None or are_same(gold, text)):
                yield text

    REWRITINGS[generator.__name__] = checked
    return checked


def _certain(generator: Generator) -> Generator:
    """The same whatever it stands for."""
    REWRITINGS[generator.__name__] = generator
    return generator


def _substituted(name: str, pattern: str, new: str | Callable[[re.Match[str]], str]) -> None:
    """A kind that replaces one notation by another all over a gold that can be read."""

    def generator(gold: str, _: random.Random) -> Iterator[str]:
        if read(gold) is not None and re.search(pattern, gold) and "\\text" not in gold:
            yield re.sub(pattern, new, gold)

    generator.__name__ = name
    _notation(generator)


for _name, (_pattern, _new) in _SYMBOLS.items():
    _substituted(_name, _pattern, _new)


def _wrapped(gold: str, node: Node) -> str:
    """A node as a factor: sums, functions and signs get brackets."""
    text = spelled(gold, node)
    return f"({text})" if node.kind in ("sum", "call", "log", "product", "relation") else text


# ---------------------------------------------------------------- around the whole answer


@_notation
def full_stop(gold: str, rng: random.Random) -> Iterator[str]:
    if not gold.endswith("."):
        yield f"{gold}."


@_notation
def dollars(gold: str, rng: random.Random) -> Iterator[str]:
    if read(gold) is not None:
        yield f"${gold}$"
        yield f"\\({gold}\\)"


@_notation
def display_style(gold: str, rng: random.Random) -> Iterator[str]:
    if nodes(gold, "fraction"):
        yield f"\\displaystyle {gold}"


@_notation
def white_space_around(gold: str, rng: random.Random) -> Iterator[str]:
    yield f" {gold} "
    yield f"\n{gold}\n"


@_notation
def braces_around(gold: str, rng: random.Random) -> Iterator[str]:
    if read(gold) is not None:
        yield f"{{{gold}}}"


@_proved
def brackets_around_sum(gold: str, rng: random.Random) -> Iterator[str]:
    tree = read(gold)
    if tree is not None and tree.kind in ("sum", "fraction"):
        yield f"({gold})"
        yield f"\\left({gold}\\right)"


@_notation
def bold(gold: str, rng: random.Random) -> Iterator[str]:
    if _is_number(gold):
        yield f"**{gold}**"
        yield f"\\mathbf{{{gold}}}"
        yield f"\\boldsymbol{{{gold}}}"


@_notation
def words_before(gold: str, rng: random.Random) -> Iterator[str]:
    if _is_number(gold) or nodes(gold, "fraction"):
        yield f"答案是{gold}"
        yield f"\\text{{The answer is }} {gold}"


@_notation
def plus_before(gold: str, rng: random.Random) -> Iterator[str]:
    if _is_number(gold) and not gold.startswith("-"):
        yield f"+{gold}"


@_certain
def number_in_text(gold: str, rng: random.Random) -> Iterator[str]:
    if _is_number(gold):
        yield f"\\text{{{gold}}}"
        yield f"\\mathrm{{{gold}}}"


def _is_number(gold: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", gold) is not None


# ---------------------------------------------------------------- white space, brackets, atoms


@_notation
def spaces_added(gold: str, rng: random.Random) -> Iterator[str]:
    if nodes(gold, "sum", "relation", "tuple", "union") and not re.search(_TIGHT, gold):
        yield re.sub(r"\s*([-+=<>]|(?<!\\),)\s*", r" \1 ", gold).strip()
        yield re.sub(r"\s*([=<>()+])\s*(?!\.)", r" \1 ", gold).strip()


@_notation
def spaces_removed(gold: str, rng: random.Random) -> Iterator[str]:
    if read(gold) is not None and "\\text" not in gold and " " in gold:
        yield re.sub(r"(\\[A-Za-z]+)\s+(?=[A-Za-z])|(?<!\\)\s+", lambda match: f"{match[1]} " if match[1] else "", gold)


@_notation
def thin_spaces(gold: str, rng: random.Random) -> Iterator[str]:
    """Between side by side factors, and around signs."""
    for node in nodes(gold, "product"):
        if " " in node.mark:
            place = node.mark.index(" ")
            yield edited(gold, Node("", node.parts[place].end, node.parts[place + 1].start), "\\,")


@_notation
def brackets_sized(gold: str, rng: random.Random) -> Iterator[str]:
    if read(gold) is None or re.search(r"\\left|[\[\]]", gold):
        return
    for left, right in (("\\left(", "\\right)"), ("\\bigl(", "\\bigr)"), ("\\left( ", " \\right)")):
        yield gold.replace("(", left).replace(")", right)


@_notation
def interval_brackets_sized(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "tuple"):
        text = spelled(gold, node)
        if text[0] == node.mark[0] and "\\left" not in gold:
            yield edited(gold, node, f"\\left{text[:-1]}\\right{text[-1]}")


@_notation
def brackets_full_width(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "tuple"):
        text = spelled(gold, node)
        if node.mark == "()" and text.count("(") == 1 and text.startswith("("):
            yield edited(gold, node, f"（{text[1:-1]}）")
            yield edited(gold, node, f"（{text[1:-1].replace(',', '，')}）")


@_notation
def atoms_braced(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "name", "number"):
        yield edited(gold, node, f"{{{spelled(gold, node)}}}")


@_notation
def constants_upright(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "constant"):
        if spelled(gold, node) in ("e", "i"):
            yield edited(gold, node, f"\\mathrm{{{node.mark}}}")


@_proved
def bars_spelled(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "absolute"):
        inner = spelled(gold, node.parts[0])
        if "|" not in inner:
            yield edited(gold, node, f"\\lvert {inner}\\rvert ")
            yield edited(gold, node, f"\\left|{inner}\\right|")


@_proved
def function_brackets(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "call", "log"):
        if node.parts[0].kind not in ("group", "absolute"):
            yield edited(gold, node.parts[0], f"({spelled(gold, node.parts[0])})")


# ---------------------------------------------------------------- numbers


@_notation
def minus_unicode(gold: str, rng: random.Random) -> Iterator[str]:
    if read(gold) is not None and "-" in gold and not re.search(_TIGHT, gold):
        yield gold.replace("-", "−")


@_notation
def digits_full_width(gold: str, rng: random.Random) -> Iterator[str]:
    if _is_number(gold):
        yield gold.translate(_FULL_WIDTH)


@_notation
def thousands_separated(gold: str, rng: random.Random) -> Iterator[str]:
    if re.fullmatch(r"-?\d{4,}", gold):
        for separator in (",", "{,}", "\\,", ",\\!"):
            yield f"{int(gold):,}".replace(",", separator)


@_proved
def thousands_joined(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "number"):
        if re.search(r"\d\D+\d{3}", spelled(gold, node)):
            yield edited(gold, node, node.mark)


@_proved
def trailing_zeros(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "number"):
        if "." in node.mark:
            yield edited(gold, node, f"{spelled(gold, node)}{rng.choice(('0', '00'))}")


@_notation
def whole_number_as_decimal(gold: str, rng: random.Random) -> Iterator[str]:
    if re.fullmatch(r"-?\d+", gold):
        yield f"{gold}.0"


@_notation
def leading_zero_dropped(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "number"):
        if node.mark.startswith("0.") and spelled(gold, node) == node.mark:
            yield edited(gold, node, node.mark[1:])


@_proved
def decimal_for_fraction(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "fraction"):
        if (exact := _ratio(node)) is not None and (10**4) % exact.denominator == 0 and _stands_alone(gold, node):
            yield edited(gold, node, f"{float(exact):.10f}".rstrip("0").rstrip("."))


@_proved
def fraction_for_decimal(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "number"):
        exact = Fraction(node.mark)
        if re.fullmatch(r"\d*\.\d{1,5}", node.mark) and exact.denominator > 1 and _stands_alone(gold, node):
            yield edited(gold, node, f"\\frac{{{exact.numerator}}}{{{exact.denominator}}}")


@_proved
def fraction_unreduced(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "fraction"):
        if _ratio(node) is not None:
            above, below, by = int(node.parts[0].mark), int(node.parts[1].mark), rng.choice((2, 3, 5))
            yield edited(gold, node, f"\\frac{{{above * by}}}{{{below * by}}}")


@_notation
def mixed_number(gold: str, rng: random.Random) -> Iterator[str]:
    if match := re.fullmatch(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}", gold):
        whole, rest = divmod(int(match[2]), int(match[3]))
        if whole and rest:
            yield f"{match[1]}{whole}\\frac{{{rest}}}{{{match[3]}}}"


@_notation
def vulgar_fraction(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "fraction"):
        one = _VULGAR.get(tuple(part.mark for part in node.parts))
        if one is not None and _ratio(node) is not None and _stands_alone(gold, node):
            yield edited(gold, node, one)


def _ratio(node: Node) -> Fraction | None:
    """The value of a fraction of whole numbers."""
    above, below = (part.mark if part.kind == "number" else "" for part in node.parts)
    return Fraction(int(above), int(below)) if above.isdigit() and below.isdigit() and int(below) else None


def _stands_alone(gold: str, node: Node) -> bool:
    """Nothing before or after it that another notation would run into."""
    return not re.search(r"[\w})\]^]\s*$", gold[: node.start]) and not re.match(r"\s*[\d^_.(]", gold[node.end :])


# ---------------------------------------------------------------- sums, products, fractions, powers


@_proved
def terms_commuted(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "sum"):
        terms = list(zip(node.mark, node.parts, strict=True))
        rng.shuffle(terms)
        text = " ".join(f"{sign} {spelled(gold, part)}" for sign, part in terms).replace("±", "\\pm")
        if len(terms) > 1:
            yield edited(
                gold, node, text.removeprefix("+ ").replace("- ", "-", 1) if text[0] == "-" else text.removeprefix("+ ")
            )


@_proved
def factors_commuted(gold: str, rng: random.Random) -> Iterator[str]:
    """Capital letters side by side may be matrices, and stay."""
    for node in nodes(gold, "product"):
        capitals = sum(part.mark[:1].isupper() for part in node.parts)
        if "/" not in node.mark and not has_unit(node) and capitals < 2:
            yield edited(gold, node, " \\cdot ".join(_wrapped(gold, part) for part in reversed(node.parts)))


@_proved
def product_sign(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "product"):
        for place, sign in enumerate(node.mark):
            if sign == " " and not has_unit(node.parts[place]) and not has_unit(node.parts[place + 1]):
                between = Node("", node.parts[place].end, node.parts[place + 1].start)
                signs = (" \\cdot ", "*", " \\times ") if node.parts[place].kind == "number" else (" \\cdot ", "*")
                yield edited(gold, between, rng.choice(signs))


@_proved
def difference_as_sum(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "sum"):
        for place in range(1, len(node.parts)):
            if node.mark[place] == "-":
                part = node.parts[place]
                yield edited(gold, Node("", node.parts[place - 1].end, part.end), f" + (-{spelled(gold, part)})")


@_proved
def solidus_for_fraction(gold: str, rng: random.Random) -> Iterator[str]:
    for node in values(gold):
        for part in (node, *(node.parts if node.kind == "sum" else ())):
            if part.kind == "fraction":
                above, below = (
                    spelled(gold, one) if one.kind in ("number", "name") else f"({spelled(gold, one)})"
                    for one in part.parts
                )
                yield edited(gold, part, f"{above}/{below}")


@_proved
def fraction_for_solidus(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "product"):
        if node.mark.count("/") == 1 and node.mark.endswith("/") and not has_unit(node):
            above = spelled(gold, Node("", node.start, node.parts[-2].end))
            yield edited(gold, node, f"\\frac{{{above}}}{{{spelled(gold, node.parts[-1])}}}")


@_proved
def minus_into_numerator(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "sum"):
        if node.mark == "-" and node.parts[0].kind == "fraction":
            above, below = node.parts[0].parts
            yield edited(
                gold,
                node,
                f"\\frac{{-{_wrapped(gold, above) if above.kind == 'sum' else spelled(gold, above)}}}{{{spelled(gold, below)}}}",
            )


@_proved
def common_factor_expanded(gold: str, rng: random.Random) -> Iterator[str]:
    """`2x + 2y` for `2(x + y)`."""
    for node in values(gold):
        if node.kind == "product" and node.mark in (" ", "*") and node.parts[1].kind == "group":
            factor, inner = _wrapped(gold, node.parts[0]), node.parts[1].parts[0]
            if inner.kind == "sum" and "±" not in inner.mark:
                terms = [
                    f"{sign}{factor} \\cdot {_wrapped(gold, part)}"
                    for sign, part in zip(inner.mark, inner.parts, strict=True)
                ]
                yield edited(gold, node, "".join(terms).removeprefix("+"))


@_proved
def numerator_split(gold: str, rng: random.Random) -> Iterator[str]:
    r"""`\frac{a}{c} + \frac{b}{c}` for `\frac{a+b}{c}`."""
    for node in values(gold):
        if node.kind == "fraction" and node.parts[0].kind == "sum" and "±" not in node.parts[0].mark:
            above, below = node.parts[0], spelled(gold, node.parts[1])
            terms = [
                f"{sign}\\frac{{{spelled(gold, part)}}}{{{below}}}"
                for sign, part in zip(above.mark, above.parts, strict=True)
            ]
            yield edited(gold, node, "".join(terms).removeprefix("+"))


@_proved
def factor_before_fraction(gold: str, rng: random.Random) -> Iterator[str]:
    r"""`\frac{1}{c} a` for `\frac{a}{c}`."""
    for node in values(gold):
        if node.kind == "fraction" and node.parts[0].kind in ("root", "product", "name", "constant", "power"):
            above, below = (spelled(gold, part) for part in node.parts)
            yield edited(
                gold, node, f"\\frac{{1}}{{{below}}} \\cdot {above}" if "/" not in node.parts[0].mark else gold
            )


@_proved
def root_as_power(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "root"):
        index = spelled(gold, node.parts[1]) if len(node.parts) > 1 else "2"
        if index.isdigit() and not gold[: node.start].rstrip().endswith("^"):
            yield edited(gold, node, f"({spelled(gold, node.parts[0])})^{{1/{index}}}")


@_notation
def root_unicode(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "root"):
        inner = node.parts[0]
        simple = inner.kind == "number" and not re.match(r"\s*[\w\\(.^]", gold[node.end :])
        if len(node.parts) == 1 and not gold[: node.start].rstrip().endswith("^"):
            yield edited(gold, node, f"√{spelled(gold, inner)}" if simple else f"√({spelled(gold, inner)})")


@_notation
def exponents_unicode(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "power"):
        base, exponent = node.parts
        if exponent.kind == "number" and exponent.mark.isdigit():
            yield edited(gold, Node("", base.end, node.end), exponent.mark.translate(_SUPERSCRIPTS))


@_proved
def exponential_as_function(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "power"):
        if node.parts[0].mark == "e" and node.parts[0].kind == "constant":
            yield edited(gold, node, f"\\exp({spelled(gold, node.parts[1])})")


@_proved
def square_as_product(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "power"):
        base, exponent = node.parts
        if exponent.mark == "2" and base.kind in ("name", "group"):
            text = spelled(gold, base)
            yield edited(gold, node, f"{text} \\cdot {text}")


# ---------------------------------------------------------------- lists, relations, words


@_proved
def list_permuted(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "list", "set"):
        if len({part.kind == "relation" for part in node.parts}) > 1:
            continue  # `x = 1, 2` names both
        parts = [spelled(gold, part) for part in node.parts]
        rng.shuffle(parts)
        open_, close = ("\\{", "\\}") if node.kind == "set" else ("", "")
        yield edited(gold, node, f"{open_}{', '.join(parts)}{close}")


@_notation
def list_joined_by_and(gold: str, rng: random.Random) -> Iterator[str]:
    tree = read(gold)
    if tree is not None and tree.kind == "list":
        parts = [spelled(gold, part) for part in tree.parts]
        yield f"{', '.join(parts[:-1])} \\text{{ and }} {parts[-1]}"


@_notation
def list_in_braces(gold: str, rng: random.Random) -> Iterator[str]:
    tree = read(gold)
    if tree is not None and tree.kind == "list" and all(part.kind not in ("relation", "tuple") for part in tree.parts):
        yield f"\\{{{gold}\\}}"


@_proved
def union_permuted(gold: str, rng: random.Random) -> Iterator[str]:
    for node in nodes(gold, "union"):
        yield edited(gold, node, " \\cup ".join(spelled(gold, part) for part in reversed(node.parts)))


@_proved
def relation_reversed(gold: str, rng: random.Random) -> Iterator[str]:
    """`3 > x` for `x < 3`."""
    tree = read(gold)
    if tree is not None and any(part.kind != "relation" for part in (tree.parts if tree.kind == "list" else (tree,))):
        return
    for node in nodes(gold, "relation"):
        if set(node.mark) <= set(_SIGNS) and node.parts[0].kind != "heading":
            signs = [_SIGNS[mark.translate(_FLIPPED)] for mark in reversed(node.mark)]
            sides = [spelled(gold, part) for part in reversed(node.parts)]
            yield edited(
                gold, node, " ".join(f"{side} {sign}" for side, sign in zip(sides, [*signs, ""], strict=True)).strip()
            )


@_notation
def words_in_text(gold: str, rng: random.Random) -> Iterator[str]:
    if re.fullmatch(r"[A-Za-z][a-z]{2,}( [A-Za-z]?[a-z]+)*", gold):
        for command in ("text", "mathrm", "textbf"):
            yield f"\\{command}{{{gold}}}" if command != "mathrm" else f"\\mathrm{{{gold.replace(' ', '~')}}}"


@_notation
def words_without_text(gold: str, rng: random.Random) -> Iterator[str]:
    if match := re.fullmatch(r"\\text\{([A-Za-z ]{3,})\}", gold):
        yield match[1]


@_notation
def case_of_words(gold: str, rng: random.Random) -> Iterator[str]:
    if match := re.fullmatch(r"(?:\\text\{)?([A-Z][a-z]{3,})\}?", gold):
        yield gold.replace(match[1], match[1].lower())


@_notation
def choice_decorated(gold: str, rng: random.Random) -> Iterator[str]:
    if match := re.fullmatch(r"(?:\\text\{)?\(?([A-E])\)?\}?", gold):
        letter = match[1]
        yield from (
            f"\\text{{({letter})}}",
            f"({letter})",
            f"（{letter}）",
            f"\\text{{{letter}}}",
            f"\\textbf{{({letter})}}",
        )
        yield from (letter, f"\\mathrm{{{letter}}}", f"{letter}.", f"\\boxed{{{letter}}}", f"**{letter}**")
