r"""Dirt: rows that are wrong on purpose, in stated shares, so that one can see what curation drops and what slips through.

In: clean rows of a source, further rows that it drew, rows of the held-out split, and the share of each kind. Out: rows that say in
`meta.dirt` what they are: `{"kind": "leak", "form": "wrapped", "of": id}`.

| kind | made of | forms |
| --- | --- | --- |
| copy | a clean row of the source | verbatim, respelled (capital, number, `\times`), numbers in words, reordered, wrapped in words |
| leak | a row of the held-out split | the same |
| broken trace | a row of its own with the teacher's solution | wrong step, wrong answer, no box, cut off, goes round in circles |
| cut off | a row of its own | its prompt ends between two words, or inside one |
| malformed | a row of its own | bad encoding, answer lost, picture, options, answer given, tests cut |

The forms of a kind take turns; one that a row has no place for (options for a program) leaves it to another.
Rows are a pure function of the arguments.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from data.schema import Problem
from data.sources.procedural.generation import KINDS
from data.sources.procedural.kind import Slips, derive_seed
from data.sources.procedural.notation import CODE_CLOSING, CODE_OPENING

_Form = Callable[[Problem, Random], Problem | None]  # None: the row has no place for it
_CLOSED = "</think>"
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_NUMBER = re.compile(r"(?<![\w^.])\d+(?![\w^.])")


@dataclass(frozen=True, slots=True)
class Material:
    """What dirt is made of."""

    clean: Sequence[Problem]
    spare: Sequence[Problem]  # of the same kinds, one for each row that is no copy and no leak
    heldout: Sequence[Problem]


def num_spare(shares: Mapping[str, float], num_problems: int) -> int:
    """How many rows of its own the dirt needs, beside those that it copies."""
    return sum(_count(shares[key], num_problems) for key in _OWN if key in shares)


def plant(name: str, material: Material, *, shares: Mapping[str, float], split: str, seed: int) -> list[Problem]:
    """Dirt for a source: of each kind the share of the clean rows, named `<name>-dirt-000000`, which sorts behind them.

    Raises ValueError where there are fewer rows to copy than the share asks for.
    """
    rng = Random(derive_seed("dirt", name, seed))
    spare = iter(material.spare)
    rows: list[Problem] = []
    for key, (kind, forms) in DIRT.items():
        count = _count(shares.get(key, 0.0), len(material.clean))
        made_of = [next(spare) for _ in range(count)] if key in _OWN else _drawn(key, material, count, rng, name)
        uses: Counter[str] = Counter()
        for problem in made_of:
            form, spoiled = _spoiled(problem, forms, uses, rng)
            uses[form] += 1
            dirt = {"kind": kind, "form": form, "of": "" if key in _OWN else problem.id}
            meta = json.dumps({**problem.metadata, "dirt": dirt})
            rows.append(replace(spoiled, id=f"{name}-dirt-{len(rows):06d}", split=split, meta=meta))
    return rows


def _count(share: float, num_problems: int) -> int:
    return round(share * num_problems)


def _drawn(key: str, material: Material, count: int, rng: Random, name: str) -> list[Problem]:
    there = material.heldout if key == "leaks" else material.clean
    if count > len(there):
        raise ValueError(
            f"source {name}: dirt.{key} asks for {count} rows, and there are {len(there)} to make them of: lower the share"
        )
    return rng.sample(there, count)


def _spoiled(problem: Problem, forms: Mapping[str, _Form], uses: Counter[str], rng: Random) -> tuple[str, Problem]:
    """The row in the form that was used least, of those that it has a place for."""
    for name in sorted(forms, key=lambda name: uses[name]):
        if (spoiled := forms[name](problem, rng)) is not None:
            return name, spoiled
    raise AssertionError(f"no form for {problem.id}")


# ---------------------------------------------------------------- copies and leaks


def _verbatim(problem: Problem, _rng: Random) -> Problem:
    return problem


def _respelled(problem: Problem, rng: Random) -> Problem:
    text = problem.prompt.replace("*", r"\times")
    return replace(problem, prompt=f"Problem {rng.randint(2, 99)}. {text[0].upper()}{text[1:]}")


def _in_words(problem: Problem, _rng: Random) -> Problem | None:
    prompt = _NUMBER.sub(lambda found: _WORDS[int(found[0])] if 1 < int(found[0]) <= 12 else found[0], problem.prompt)
    return replace(problem, prompt=prompt) if prompt != problem.prompt else None


def _wrapped(problem: Problem, rng: Random) -> Problem:
    opening = rng.choice(("The teacher wrote this on the board", "Answer in your own words", "One of the tasks was"))
    return replace(problem, prompt=f"{opening} : {problem.prompt} . Show each step .")


def _reordered(problem: Problem, rng: Random) -> Problem | None:
    """Tests, givens or sides of an equation in another order; the other kinds have nothing to reorder."""
    kind = problem.metadata["kind"]
    opening, joint = {"fit": ("tests ", " ; "), "science": (" : ", " , "), "lin": ("solve ", " = ")}.get(kind, ("", ""))
    if not joint:
        return None
    head, opening, rest = problem.prompt.partition(opening)
    parts = rest.split(joint)
    others = [shuffled for shuffled in (rng.sample(parts, len(parts)) for _ in range(8)) if shuffled != parts]
    return replace(problem, prompt=f"{head}{opening}{joint.join(others[0])}") if others else None


# ---------------------------------------------------------------- traces


def _trace(problem: Problem) -> tuple[str, str]:
    """The teacher's thought without a slip, and what follows it."""
    operands = problem.metadata
    slips = Slips(rng=Random(0), chance=0.0)
    thought, _, answer = KINDS[operands["kind"]].reason(operands, "long", slips).partition(_CLOSED)
    return thought.rstrip(), answer.strip()


