r"""Responses to problems with a known gold, as models write them: right and wrong answers in many forms, and what a judge should say.

In: a problem, and others of its set. Out: a `Said`: the set's own worked solution up to its answer, or real text of a model where there is
some, then a final statement that says the gold, or something else, in one `kind` of form. Everything follows from the seed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from data.domains.extraction import last_box
from data.schema import Problem
from stages.seeds import derive_seed

RIGHT, WRONG, OPEN = (
    "right",
    "wrong",
    "open",
)  # open: honest judges differ, as on a right value without the box that was asked for
Rewriting = Callable[[str], str | None]  # of a gold; None where it does not apply

_INTEGER = re.compile(r"-?\d+")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_SEVERAL = re.compile(r"(?!\d{1,3}(?:,\d{3})+$)[^()\[\]{},\\]+(?:,\s?[^()\[\]{},\\]+)+")
_SUM = re.compile(r"(?P<first>-?[^-+(){},=|]+)(?P<rest>(?:\s?[-+]\s?[^-+(){},=|]+)+)")
_UNIT = re.compile(r"(?:\^\{?\\circ\}?|\s?\\(?:text|mbox)\{ ?[a-z]+\}(?:\^\d)?)$")
_INTERVAL = re.compile(r"(\(|\[)(-?\d+),\s?(-?\d+)(\)|\])")
_STATEMENTS = (
    "The answer is $\\boxed{@}$.",
    "Therefore, the final answer is:\n\n$$\\boxed{@}$$",
    "\\[\n\\boxed{@}\n\\]",
    "**Final answer:** $\\boxed{@}$",
    "So we get \\(\\boxed{@}\\).",
)


@dataclass(frozen=True, slots=True)
class Said:
    """A response, how it was made, and what a judge should say of it."""

    text: str
    kind: str
    truth: str  # RIGHT, WRONG or OPEN


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a real model said of a problem."""

    text: str
    is_right: bool  # by the label of its data set


# ---------------------------------------------------------------- the same value, written otherwise


def _swapped(pattern: str, replacement: str) -> Rewriting:
    """A rewriting by a regular expression; None where nothing changes."""

    def rewrite(gold: str) -> str | None:
        changed = re.sub(pattern, replacement, gold)
        return changed if changed != gold else None

    return rewrite


def _of_integer(write: Callable[[int], str | None]) -> Rewriting:
    return lambda gold: write(int(gold)) if _INTEGER.fullmatch(gold) else None


def _of_fraction(write: Callable[[Fraction], str | None]) -> Rewriting:
    def rewrite(gold: str) -> str | None:
        found = _FRACTION.fullmatch(gold)
        return write(Fraction(int(found[1] + found[2]), int(found[3]))) if found else None

    return rewrite


def _frac(top: int, bottom: int, command: str = "frac") -> str:
    return f"{'-' if top < 0 else ''}\\{command}{{{abs(top)}}}{{{bottom}}}"


def _decimal(value: Fraction) -> str | None:
    bottom = value.denominator
    for prime in (2, 5):
        while bottom % prime == 0:
            bottom //= prime
    return f"{float(value):.12f}".rstrip("0") if bottom == 1 and value.denominator < 10**6 else None


def _mixed(value: Fraction) -> str | None:
    whole, rest = divmod(value.numerator, value.denominator)
    return f"{whole}\\frac{{{rest}}}{{{value.denominator}}}" if value > 1 and rest else None


def _turned(gold: str) -> str | None:
    """The last item of a list, or the last term of a sum, first."""
    if _SEVERAL.fullmatch(gold):
        return ", ".join(reversed([item.strip() for item in gold.split(",")]))
    found = _SUM.fullmatch(gold)
    if found is None or "pm" in gold or "infty" in gold:
        return None
    terms = re.findall(r"[-+]?\s?[^-+]+", gold)
    last, *others = terms[-1], *terms[:-1]
    first = others[0] if others[0].startswith(("-", "+")) else f"+{others[0]}"
    return "".join([last.lstrip("+ "), first, *others[1:]])


