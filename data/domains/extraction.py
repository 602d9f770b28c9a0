r"""What a response offers as its answer: the text after the thinking, the boxes of its final statement, its last block of code.

Word-level tokenizers put white space around everything, so white space inside tags and before braces is tolerated. Every function is
linear in the length of the text: a response may be anything.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

MAX_ANSWER_CHARACTERS = 2000

_CLOSING_THINK = re.compile(r"<\s*/\s*think\s*>")
_OPENING_THINK = re.compile(r"<\s*think\s*>")
_FINAL_MARK = "####"


def after_thinking(response: str, *, requires_thinking: bool) -> str | None:
    """The text after the last `</think>`; None when the thinking was not finished.

    The prompt opens the thinking, or the response does, as the model's template has it; the text that counts is the same. A response
    without any tag has not finished its thinking; a plain solution, judged with `requires_thinking=False`, counts as a whole.
    """
    closings = list(_CLOSING_THINK.finditer(response))
    if closings:
        rest = response[closings[-1].end() :]
        return None if _OPENING_THINK.search(rest) else rest
    if requires_thinking or _OPENING_THINK.search(response):
        return None
    return response


@dataclass(frozen=True, slots=True)
class FinalLine:
    """The line with which GSM8K ends a solution: `#### 72`."""

    start: int  # where the line starts in the solution
    answer: str


def final_line(solution: str) -> FinalLine | None:
    """The last line that is not blank, if it is `#### 72`; None if it is another, or holds no answer."""
    body = solution.rstrip()
    start = body.rfind("\n") + 1
    answer = body[start + len(_FINAL_MARK) :].strip() if body.startswith(_FINAL_MARK, start) else ""
    return FinalLine(start, answer) if answer else None


def final_answer(solution: str) -> str | None:
    """The answer with which a worked solution ends: its last box, else its last line `#### 72`; None when it has neither."""
    box = last_box(solution)
    line = final_line(solution) if box is None else None
    return line.answer if line else box


# ---------------------------------------------------------------- boxes

_BOX = re.compile(r"\\\s*(?:boxed|fbox)(?![A-Za-z])")
_OPENING = re.compile(r"\s*\{")
_BARE = re.compile(
    r"[ \t]*(?:(?P<number>[+-]?(?:\d|\.\d)[\d.,]*(?:/\d+)?)|(?P<letter>[a-z])(?![a-z])|(?P<command>\\[a-z]+))",
    re.IGNORECASE | re.ASCII,
)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def last_box(text: str) -> str | None:
    r"""What the last `\boxed{...}` or `\boxed 7` holds, stripped; None when there is none or the last one is not closed."""
    boxes = _boxes(text)
    return boxes[-1].content(text) if boxes and boxes[-1].is_closed else None


def all_boxes(text: str) -> list[str] | None:
    """What all boxes hold (of nested ones the inner), each once, in order; None when there is none or one is not closed."""
    boxes = _boxes(text)
    if not boxes or not all(box.is_closed for box in boxes):
        return None
    return list(dict.fromkeys(box.content(text) for box in _innermost(boxes)))


def final_boxes(text: str) -> list[str] | None:
    r"""What the boxes of the final statement hold, each once, in order: `\boxed{1} and \boxed{2}` is one answer of two parts.

    Boxes belong together where only what joins the items of a list stands between them (`_are_joined_by`); any other word starts a new
    statement, so that a correction counts alone. None when there is no box or the last one is not closed; `[""]` when the last is empty.
    """
    boxes = _boxes(text)
    if not boxes or not boxes[-1].is_closed:
        return None
    inner = _innermost(boxes)
    first = len(inner) - 1
    while first and _are_joined_by(text, inner[first - 1].end, inner[first].start):
        first -= 1
    contents = [box.content(text) for box in inner[first:]]
    return list(dict.fromkeys(filter(None, contents))) if contents[-1] else [""]


@dataclass(frozen=True, slots=True)
class _Box:
    """Places in a text."""

    start: int  # of the backslash
    inside: int  # where the content starts
    stop: int  # where it ends; -1 in a box that is not closed
    end: int  # behind the box

    @property
    def is_closed(self) -> bool:
        return self.stop >= 0

    def content(self, text: str) -> str:
        return text[self.inside : self.stop].strip()


def _boxes(text: str) -> list[_Box]:
    r"""All boxes, by where they start. What is no box, as a bare `\boxed` before a word, is left out."""
    closing = closing_braces(text)
    found = (_box(text, command, closing) for command in _BOX.finditer(text))
    return [box for box in found if box is not None]


def _box(text: str, command: re.Match[str], closing: Mapping[int, int]) -> _Box | None:
    if opening := _OPENING.match(text, command.end()):
        stop = closing.get(opening.end() - 1, -1)
        return _Box(command.start(), opening.end(), stop, stop + 1)
    bare = _BARE.match(text, command.end())
    if bare is None:
        return None
    kind = str(bare.lastgroup)
    stop = _end_of_arguments(text, bare.end(), closing) if kind == "command" else bare.end()
    if kind == "number":
        stop -= len(bare[kind]) - len(bare[kind].rstrip(".,"))
    return _Box(command.start(), bare.start(kind), stop, stop)


def _end_of_arguments(text: str, position: int, closing: Mapping[int, int]) -> int:
    r"""Behind the arguments of a command: groups in braces, or digits as in `\frac12`; -1 where a group is not closed."""
    while True:
        opening = _OPENING.match(text, position)
        if opening is not None:
            position = closing.get(opening.end() - 1, -1) + 1
            if position == 0:
                return -1
        elif text[position : position + 1].isdecimal():
            position += 1
        else:
            return position


def closing_braces(text: str) -> dict[int, int]:
    """Where each opening brace that is closed is closed."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            closing[opened.pop()] = brace.start()
    return closing


