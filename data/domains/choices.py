r"""Letters of a multiple choice in any dress, compared as sets: `C`, `（C）`, `\textbf{(C)}\ 12`, `C: 12`, `Option C`, `选ACD`, `A、C`.

In: an answer or a gold. Out: its letters, or None where the text is something else, as a formula with capital letters. As many letters
count as the problem has options (`num_options`), or eight where nobody knows.
"""

import itertools
import re

NUM_USUAL = 8
_MAX_CHARACTERS = 2000  # of an answer; a longer one is no choice

_FONT = r"\\(?:text(?:bf|rm|it|sf)?|math(?:rm|bf|sf|it)|boldsymbol|[mh]box|operatorname|rm|bf)(?![A-Za-z])"
_MARKUP = re.compile(rf"{_FONT}|\\(?:left|right)(?![A-Za-z])|[{{}}$]|\*\*")
_GAP = re.compile(r"\\(?:[,;:! ]|q?quad(?![A-Za-z]))|~")
_INSIDE = re.compile(r"(?<=[(\[]) | (?=[)\]])")  # blanks of `( C )`
_SIGNS = str.maketrans("（）［］【】：．，；–—", "()[][]:.,;--")
_LEAD = re.compile(
    r"(?:(?:the )?(?:correct |final |right )?(?:options?|choices?|answers?)(?: is| are|:)?(?: options?| choices?)?"
    r"|故?选(?:项|择)?|(?:正确|故)?答案[为是选]?) ?:? ?(?=[(\[A-Z])",
    re.IGNORECASE,
)
_TAIL = re.compile(r"(?: is (?:the )?correct(?: (?:answer|option|choice))?|项|正确)?[.。]?$")
_ITEM = r"(?:\([A-Z]{1,26}\)|\[[A-Z]{1,26}\]|[A-Z]{1,26}[.)]?)"
_BETWEEN = r"(?: ?(?:,|;|、|/|\\?&|,? and (?=[(\[A-Z])|和|与|及) ?| |(?<=[.)\]])(?=[(\[A-Z]))"
_LIST = re.compile(rf"{_ITEM}(?:{_BETWEEN}{_ITEM})*,?")
_RUN = re.compile(r"[A-Z]+")
_LABEL = re.compile(
    r"""[(\[](?P<bracketed>[A-Z])[)\]][.:、]?(?:\ (?![-+]\ |[*/^_=<>,;!|)])|(?=[\d\u4e00-\u9fff\\]|[A-Za-z]{2}))\S    # (C) 12
    |(?P<plain>[A-Z])(?:\ ?[)、]\ ?|\ ?:\ ?|\.(?:\ |(?=[^\d\s])))(?![=)]|[A-Z]$)\S                         # C: 12, C. mitochondria
    |(?P<dashed>[A-Z])\ -\ [^\W\d_]{3}                                                                 # E - energy""",
    re.VERBOSE,
)
_DASH_IN_TEXT = re.compile(r"\s*\\text(?:bf|rm)?\s*\{\s*([A-Z])\s*[-–—]")
_SMALL = re.compile(r"\(?[a-z]\)?\.?")


def same_choice(gold: str, answer: str, *, num_options: int | None) -> bool | None:
    """Whether the answer has the letters of the gold; None where one of them is no choice.

    A single letter beyond the options, as `J` where nobody knows of any, may be a symbol: it is a choice where one of the two is dressed as
    such, as `(J)` or `J. 5 m/s` are.
    """
    wanted = _read(gold)
    given = _read(answer.upper() if num_options and _SMALL.fullmatch(answer.strip()) else answer)
    if wanted is None or given is None:
        return None
    is_dressed = _is_dressed(gold) or _is_dressed(answer)
    options = num_options or NUM_USUAL
    if _num_needed(wanted) > options:
        return wanted == given if len(wanted) == 1 and is_dressed else None
    if num_options is None and _num_needed(given) > options and not is_dressed:
        return None
    return wanted == given


def letters(text: str, *, options: int = NUM_USUAL) -> frozenset[str] | None:
    """The letters of a choice; None when the text is something else. A letter may be followed by what it stands for."""
    found = _read(text)
    return found if found is not None and _num_needed(found) <= options else None


def _read(text: str) -> frozenset[str] | None:
    if len(text) > _MAX_CHARACTERS:
        return None
    if dashed := _DASH_IN_TEXT.match(text):
        return frozenset(dashed[1])
    plain = " ".join(_GAP.sub(" ", _MARKUP.sub("", text)).translate(_SIGNS).split())
    plain = _INSIDE.sub("", plain)
    plain = _TAIL.sub("", _LEAD.sub("", plain, count=1) if _LEAD.match(plain) else plain)
    if _LIST.fullmatch(plain):
        runs = _RUN.findall(plain)
        return frozenset("".join(runs)) if all(map(_is_ascending, runs)) else None
    label = _LABEL.match(plain)
    return frozenset(label["bracketed"] or label["plain"] or label["dashed"]) if label else None


def _is_ascending(run: str) -> bool:
    """ABD are three letters; BAD is a word."""
    return all(first < second for first, second in itertools.pairwise(run))


def _is_dressed(text: str) -> bool:
    return not _RUN.fullmatch(text.strip().strip("$"))


def _num_needed(found: frozenset[str]) -> int:
    """How many options a problem has at least that has these letters."""
    return ord(max(found)) - ord("A") + 1


_OPTION = re.compile(
    r"(?<![A-Za-z\\}])(?P<open>[(\[]) ?(?P<bracketed>[A-Z]) ?[)\]]"
    r"|(?<![A-Za-z0-9\\(\[])(?<![-+*/=] )(?P<plain>[A-Z])(?P<mark>[.)]|[:、](?! ?[A-Z](?![A-Za-z])))(?=\s*\S)"
)
_NEW_LINE = re.compile(r"\\n(?=[(A-Z])")  # as two signs, in data that was escaped twice


def num_options(prompt: str) -> int | None:
    r"""How many options a problem has: `(A) .. (B) ..`, `A. .. B. ..`, `A、`, `A：`, `\textbf{(A)}`, from A on; None for fewer than two."""
    num_found = dict[str, int]()  # by how the letters are marked
    text = _NEW_LINE.sub("\n", _without_drawings(prompt).translate(_SIGNS))
    for option in _OPTION.finditer(text):
        dress = option["open"] or option["mark"]
        num_before = num_found.get(dress, 0)
        if ord(option["bracketed"] or option["plain"]) - ord("A") == num_before:
            num_found[dress] = num_before + 1
    most = max(num_found.values(), default=0)
    return most if most > 1 else None


def _without_drawings(prompt: str) -> str:
    """Without Asymptote code, whose points have letters."""
    start, *rest = prompt.split("[asy]")
    return start + "".join(part.partition("[/asy]")[2] for part in rest)