def _both(gold: str) -> str | None:
    if "\\pm" not in gold or "{" in gold.split("\\pm")[0]:
        return None
    return ", ".join(gold.replace("\\pm", sign) for sign in "+-")


def _inequality(gold: str) -> str | None:
    found = _INTERVAL.fullmatch(gold)
    if found is None or found[1] + found[4] == "()":  # a pair of numbers, or an open interval
        return None
    signs = {"(": "<", "[": "\\le", ")": "<", "]": "\\le"}
    return f"{found[2]} {signs[found[1]]} x {signs[found[4]]} {found[3]}"


SAME: Mapping[str, Rewriting] = {
    "as the gold": lambda gold: gold,
    "dfrac": _swapped(r"\\[dt]?frac", r"\\dfrac"),
    "tfrac": _swapped(r"\\[dt]?frac", r"\\tfrac"),
    "slash": _of_fraction(lambda value: f"{value.numerator}/{value.denominator}"),
    "decimal": _of_fraction(_decimal),
    "not reduced": _of_fraction(lambda value: _frac(3 * value.numerator, 3 * value.denominator)),
    "mixed number": _of_fraction(_mixed),
    "sign in the numerator": _swapped(r"^-\\[dt]?frac\{", r"\\frac{-"),
    "decimal point": _of_integer(lambda value: f"{value}.0"),
    "thousands": _of_integer(lambda value: f"{value:,}" if abs(value) > 999 else None),
    "thousands in TeX": _of_integer(lambda value: f"{value:,}".replace(",", "{,}") if abs(value) > 999 else None),
    "leading zero": _of_integer(lambda value: f"{value:03d}" if 0 <= value < 100 else None),
    "quotient": _of_integer(lambda value: _frac(2 * value, 2)),
    "units": _of_integer(lambda value: f"{value}\\text{{ units}}"),
    "without its unit": lambda gold: _UNIT.sub("", gold) if _UNIT.search(gold) else None,
    "without its dollar": _swapped(r"^\\\$", ""),
    "dollars": _of_integer(lambda value: f"\\${value}" if value >= 0 else None),
    "text": lambda gold: f"\\text{{{gold}}}" if re.fullmatch(r"[\w.]+", gold) else None,
    "bold": lambda gold: f"\\mathbf{{{gold}}}" if re.fullmatch(r"[\w.]+", gold) else None,
    "without text": _swapped(r"^\\text\{\(?(\w+)\)?\}$", r"\1"),
    "in lower case": lambda gold: gold.lower() if re.fullmatch(r"\\text\{[A-Z][a-z]+\}", gold) else None,
    "named": lambda gold: f"x = {gold}" if _INTEGER.fullmatch(gold) or _FRACTION.fullmatch(gold) else None,
    "without its name": _swapped(r"^\w ?(?:=|\\in) ?", ""),
    "in a set": lambda gold: f"\\{{{gold}\\}}" if _SEVERAL.fullmatch(gold) else None,
    "turned round": _turned,
    "plus and minus": _both,
    "as an inequality": _inequality,
    "left and right": lambda gold: re.sub(r"^\((.*)\)$", r"\\left(\1\\right)", gold) if gold.startswith("(") else None,
    "bmatrix": _swapped(r"\{pmatrix\}", "{bmatrix}"),
    "without its base": _swapped(r"_\{?\d\}?$", ""),
    "root as a power": _swapped(r"\\sqrt\{(\d+)\}", r"\1^{1/2}"),
    "point between factors": _swapped(r"(\d) ?\\(sqrt|pi)", r"\1 \\cdot \\\2"),
    "spaced": lambda gold: f"\\, {gold} \\;",
    "in dollars": lambda gold: f"${gold}$" if "$" not in gold else None,
    "ending with a stop": lambda gold: f"{gold}.",
}


# ---------------------------------------------------------------- other values


