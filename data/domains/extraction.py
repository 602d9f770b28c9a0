"""What a response offers as its answer: the text after the thinking, its last box, its last block of code.

Word-level tokenizers put white space around everything, so white space inside tags and before braces is tolerated.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

MAX_ANSWER_CHARACTERS = 2000

_CLOSING_THINK = re.compile(r"<\s*/\s*think\s*>")
_OPENING_THINK = re.compile(r"<\s*think\s*>")
_BOX = re.compile(r"\\\s*(?:boxed|fbox)\s*\{")
_FINAL_LINE = re.compile(r"\n?^####\s*(.+?)\s*\Z", re.MULTILINE)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+#.-]*)", re.MULTILINE)
_LANGUAGES = {
    **dict.fromkeys(("python", "python3", "py", "py3", "python2"), "python"),
    **dict.fromkeys(("c++", "cpp", "cc", "cxx", "c++17", "cpp17"), "c++"),
}


def after_thinking(response: str, *, requires_thinking: bool) -> str | None:
    """The text after the last `</think>`; None when the thinking was not finished.

    A prompt opens the thinking, so a response without any tag has not finished it; a plain solution, judged with
    `requires_thinking=False`, counts as a whole.
    """
    closings = list(_CLOSING_THINK.finditer(response))
    if closings:
        rest = response[closings[-1].end() :]
        return None if _OPENING_THINK.search(rest) else rest
    if requires_thinking or _OPENING_THINK.search(response):
        return None
    return response


def final_line(solution: str) -> re.Match[str] | None:
    """The last line `#### 72`, as GSM8K ends its solutions; group 1 is the answer."""
    return _FINAL_LINE.search(solution)


def final_answer(solution: str) -> str | None:
    """The answer with which a worked solution ends: its last box, else its last line `#### 72`; None when it has neither."""
    box = last_box(solution)
    line = final_line(solution) if box is None else None
    return line[1] if line else box


def last_box(text: str) -> str | None:
    r"""What the last `\boxed{...}` holds, stripped; None when there is none or the last one is not closed."""
    boxes = list(_BOX.finditer(text))
    return _box_content(text, boxes[-1].end()) if boxes else None


def all_boxes(text: str) -> list[str] | None:
    """What all boxes hold, each once, in order; None when there is none or one is not closed."""
    found = [_box_content(text, box.end()) for box in _BOX.finditer(text)]
    closed = [box for box in found if box is not None]
    return list(dict.fromkeys(closed)) if found and len(closed) == len(found) else None


def _box_content(text: str, start: int) -> str | None:
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start : brace.start()].strip()
    return None


def last_code_block(text: str) -> str | None:
    """The last closed fenced block marked as Python, else the last one without a mark; None when the last is not closed.

    A block in another language does not count. The code may start on the fence's line.
    """
    program = last_program(text, languages=("python",))
    return program.code if program else None


@dataclass(frozen=True, slots=True)
class Program:
    """A block of code and what it is written in: python or c++."""

    language: str
    code: str


def last_program(text: str, *, languages: Collection[str]) -> Program | None:
    """As `last_code_block`, for several languages; a block without a mark is Python."""
    found: dict[bool, Program] = {}  # marked?
    position = 0
    while (fence := _FENCE.search(text, position)) is not None:
        end = re.compile(rf"(?:^|[ \t]){re.escape(fence[1])}[ \t]*$", re.MULTILINE).search(text, fence.end())
        if end is None:
            return None
        language = _LANGUAGES.get(fence[2].lower(), "")
        if language in languages:
            found[True] = Program(language, _dedented(text[fence.end() : end.start()]))
        elif not fence[2]:
            found[False] = Program("python", _dedented(text[fence.end(1) : end.start()]))
        position = end.end()
    return found[max(found)] if found else None


def _dedented(body: str) -> str:
    """Without the white space that a tokenizer put before the first line."""
    return body.strip("\n") if "\n" in body.strip() else body.strip()