def _innermost(boxes: list[_Box]) -> list[_Box]:
    """The closed boxes that hold no other."""
    return [box for box, after in pairwise(boxes) if box.is_closed and after.start >= box.stop] + boxes[-1:]


# ---------------------------------------------------------------- what joins boxes

_LONGEST_LINK = 100  # characters between two boxes of one statement
_DRESSING = re.compile(
    r"\\\s*(?:boxed|fbox|text(?:rm|bf|it|normal)?|mathrm|mathbf|mbox|q?quad|left|right|displaystyle)(?![A-Za-z])"
    r"|\\[()\[\],;:!~ \\]|[{}$*&~]"
)
_BLANK_LINE = re.compile(r"\n\s*\n")
_CONJUNCTION = r"(?:(?i:\b(?:and|or|as\ well\ as)\b)|和|或者?|与|以?及|还有)"
_NAME = r"""(?:
    (?: \\(?:angle|(?:var)?(?:alpha|beta|gamma|delta|epsilon|theta|lambda|mu|phi|rho|sigma|tau|omega))\s*[A-Za-z]{0,3}
      | [A-Za-z] | [A-Z]{2,4} )
    (?:\s*_\s*\w{1,8})? '{0,2} (?:\s*\(\s*\w{1,8}\s*\))?
    \s*(?:=|:|\\in\b|\\approx\b|\\equiv\b)
)"""  # x =, f(2) =, \angle ABC =
_LABEL = r"(?:\(\s*[A-Za-z0-9]{1,3}\s*\)|(?<=\n)[ \t]*(?:\d{1,2}[.)]|[-•]))"  # (b), or an item's mark on a new line
# As in `\boxed{1} pen and \boxed{2} pencils`, but no word that takes the first back or draws a conclusion from it.
_TURNS = r"(?i:no|not|wait|actually|but|so|then|hence|thus|therefore|is|was|wrong|incorrect|false|fails?|invalid|instead|rather)"
_UNITS = rf"(?:(?:(?!{_TURNS}\b)[A-Za-z()]+,?\s+){{1,4}}|(?:(?![不错非是])[\u4e00-\u9fff]){{1,3}})"
_LIST = re.compile(rf"(?:\s|[,;、，；]|{_CONJUNCTION}|{_NAME}|{_LABEL})*", re.VERBOSE)
_LIST_WITH_UNITS = re.compile(rf"\s*{_UNITS}{_CONJUNCTION}\s*{_NAME}?\s*", re.VERBOSE)


def _are_joined_by(text: str, start: int, stop: int) -> bool:
    """Whether what stands between two boxes joins them to one list.

    Punctuation of lists, `and` or `or`, the signs around mathematics, names as in `y =`, labels; units only before a conjunction. A
    sentence's end does not join, nor does `=`, after which the same value stands again; a blank line only with a conjunction.
    """
    if stop - start > _LONGEST_LINK:
        return False
    between = text[start:stop]
    if _BLANK_LINE.search(between) and not re.search(_CONJUNCTION, between):
        return False
    between = _DRESSING.sub(" ", between)
    return bool(_LIST.fullmatch(between) or _LIST_WITH_UNITS.fullmatch(between))


# ---------------------------------------------------------------- programs