OTHER: Mapping[str, Rewriting] = {
    "one more": _of_integer(lambda value: str(value + 1)),
    "other sign": lambda gold: gold[1:] if gold.startswith("-") else f"-{gold}" if gold.strip("0.") and "pm" not in gold else None,
    "tenfold": _of_integer(lambda value: str(10 * value) if value else None),
    "last digit lost": _of_integer(lambda value: str(value)[:-1] if abs(value) > 9 else None),
    "upside down": _of_fraction(lambda value: _frac(value.denominator, value.numerator) if value.numerator > 1 else None),
    "other denominator": _of_fraction(lambda value: _frac(value.numerator, value.denominator + 1)),
    "rounded to three places": _of_fraction(lambda value: None if _decimal(value) else f"{float(value):.3f}"),
    "as a per cent": _of_fraction(lambda value: f"{_decimal(value)}\\%" if _decimal(value) else None),
    "other brackets": lambda gold: gold.translate(str.maketrans("([)]", "[(])")) if _INTERVAL.fullmatch(gold) else None,
    "pair turned round": _swapped(r"^\(([^,()]+),([^,()]+)\)$", r"(\2,\1)"),
    "one item short": lambda gold: gold.rsplit(",", 1)[0] if _SEVERAL.fullmatch(gold) else None,
    "one item more": lambda gold: f"{gold}, 99" if _SEVERAL.fullmatch(gold) else None,
    "other base": _swapped(r"_\{?\d\}?$", "_7"),
    "root lost": _swapped(r"\\sqrt\{(\d+)\}", r"\1"),
    "another unit": _swapped(r"\^\{?\\circ\}?$", r"\\text{ radians}"),
    "square lost": _swapped(r"\^2$", ""),
}  # fmt: skip


# ---------------------------------------------------------------- shapes of a response

Shape = Callable[[str, str], str]  # of an answer and another one, which is wrong
SHAPES: Mapping[str, tuple[str, Shape]] = {
    "no box": (OPEN, lambda gold, _: f"The answer is {gold}."),
    "no box, in dollars": (OPEN, lambda gold, _: f"The answer is ${gold}$."),
    "four hashes": (OPEN, lambda gold, _: f"#### {gold}"),
    "nothing said": (WRONG, lambda *_: "I will stop here."),
    "empty box": (WRONG, lambda *_: "The answer is $\\boxed{}$."),
    "box not closed": (OPEN, lambda gold, _: f"The answer is $\\boxed{{{gold}"),
    "corrected": (
        RIGHT,
        lambda gold, other: f"So it is $\\boxed{{{other}}}$. Wait, that is wrong. The answer is $\\boxed{{{gold}}}$.",
    ),
    "made worse": (
        WRONG,
        lambda gold, other: f"So it is $\\boxed{{{gold}}}$. Wait, that is wrong. The answer is $\\boxed{{{other}}}$.",
    ),
    "said twice": (RIGHT, lambda gold, _: f"It is $\\boxed{{{gold}}}$.\n\nFinal answer: $\\boxed{{{gold}}}$"),
    "two at once": (WRONG, lambda gold, other: f"The answer is $\\boxed{{{gold}}}$ or $\\boxed{{{other}}}$."),
    "words behind": (
        RIGHT,
        lambda gold, other: (
            f"The answer is $\\boxed{{{gold}}}$.\n\nNote that {other} would be wrong: check $1 + 1 = 2$."
        ),
    ),
    "thought": (
        RIGHT,
        lambda gold, other: f"<think>\nIt may be \\boxed{{{other}}}.\n</think>\n\nThe answer is $\\boxed{{{gold}}}$.",
    ),
    "only thought": (
        WRONG,
        lambda gold, other: f"<think>\nIt is \\boxed{{{gold}}}.\n</think>\n\nThe answer is $\\boxed{{{other}}}$.",
    ),
    "thought without an end": (OPEN, lambda gold, _: f"<think>\nIt is \\boxed{{{gold}}}. Let me check that once"),
    "fbox": (RIGHT, lambda gold, _: f"The answer is $\\fbox{{{gold}}}$."),
    "bare box": (RIGHT, lambda gold, _: f"The answer is $\\boxed {gold}$."),
    "blank before the brace": (RIGHT, lambda gold, _: f"The answer is $\\boxed {{{gold}}}$."),
    "equation in the box": (OPEN, lambda gold, other: f"The answer is $\\boxed{{{other} + 1 = {gold}}}$."),
    "next question": (
        OPEN,
        lambda gold, other: f"The answer is $\\boxed{{{gold}}}$.\n\nQuestion: And then?\nAnswer: $\\boxed{{{other}}}$",
    ),
    "next problem": (
        OPEN,
        lambda gold, other: f"The answer is $\\boxed{{{gold}}}$.\n\nProblem: And then?\nSolution: $\\boxed{{{other}}}$",
    ),
}
_ONLY_INTEGERS = {"bare box"}
_SHARES = (
    0.45,
    0.25,
)  # of responses that are the gold in another form, and another answer; the rest have another shape


