"""Teacher traces that are not worth learning from (paper 4.1.1): cut off, going round in circles, or in two languages.

A trace is a solution with thinking tags; of others it is asked only whether they go round in circles. Whether an answer is right is the
judge's question, see `verification`.
"""

import re
from collections import Counter

from stages.curation.language import language_of, share_of

_GRAM = 20  # words
_MOST_REPEATED = 0.2  # share of word 20-grams that stood there before; of 986 real traces one has more than .07
_LOOP = 3  # times that the same stretch ends a trace
_END = 40  # characters by which the stretch before is found
_OTHER_SCRIPT = 0.02  # share of letters
_LATIN_IN_CHINESE = 0.5  # share of letters; names and variables are Latin, too
_GREEK = re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]")  # is mathematics, not a language
_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+"
)  # signs that stand without spaces are words


def trace_fault(solution: str, prompt: str, *, is_program: bool = False) -> tuple[str, str] | None:
    """Reason and evidence for which a solution is no good trace; None for a good one. A program without a thought may repeat itself."""
    is_trace = "<think>" in solution or "</think>" in solution
    if (is_trace or not is_program) and (circles := _circles(solution)):
        return circles
    if not is_trace:
        return None
    if "</think>" not in solution:
        return "trace: thinking not closed", f"ends with {solution.strip()[-80:]!r}"
    if not solution.rpartition("</think>")[2].strip():
        return "trace: cut off", "nothing follows </think>"
    return _languages(solution, prompt)


def _circles(solution: str) -> tuple[str, str] | None:
    words = _TOKEN.findall(solution)
    grams = Counter(zip(*(words[start:] for start in range(_GRAM)), strict=False))
    total = grams.total()
    if total and (share := (total - len(grams)) / total) > _MOST_REPEATED:
        return "trace: repetition", f"{share:.2f} of its {_GRAM}-grams stood there before; {_MOST_REPEATED} allowed"
    thought = solution.rpartition("</think>")[0].rstrip() or solution.rstrip()
    end = thought[-_END:]
    before = thought.rfind(end, 0, len(thought) - 1)
    period = len(thought) - _END - before
    if before >= 0 and len(end) == _END and thought.endswith(thought[-period:] * _LOOP):
        return "trace: repetition", f"its thought ends with {_LOOP} times {thought[-period:][:80]!r}"
    return None


def _languages(solution: str, prompt: str) -> tuple[str, str] | None:
    """More than a little of another script than the trace's own, unless the prompt has it, too."""
    solution = _GREEK.sub("", solution)
    language = language_of(solution)
    others = {
        "en": {"zh": _OTHER_SCRIPT, "other": _OTHER_SCRIPT},
        "zh": {"en": _LATIN_IN_CHINESE, "other": _OTHER_SCRIPT},
    }
    for other, most in others.get(language, {}).items():
        share = share_of(other, solution)
        if share > most and share_of(other, _GREEK.sub("", prompt)) <= most:
            return "trace: mixed languages", f"{share:.2f} of the letters of a trace in {language} are {other}"
    return None