_FENCE = re.compile(r"^([ \t]*)(```+|~~~+)[ \t]*([^\n]*)$", re.MULTILINE)
_PYTHON = re.compile(r"[ic]?py(?:thon|py)?[ _-]*(?:[23][\dx.]*)?(?:[ -]\d\d)?(?: ?\([^)]*\))?")
_CPP = re.compile(r"(?:gnu |clang |ms |msvc )?(?:c\+\+|cpp|cxx|cc|g\+\+|clang\+\+)[ _-]?(?:\d\w)?(?:[ (].*)?")
_CLASS = re.compile(r"\{ *\.?([\w+#.-]+)[^}]*\}")  # {.python .numberLines}
_WORD = re.compile(r"[\w+#.-]*")
_ATTRIBUTES = re.compile(
    r"(?: *(?:[\w-]+=(?:\"[^\"]*\"|'[^']*')|\{[^}]*\}|(?:title|linenums|hl_lines|filename|file|name|start|startline|highlight|caption)=\S+"
    r"|linenums|numberLines|showLineNumbers|copy))+ *"
)
_LEXEME = re.compile(r"#[^\n]*|\"\"\"|'''|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
_CLOSING_INDENT = 3  # by which a closing fence may stand in, whatever the opening one does


def last_code_block(text: str) -> str | None:
    """The last closed fenced block marked as Python, else the last one without a mark; None when the last is not closed.

    A block in another language does not count. The code may start on the fence's line.
    """
    program = last_program(text, languages=("python",))
    return program.code if program else None


@dataclass(frozen=True, slots=True)
class Program:
    """A block of code and what it is written in: python, c++, or nothing that is known."""

    language: str
    code: str


def language_named(name: str) -> str:
    """Python or c++ by the names that fences and judges give them, as `PyPy 3-64` and `GNU C++17`; else nothing."""
    name = name.strip().lower()
    if len(name) > 60:
        return ""
    return "python" if _PYTHON.fullmatch(name) else "c++" if _CPP.fullmatch(name) else ""


def last_program(text: str, *, languages: Collection[str]) -> Program | None:
    """As `last_code_block`, for several languages; a block without a mark is Python.

    A closing fence stands alone on its line, not deeper than the opening one, and not inside a string of the program.
    """
    text = text.replace("\r\n", "\n")
    found: dict[bool, Program] = {}  # marked?
    position = 0
    while (fence := _FENCE.search(text, position)) is not None:
        is_marked, language, start = _opening(fence)
        end = _closing(text, fence, start)
        if end is None:
            return None
        if language in languages:
            found[is_marked] = Program(language, _dedented(text[start : end.start()], fence[1]))
        position = end.end()
    return found[max(found)] if found else None


def _opening(fence: re.Match[str]) -> tuple[bool, str, int]:
    """Whether the block is marked, its language, and where its code starts: on the fence's line if that holds more than a mark."""
    info = fence[3]
    behind = fence.end(3)
    if not info.strip():
        return False, "python", behind
    if language := language_named(info):
        return True, language, behind
    if named := _CLASS.match(info):
        return True, language_named(named[1]), behind
    word = _WORD.match(info)
    end = word.end() if word else 0
    language = language_named(info[:end])
    return end > 0, language if end else "python", behind if _ATTRIBUTES.fullmatch(info, end) else fence.start(3) + end


def _closing(text: str, fence: re.Match[str], start: int) -> re.Match[str] | None:
    """The first closing fence that is not inside a string; else the first at the end of a line, as texts of one line have it."""
    mark = f"{re.escape(fence[2])}{re.escape(fence[2][0])}*"
    depth = max(len(fence[1].expandtabs()), _CLOSING_INDENT)
    scanned, first = start, None
    for end in re.compile(rf"^([ \t]*){mark}[ \t]*$", re.MULTILINE).finditer(text, fence.end()):
        if len(end[1].expandtabs()) > depth:
            continue
        first = first or end
        scanned = _behind_strings(text, scanned, end.start())
        if scanned <= end.start():
            return end
    return first or re.compile(rf"[ \t]{mark}[ \t]*$", re.MULTILINE).search(text, start)


def _behind_strings(text: str, position: int, end: int) -> int:
    """Where a scan for strings is when it has passed `end`: behind it if a string of several lines reaches over it."""
    while position < end and (lexeme := _LEXEME.search(text, position, end)) is not None:
        position = lexeme.end()
        if lexeme[0] in ('"""', "'''"):
            closing = text.find(lexeme[0], position)
            if closing < 0:
                return end
            position = closing + 3
    return max(position, end) if position <= end else position


def _dedented(body: str, indent: str) -> str:
    """Without the indent of the fence where every line has it, and the white space that a tokenizer put before the first line."""
    body = body.strip("\n") if "\n" in body.strip() else body.strip()
    lines = body.split("\n")
    if indent and all(line.startswith(indent) or not line.strip() for line in lines):
        return "\n".join(line.removeprefix(indent) for line in lines)
    return body