def say(problem: Problem, *, seed: int, others: Sequence[str], recorded: Sequence[Recorded] = ()) -> Said:
    """The response to a problem by a seed; `others` are golds of its set, one of which a wrong response gives.

    Half of the responses to a problem with recorded ones are those, with a box around the answer of their last line.
    """
    random = Random(derive_seed("surface-forms", problem.id, seed))
    if recorded and random.random() < 0.5:
        return _recorded(random.choice(recorded))
    gold = problem.answer
    other = random.choice([answer for answer in others if answer != gold])
    if problem.solution and random.random() < 0.05:
        return Said(_whole(problem), "worked solution", RIGHT)
    kind, truth, statement = _statement(gold, other, random)
    is_alone = statement.startswith("<think>")
    return Said(statement if is_alone else f"{_reasoning(problem, random)}{statement}", kind, truth)


def _statement(gold: str, other: str, random: Random) -> tuple[str, str, str]:
    """Kind, truth and the final statement."""
    share = random.random()
    frame = random.choice(_STATEMENTS)
    if share < _SHARES[0]:
        kind, answer = random.choice(_applicable(SAME, gold))
        return kind, RIGHT, frame.replace("@", answer)
    if share < sum(_SHARES):
        kind, answer = random.choice([*_applicable(OTHER, gold), ("another gold", other)])
        return kind, WRONG, frame.replace("@", answer)
    kinds = [kind for kind in SHAPES if kind not in _ONLY_INTEGERS or _INTEGER.fullmatch(gold)]
    kind = random.choice(kinds)
    truth, shape = SHAPES[kind]
    return kind, truth, shape(gold, other)


def _applicable(forms: Mapping[str, Rewriting], gold: str) -> list[tuple[str, str]]:
    written = ((kind, rewrite(gold)) for kind, rewrite in forms.items())
    return [(kind, answer) for kind, answer in written if answer is not None]


def _whole(problem: Problem) -> str:
    """The set's own solution, with a box around its answer."""
    if last_box(problem.solution) is not None:
        return problem.solution
    body, _, _ = problem.solution.rpartition("####")
    return f"{body}The answer is $\\boxed{{{problem.answer}}}$."


def _reasoning(problem: Problem, random: Random) -> str:
    """A part of the set's own solution, without its answer; nothing where there is none."""
    body = problem.solution.rpartition("####")[0] or problem.solution.partition("\\boxed")[0]
    lines = [line for line in re.split(r"(?<=[.\n])\s+", body) if line.count("$") % 2 == 0]
    kept = "\n".join(lines[: random.randint(0, len(lines))])
    return f"{kept}\n\n" if kept else ""


def _recorded(one: Recorded) -> Said:
    """With a box around the answer of a last line `A: 26`."""
    body, mark, answer = one.text.rpartition("\nA: ")
    text = f"{body}\nThe answer is $\\boxed{{{answer.strip()}}}$." if mark else one.text
    return Said(text, "model", RIGHT if one.is_right else WRONG)
