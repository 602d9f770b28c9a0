"""Choice questions as open ones (paper 2.3 drops them): the prompt without its options, and the chosen option's text as the answer.

Only what stays a question with one answer is converted: the gold is one letter, the options end the prompt and are all values (numbers,
formulas, a word or two), and the stem asks for one and speaks neither of options nor of what may be. Everything else says why not.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from data.schema import Problem
from stages.curation.annotation import earlier_notes, read_meta, with_notes

CONVERTED = "converted_from"

LETTER = re.compile(r"(?:\\(?:text|textbf|mathrm)\s*\{)?\s*[（(]?([A-Ja-j])[)）]?\s*\}?\.?")
_MARKS = (  # how a letter stands before its option, all of one kind
    re.compile(r"(?:^|(?<=\s))[（(]([A-Ja-j])[)）][.:、．]?\s*", re.MULTILINE),
    re.compile(r"(?:^|(?<=\s))([A-J])[.:、．)）]\s*", re.MULTILINE),
)
_BLANK = re.compile(r"(?:[\s$]*[（(](?:\\q?quad|\\ |[\s\u3000$])*[)）][\s$]*|\s*_{2,}\s*)[.。．:：]?\s*$")
_BLANK_INSIDE = re.compile(r"[（(]\s*(?:\\q?quad)?\s*[)）]|_{2,}")
_INSTRUCTION = re.compile(
    r"(?:,?\s*\b(?:and|then)\s+|,\s*|(?<![^\s.?!:。？]))(?:please )?(?:choose|select|pick)\b"
    r"[^.?!]*\b(?:options?|answers?|choices?)\b[^.?!]*[.:]?\s*$",
    re.IGNORECASE,
)
_LONGEST_INSTRUCTION = 300  # characters, at the end of a stem
_SPEAKS_OF_OPTIONS = re.compile(
    r"\b(?:options?|choices?|choose|select|following|below|these)\b|(?:^|[.?!,;:]\s*)which\b|\bwhich (?:of|one|is|are)\b"
    r"|下列|下面|以下|选项|哪|正确|错误|有误|不对|说法|结论|命题|关系|的是\s*$",
    re.IGNORECASE,
)
_SEVERAL_ANSWERS = re.compile(
    r"\b(?:could|might|may|can(?:not)?|possible|possibly|must|closest|nearest|best|approximate(?:ly)?|about)\b"
    r"|\ban? (?:solution|value|example)\b"
    r"|可能|可以|能是|一个值|必|最接近|近似|大约|约[为是等]|不妨|充分|之一",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"[?？]\s*$|\b(?:find|calculate|compute|determine|evaluate|what|how (?:many|much)|solve|express)\b"
    r"|求|多少|[是为值于=]\s*\$?\s*[:：]?\s*$",
    re.IGNORECASE,
)
_RELATION = re.compile(r"[<>=≤≥≠≈＜＞]|\\(?:leq?|geq?|lt|gt|neq?|approx|equiv|to|in|perp|parallel|subset\w*)\b")
_UNFINISHED = re.compile(
    r"\\(?:i*int|sum|prod|lim)\b|\b[fgFG]\s*\(|、"
)  # an integral still to do, f of the stem, a list
_COMMAND = re.compile(r"\\(?:text|mathrm|mathbf|operatorname|rm)\s*|\\[A-Za-z]+")
_LATIN_WORD = re.compile(r"[A-Za-z]{2,}")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_NOT_A_VALUE = re.compile(
    r"\b(?:all|none|both|neither|above|any|not|no|undefined|does|cannot|and|or|undetermined|infinite(?:ly)?)\b|以上|都|不|无|没有|和|或|且|与",
    re.IGNORECASE,
)
_SPACING = re.compile(r"(?:\s*(?:\\\(\s*)?\\q?quad(?:\s*\\\))?)+\s*$")
_MATHEMATICAL = re.compile(r"\d|\\(?!text)[A-Za-z]+|(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_MOST_CHARACTERS = 80  # of a value
_MOST_WORDS = 2  # of a unit
_MOST_CHINESE = 3  # signs of a unit


@dataclass(frozen=True, slots=True)
class Question:
    """A choice question in its parts."""

    stem: str
    options: dict[str, str]  # capital letter -> text


def open_question(problem: Problem) -> Problem | str:
    """The problem as an open question, or why it cannot be one."""
    gold = LETTER.fullmatch(problem.answer.strip())
    if gold is None:
        return "the answer is no single letter"
    question = parse(problem.prompt)
    if question is None:
        return "its options cannot be told apart"
    if gold[1].upper() not in question.options:
        return f"no option {gold[1].upper()}"
    stem = _asked(question.stem)
    if why := _objection(stem, question):
        return why
    return _converted(problem, stem, question.options[gold[1].upper()])


def parse(prompt: str) -> Question | None:
    """The last run of marks A, B, C, ... that goes to the end of the prompt, at least three; None where there is none."""
    for mark in _MARKS:
        marks = list(mark.finditer(prompt))
        starts = [number for number, found in enumerate(marks) if found[1] in "Aa"]
        run = marks[starts[-1] :] if starts else []
        if len(run) < 3 or [found[1].upper() for found in run] != list("ABCDEFGHIJ"[: len(run)]):
            continue
        ends = [*(found.start() for found in run[1:]), len(prompt)]
        texts = [_bare(prompt[found.end() : end]) for found, end in zip(run, ends, strict=True)]
        return Question(
            prompt[: run[0].start()].strip(), {found[1].upper(): text for found, text in zip(run, texts, strict=True)}
        )
    return None


def _bare(option: str) -> str:
    r"""Without what parts options and without the signs around a formula."""
    text = _SPACING.sub("", option.strip()).rstrip(";；,，.。 ")
    for opening, closing in ((r"\(", r"\)"), ("$$", "$$"), ("$", "$")):
        inside = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and inside and opening not in inside:
            return inside.strip()
    return text


def _asked(stem: str) -> str:
    """The stem without what it says about choosing; an empty bracket at its end becomes a line to fill in."""
    cut = max(0, len(stem) - _LONGEST_INSTRUCTION)
    stem = (stem[:cut] + _INSTRUCTION.sub("", stem[cut:])).strip()
    blank = _BLANK.search(stem)
    if blank is None:
        return stem
    head = stem[: blank.start()]
    closes = "$" if head.count("$") % 2 and "$" in blank[0] else ""  # the bracket stands where its formula ends
    return f"{head}{closes} ____"


def _objection(stem: str, question: Question) -> str | None:
    """Why the stem alone is no question with one answer that can be compared."""
    said = stem.removesuffix("____").rstrip()
    if found := _SPEAKS_OF_OPTIONS.search(said) or _SEVERAL_ANSWERS.search(said):
        return f"the stem says {found[0].strip()!r}"
    if said.count("$") % 2 or said.count(r"\(") != said.count(r"\)"):
        return "a formula of the stem is not closed"
    if _BLANK_INSIDE.search(said):
        return "a blank inside the stem"
    if not _ASKS.search(said):
        return "the stem asks for no value"
    if len(set(question.options.values())) < len(question.options):
        return "two options are the same"
    return next(
        (f"option {letter} is {why}" for letter, text in question.options.items() if (why := _no_value(text))), None
    )


def _no_value(text: str) -> str | None:
    """What keeps the judge from comparing it; None for a value."""
    if not text or len(text) > _MOST_CHARACTERS or "\n" in text:
        return "empty, long or of several lines"
    if _RELATION.search(text):
        return "a relation"
    if _UNFINISHED.search(text):
        return "a form among others or a list"
    if _NOT_A_VALUE.search(text):
        return "a statement"
    if not _MATHEMATICAL.search(text):
        return "a word"
    plain = _COMMAND.sub(" ", text)
    if len(_LATIN_WORD.findall(plain)) > _MOST_WORDS or len(_CHINESE.findall(plain)) > _MOST_CHINESE:
        return "a text"
    return None


def _converted(problem: Problem, stem: str, answer: str) -> Problem:
    notes = {CONVERTED: "multiple choice", "answer_before": problem.answer.strip()}
    converted = with_notes(read_meta(problem.meta), notes)
    return replace(problem, prompt=stem, answer=answer, meta=converted)


def with_open_forms(benchmarks: Mapping[str, Sequence[Problem]]) -> dict[str, list[Problem]]:
    """The rows of benchmarks, those that can be converted in both forms: a converted candidate gives both away."""
    opened = {name: [open_question(row) for row in rows if row.domain != "code"] for name, rows in benchmarks.items()}
    return {
        name: [*rows, *(row for row in opened[name] if isinstance(row, Problem))] for name, rows in benchmarks.items()
    }


def is_converted(meta: str) -> bool:
    """Whether the row with that `meta` was a choice question before curation made it an open one."""
    return f'"{CONVERTED}"' in meta and CONVERTED in earlier_notes(read_meta(meta))
