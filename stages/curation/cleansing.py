"""Cleansing (paper 2.3): one rule per function, each giving the evidence for which a row is dropped, or None.

Rows of every source pass the same rules, in the order of `RULES`; the first that speaks names the reason. The paper gives no
patterns; these are ours. A departure: it keeps what an annotator can repair; we drop, or make a choice question an open one (`choices`).
"""

import ast
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from data.domain_names import domain_names
from data.domains import gym
from data.domains.code_tests import ASSERTING_TYPES, TYPES, parse
from data.domains.extraction import all_boxes
from data.schema import Problem, problems_from_table
from stages.config import CurationConfig
from stages.curation.choices import LETTER, open_question
from stages.curation.language import language_of
from stages.curation.normalisation import answer_words
from stages.curation.pool import Drop, Sifted
from stages.sampling.workers import Worker

_MADE = ("code", gym.NAME)  # domains whose rows have tests, and prompts that are no plain prose
_CHOICE = "multiple choice"
_SNIPPET = 80  # characters of evidence
Rule = Callable[[Problem, CurationConfig], str | None]


def cleanse(_worker: Worker, task: tuple[pa.Table, CurationConfig]) -> Sifted:
    """Drop what no rule lets pass; where the recipe says so, convert choice questions."""
    batch, config = task
    problems = problems_from_table(batch)
    drops = []
    for row, problem in enumerate(problems):
        problems[row], objection = cleansed(problem, config)
        if objection is not None:
            drops.append(Drop(row, *objection))
    if config.choice_questions != "convert":
        return Sifted(drops)
    return Sifted(
        drops, {name: [getattr(problem, name) for problem in problems] for name in ("prompt", "answer", "meta")}
    )


def cleansed(problem: Problem, config: CurationConfig) -> tuple[Problem, tuple[str, str] | None]:
    """The problem, converted where it was a choice question and may be; reason and evidence of the rule that drops it."""
    objection = first_objection(problem, config)
    if objection is None or objection[0] != _CHOICE or config.choice_questions != "convert":
        return problem, objection
    converted = open_question(problem)
    if isinstance(converted, str):
        return problem, (_CHOICE, f"{objection[1]}; not converted: {converted}")
    return converted, first_objection(converted, config)


def first_objection(problem: Problem, config: CurationConfig) -> tuple[str, str] | None:
    """Reason and evidence of the first rule that speaks."""
    for reason, rule in RULES:
        evidence = rule(problem, config)
        if evidence is not None:
            return reason, evidence
    return None


def _around(text: str, match: re.Match[str] | None) -> str | None:
    """The match and a little after it."""
    return None if match is None else text[match.start() : match.start() + _SNIPPET].replace("\n", " ").strip()


# ---------------------------------------------------------------- the row as a whole


def _unknown_domain(problem: Problem, _config: CurationConfig) -> str | None:
    known = domain_names()
    return None if problem.domain in known else f"{problem.domain!r} is none of {', '.join(known)}"


def _empty_prompt(problem: Problem, _config: CurationConfig) -> str | None:
    return None if problem.prompt.strip() else f"{len(problem.prompt)} characters, none of them visible"


def _too_long(problem: Problem, config: CurationConfig) -> str | None:
    length = len(problem.prompt)
    return (
        f"{length} characters, {config.max_prompt_characters} allowed"
        if length > config.max_prompt_characters
        else None
    )


def _invalid_characters(problem: Problem, _config: CurationConfig) -> str | None:
    """The replacement character, control characters, private or unassigned code points."""
    for name, text in (("prompt", problem.prompt), ("answer", problem.answer), ("solution", problem.solution)):
        if text.isascii() and text.isprintable():
            continue
        for position, sign in enumerate(text):
            if sign == "\ufffd" or (unicodedata.category(sign) in ("Cc", "Co", "Cn", "Cs") and sign not in "\n\t\r"):
                return f"U+{ord(sign):04X} at character {position} of the {name}"
    return None


def _wrong_language(problem: Problem, config: CurationConfig) -> str | None:
    if not config.languages or (language := language_of(problem.prompt)) in (*config.languages, "none"):
        return None
    return f"{language}; the recipe keeps {', '.join(config.languages)}"


def _no_answer(problem: Problem, _config: CurationConfig) -> str | None:
    return "neither an answer nor tests" if not problem.answer.strip() and not problem.tests.strip() else None


