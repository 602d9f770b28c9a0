"""Teacher traces that are not worth learning from (paper 4.1.1): cut off, going round in circles, or in two languages.

A trace is a solution with thinking tags. Whether its answer is right is the judge's question, see `verification`.
"""

from collections import Counter

from stages.curation.language import language_of, share_of

_GRAM = 20  # words
_MOST_REPEATED = 0.2  # share of word 20-grams that stood there before; of 986 real traces one has more than .07
_LOOP = 3  # times that the same stretch ends a trace
_END = 40  # characters by which the stretch before is found
_OTHER_SCRIPT = 0.02  # share of letters


def trace_fault(solution: str, prompt: str) -> tuple[str, str] | None:
    """Reason and evidence for which a solution with thinking tags is no good trace; None for a good one and for other solutions."""
    if "<think>" not in solution and "</think>" not in solution:
        return None
    if circles := _circles(solution):
        return circles
    if "</think>" not in solution:
        return "trace: thinking not closed", f"ends with {solution.strip()[-80:]!r}"
    if not solution.rpartition("</think>")[2].strip():
        return "trace: cut off", "nothing follows </think>"
    return _languages(solution, prompt)


def _circles(solution: str) -> tuple[str, str] | None:
    words = solution.split()
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
    """The language of the prompt, or of the trace where they differ as a whole, with more than a little of another script."""
    language = language_of(solution)
    other = "zh" if language == "en" else "en"
    share = share_of(other, solution) if language == "en" else 0.0
    if share > _OTHER_SCRIPT and share_of(other, prompt) <= _OTHER_SCRIPT:
        return "trace: mixed languages", f"{share:.2f} of the letters of a trace in {language} are {other}"
    return None