def _solved(problem: Problem, thought: str, answer: str) -> Problem:
    return replace(problem, solution=f"<think>\n{thought} {_CLOSED} {answer}")


def _raised(text: str) -> str | None:
    """Another last number."""
    found = list(re.finditer(r"\d+", text))
    return f"{text[: found[-1].start()]}{int(found[-1][0]) + 1}{text[found[-1].end() :]}" if found else None


def _wrong_step(problem: Problem, _rng: Random) -> Problem | None:
    """The first line ends with another number, nothing else does: the answer is right."""
    thought, answer = _trace(problem)
    first, line_break, rest = thought.partition("\n")
    wrong = _raised(first)
    return _solved(problem, f"{wrong}{line_break}{rest}", answer) if rest and wrong else None


def _wrong_answer(problem: Problem, _rng: Random) -> Problem | None:
    thought, answer = _trace(problem)
    wrong = _raised(answer)
    return _solved(problem, thought, wrong) if wrong else None


def _no_box(problem: Problem, _rng: Random) -> Problem:
    thought, answer = _trace(problem)
    bare = answer.replace(CODE_OPENING, "").replace(CODE_CLOSING, "").replace("\\boxed{", "").replace("}", "")
    return _solved(problem, thought, bare.strip())


def _stopped(problem: Problem, _rng: Random) -> Problem:
    thought, _ = _trace(problem)
    return replace(problem, solution=f"<think>\n{thought[: max(1, len(thought) * 2 // 3)]}")


def _in_circles(problem: Problem, _rng: Random) -> Problem:
    thought, answer = _trace(problem)
    return _solved(problem, "\n".join([thought] * 8), answer)


# ---------------------------------------------------------------- prompts


def _between_words(problem: Problem, rng: Random) -> Problem:
    words = problem.prompt.split(" ")
    return replace(problem, prompt=" ".join(words[: rng.randint((len(words) + 1) // 2, len(words) - 1)]))


def _inside_a_word(problem: Problem, rng: Random) -> Problem:
    """In the second half, where a word there has two letters."""
    places = [found.start() for found in re.finditer(r"(?<=\w)\w", problem.prompt)]
    late = [place for place in places if place >= len(problem.prompt) // 2]
    return replace(problem, prompt=problem.prompt[: rng.choice(late or places)])


def _bad_encoding(problem: Problem, rng: Random) -> Problem:
    place = rng.randrange(1, len(problem.prompt))
    return replace(problem, prompt=f"{problem.prompt[:place]}\ufffd{problem.prompt[place:]}")


def _answer_lost(problem: Problem, _rng: Random) -> Problem:
    return replace(problem, answer="", tests="")


def _picture(problem: Problem, _rng: Random) -> Problem:
    return replace(problem, prompt=f"{problem.prompt} ![](figure.png)")


def _options(problem: Problem, rng: Random) -> Problem | None:
    value = re.search(r"\d+", problem.answer)
    if problem.domain == "code" or value is None:
        return None
    start = int(value[0]) - rng.randrange(min(4, int(value[0]) + 1))
    options = " ".join(f"({letter}) {start + step}" for step, letter in enumerate("ABCD"))
    return replace(problem, prompt=f"{problem.prompt} {options}")


def _answer_given(problem: Problem, _rng: Random) -> Problem | None:
    return replace(problem, prompt=f"{problem.prompt} \\boxed{{{problem.answer}}}") if problem.answer else None


def _tests_cut(problem: Problem, _rng: Random) -> Problem | None:
    return replace(problem, tests=problem.tests[: len(problem.tests) // 2]) if problem.tests else None


_COPIED: dict[str, _Form] = {
    "verbatim": _verbatim,
    "respelled": _respelled,
    "numbers in words": _in_words,
    "reordered": _reordered,
    "wrapped": _wrapped,
}
DIRT: dict[str, tuple[str, dict[str, _Form]]] = {  # share of the recipe -> what a row of it is, and its forms
    "copies": ("copy", _COPIED),
    "leaks": ("leak", _COPIED),
    "broken_traces": (
        "broken trace",
        {
            "wrong answer": _wrong_answer,
            "no box": _no_box,
            "cut off": _stopped,
            "in circles": _in_circles,
            "wrong step": _wrong_step,
        },
    ),
    "cut_off": ("cut off", {"between words": _between_words, "inside a word": _inside_a_word}),
    "malformed": (
        "malformed",
        {
            "bad encoding": _bad_encoding,
            "answer lost": _answer_lost,
            "picture": _picture,
            "options": _options,
            "answer given": _answer_given,
            "tests cut": _tests_cut,
        },
    ),
}
_OWN = ("broken_traces", "cut_off", "malformed")