# ---------------------------------------------------------------- what a text model cannot see

_IMAGE = re.compile(
    r"<image>|<img\b|!\[[^\]]*\]\(|\\includegraphics|\[asy\]|https?://\S+\.(?:png|jpe?g|gif|svg|webp)\b", re.IGNORECASE
)
_FIGURE = re.compile(
    r"\b(?:figure|diagram|fig\.)\s*\d"
    r"|\b(?:figure|diagram|picture|graph|image|fig\.)\s*(?:below|above|shown|(?:at|on|to) (?:the )?(?:right|left))"
    r"|\b(?:shown|depicted|pictured|drawn|see|in|from|use) (?:in )?(?:the |this )?(?:(?:following|accompanying|adjoining) )?"
    r"(?:figure|diagram|picture|fig\.)"
    r"|\bas shown\b|如图|[上下左右]图|https?://",
    re.IGNORECASE,
)


def _image(problem: Problem, _config: CurationConfig) -> str | None:
    """Links to images and drawings in every domain; any link, and words that point to a figure, in mathematics and science."""
    found = _IMAGE.search(problem.prompt)
    return _around(problem.prompt, found or (_FIGURE.search(problem.prompt) if problem.domain not in _MADE else None))


# ---------------------------------------------------------------- what can be guessed

_CAPITAL, _SMALL = (  # marks of three options, which are looked for one after the other
    tuple(re.compile(rf"(?:^|[\s{{]|\\n)(?:\({letter}\)|{letter}[.):、．])") for letter in "ABC"),
    tuple(re.compile(rf"(?:^|[\s{{])\( ?{letter} ?\)") for letter in "abc"),
)
_CHOOSING = re.compile(
    r"\bwhich (?:one )?of (?:the following|these)\b|\b(?:choose|choosing|select) the (?:correct|best|right)\b|下列|以下哪",
    re.IGNORECASE,
)
_TRUE_FALSE = re.compile(
    r"^\s*true(?: or |\s?/\s?)false\b|\b(?:is|are|as) (?:true or false|true/false)|\bwhether\b[^.?]{0,300}\btrue or false\b",
    re.IGNORECASE,
)
_EITHER = re.compile(
    r"\btrue[\"'”’.,]*(?: or |\s?/\s?)[\"'“‘]*false\b|\byes[\"'”’.,]*(?: or |\s?/\s?)[\"'“‘]*no\b|\banswer with [\"'“‘]true\b",
    re.IGNORECASE,
)
_TWO_VALUED = frozenset(("yes", "no", "true", "false", "是", "否", "对", "错", "正确", "错误"))
_CHOSEN = re.compile(
    r"[①-⑳、,，和\s]+|.*\b(?:all|none|both|neither|any) (?:of the (?:above|following)|of these|(?:are|is) correct)\b.*",
    re.IGNORECASE,
)
_SMALL_OPTION = re.compile(r"\( ?[a-j] ?\)")


def _choice_question(problem: Problem, config: CurationConfig) -> str | None:
    """Multiple choice: capital options, small ones of which one is the answer, by its letter or its text, or what speaks of options."""
    if config.choice_questions == "keep" or problem.domain in _MADE:
        return None
    if _CHOSEN.fullmatch(problem.answer.strip()):
        return f"the answer is {problem.answer.strip()!r}"
    if capital := _first_option(problem.prompt, _CAPITAL):
        return _around(problem.prompt, capital)
    small = _first_option(problem.prompt, _SMALL)
    if small and _is_option(problem.answer, problem.prompt[small.start() :]):
        return _around(problem.prompt, small)
    return _around(problem.prompt, _CHOOSING.search(problem.prompt))


def _first_option(prompt: str, marks: Sequence[re.Pattern[str]]) -> re.Match[str] | None:
    """The first mark, where all follow in order."""
    first, end = None, 0
    for mark in marks:
        found = mark.search(prompt, end)
        if found is None:
            return None
        first, end = first or found, found.end()
    return first


def _is_option(answer: str, options: str) -> bool:
    """Whether the answer is a letter, or one of the small options, with or without what it is the value of: `v = 2 m/s`."""
    given = " ".join(answer_words(answer))
    texts = {" ".join(answer_words(text)) for text in _SMALL_OPTION.split(options)} - {""}
    return bool(LETTER.fullmatch(answer.strip())) or bool(texts & {given, given.rpartition("= ")[2]})


def _two_valued_question(problem: Problem, config: CurationConfig) -> str | None:
    """True / false and yes / no."""
    if config.choice_questions == "keep" or problem.domain == "code":
        return None
    if problem.domain == gym.NAME:  # lists of words may begin with `Yes`
        return f"the answer is {problem.answer!r}" if problem.answer.casefold() in _TWO_VALUED else None
    if re.sub(r"\\text|[{}.$\s]", "", re.split("[,;，；]", problem.answer)[0]).casefold() in _TWO_VALUED:
        return f"the answer is {problem.answer.strip()!r}"
    is_value = any(sign.isdigit() for sign in problem.answer)
    return _around(
        problem.prompt,
        _TRUE_FALSE.search(problem.prompt) or (None if is_value else _EITHER.search(problem.prompt)),
    )


# ---------------------------------------------------------------- what has no single answer

_PARTS = tuple(
    re.compile(
        rf"(?:^|[\s,;:.?，。；：？])\(?{first}[.)）:]\s*(?P<first>.*?)(?:^|[\s,;:.?，。；：？])\(?{second}[.)）:]\s*(?P<second>.*)",
        re.DOTALL | re.MULTILINE,
    )
    for first, second in (
        ("[(（]a", "[(（]b"),
        ("[(（]i", "[(（]ii"),
        ("[(（]I", "[(（]II"),
        ("[(（]Ⅰ", "[(（]Ⅱ"),
        ("[(（]1", "[(（]2"),
        ("(?<![^\\n])1", "(?<![^\\n])2"),
        ("[Pp]art [AaIi1]", "[Pp]art (?:[Bb2]|II|ii)"),
    )
)
_ASKING = re.compile(
    r"\?|？|\b(?:find|calculate|compute|determine|show|prove|what|how|derive|obtain|estimate|give|explain|describe|discuss|"
    r"evaluate|sketch|write|express|verify|state|solve)\b|求|计算|证明",
    re.IGNORECASE,
)


def _several_questions(problem: Problem, _config: CurationConfig) -> str | None:
    """Two marked parts that both ask something, or a list of answers. Conditions (i), (ii) of one question pass."""
    if problem.domain in _MADE:
        return None
    answers = _json_list(problem.answer)
    if answers is not None and len(answers) > 1:
        return f"{len(answers)} answers"
    for pattern in _PARTS:
        found = pattern.search(problem.prompt)
        if found and _ASKING.search(found["first"]) and _ASKING.search(found["second"]):
            return _around(problem.prompt, found)
    return None


def _json_list(text: str) -> list[Any] | None:
    """A list written as JSON with texts in it; an interval such as [1, 2] is none."""
    if not text.startswith('["'):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else None


_PROVING = re.compile(
    r"(?:^|[.?!,;:\n]|\b(?:and|then|to))\s*(?:prove|show)(?: \w+ly)? that\b|\bprove\b|证明|求证", re.IGNORECASE
)
_FINDING = re.compile(
    r"\?|？|\b(?:find|calculate|compute|determine|evaluate|what|how (?:many|much)|solve|express)\b|求(?!证)|多少",
    re.IGNORECASE,
)


def _proof(problem: Problem, _config: CurationConfig) -> str | None:
    """Asks for a proof and for no value."""
    if problem.domain in _MADE or _FINDING.search(problem.prompt):
        return None
    return _around(problem.prompt, _PROVING.search(problem.prompt))


def _gives_answer(problem: Problem, _config: CurationConfig) -> str | None:
    r"""The answer stands in the prompt, in a box."""
    boxes = all_boxes(problem.prompt) or []
    wanted = answer_words(problem.answer)
    found = next((box for box in boxes if wanted and answer_words(box) == wanted), None)
    return None if found is None else f"\\boxed{{{found}}}"


_CUT = re.compile(r"(?:(?<![A-Z])[a-z]{2,}\s*(?:\.\.\.|…)|\b(?:and|or|the|an|with|of)|,)\s*$")
_OPEN_FORMULA = re.compile(
    r"(?:\s[-+*/<>^]|[+/^(\[,]|\\(?:times|cdot|frac|sqrt)|\bsolve\b[^=]*=|\b[a-z]{2,}\s*=)\s*$"
    r"|[(\[（][^)\]）]*(?<![.?!。？\s])\s*$",  # a bracket that nothing closes, and no end of a sentence
    re.IGNORECASE,
)
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{")


def _cut_off(problem: Problem, _config: CurationConfig) -> str | None:
    """Ends in the middle of a sentence or of a formula, or leaves a LaTeX environment open."""
    prompt = problem.prompt
    if problem.domain in _MADE:
        return None
    if found := _OPEN_FORMULA.search(prompt) or (problem.domain == "math" and _CUT.search(prompt)):
        return f"ends with {prompt[max(0, found.start() - 40) :].strip()!r}"
    opened = [found[1] for found in _ENVIRONMENT.finditer(prompt)]
    if opened.count("begin") > opened.count("end"):
        return f"{opened.count('begin')} \\begin, {opened.count('end')} \\end"
    return None


# ---------------------------------------------------------------- tests of code

_LEFT_OUT = re.compile(r"\d[ ,]+(?:\.\.\.|…)[ ,]+\d")
_DOTS = re.compile(r"\.{2,}")
_TRUNCATED = re.compile(r"(?:\d[ ,]*|\b[A-Za-z]{2,} ?|\]|\))(?:\.\.\.|…)\s*$")


def _malformed_tests(problem: Problem, _config: CurationConfig) -> str | None:
    """Not JSON, of no known form, empty, of unequal lengths, or truncated by an ellipsis."""
    if problem.domain == gym.NAME:
        return gym.fault_of_tests(problem.tests)
    if not problem.tests.strip():
        return None
    try:
        tests = json.loads(problem.tests)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    kind = tests.get("type") if isinstance(tests, dict) else None
    if kind not in TYPES:
        return f"neither of type {', '.join(TYPES[:-1])} nor {TYPES[-1]}: {problem.tests[:_SNIPPET]}"
    return _broken_check(problem.tests) if kind in ASSERTING_TYPES else _broken_cases(tests)


def _broken_cases(tests: dict[str, Any]) -> str | None:
    inputs, outputs = tests.get("inputs"), tests.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or not inputs:
        return "no test"
    if len(inputs) != len(outputs):
        return f"{len(inputs)} inputs, {len(outputs)} outputs"
    for index, value in enumerate([*inputs, *outputs]):
        if isinstance(value, str) and (found := _ellipsis(value)):
            return f"test {index % len(inputs)} has {found!r}"
    return None


def _ellipsis(text: str) -> str | None:
    """Three dots that stand for what was left out; those of a grid, as `..1...`, do not."""
    found = _TRUNCATED.search(text) or _LEFT_OUT.search(text)
    if found is None:
        return None
    word = text.split()[-1]
    is_row = word != "..." and word.endswith("...") and str(len(word)) in text.split()
    is_grid = is_row or len(_DOTS.findall(text)) > 1
    return None if is_grid else found[0].strip()


def _broken_check(text: str) -> str | None:
    """What the judge cannot read, or finds nothing in."""
    check = json.loads(text).get("check")
    check = "\n".join(map(str, check)) if isinstance(check, list) else check
    if not isinstance(check, str) or not check.strip():
        return "no test"
    try:
        asserted = [node for node in ast.walk(ast.parse(check)) if isinstance(node, ast.Assert)]
        tests = parse(text)
    except Exception as error:  # whatever is wrong with a data set's code
        return f"not Python, or not to be run: {type(error).__name__}: {str(error)[:_SNIPPET]}"
    if any(isinstance(node, ast.Constant) and node.value is ... for test in asserted for node in ast.walk(test)):
        return "an ellipsis stands for values"
    return "no assertion" if tests is None else None


RULES: tuple[tuple[str, Rule], ...] = (
    ("unknown domain", _unknown_domain),
    ("empty prompt", _empty_prompt),
    ("prompt too long", _too_long),
    ("invalid characters", _invalid_characters),
    ("wrong language", _wrong_language),
    ("image or figure", _image),
    ("no answer or tests", _no_answer),
    ("malformed tests", _malformed_tests),
    (_CHOICE, _choice_question),
    ("true/false or yes/no", _two_valued_question),
    ("several sub-questions", _several_questions),
    ("proof", _proof),
    ("answer in the prompt", _gives_answer),
    ("prompt cut off", _cut_off),
)
