"""How well decontamination sees a benchmark row in disguise: recall per disguise, and how often it takes a near miss for a leak.

    python -m benchmarks contamination_challenge

Reads the public sets of RING_DATA_DIR (else ../shared/data). From MATH-500, AIME 2024 and 2025 and GSM8K test it draws rows and
disguises them, `EACH` per disguise; `translated` rows are those of mgsm_zh. As many near misses: for a benchmark row, the training row
whose words are most like it, half of them under the same disguises. What is a true copy (character 5-grams alike, numbers aside equal)
is no near miss and left out. A second figure: the share of training rows at random that are taken for leaks.
"""

import os
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import TfidfVectorizer

from data.schema import Problem
from stages.curation.contamination import MeasuredRow
from stages.curation.decontamination import leak_index
from stages.curation.normalisation import comparison_key, masked
from stages.curation.sketches import shingles
from stages.recipe import load_recipe

SEED = int(os.environ.get("CHALLENGE_SEED", "0"))
EACH = 20
NUM_OTHERS = 2000
MEASURED = ("math500", "aime24", "aime25", "gsm8k")
TRAINING = ("math_train", "math_test4500", "aime_1983_2023", "gsm8k", "deepmath_sample", "college_math")
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Probe:
    """A text to be told: a disguised benchmark row (its id), or a row that is none (empty)."""

    text: str
    disguise: str
    leaks: str
    answer: str


# ---------------------------------------------------------------- disguises

_NAMES = ("Aram", "Bettina", "Chidi", "Dorota", "Emeka", "Farida", "Goran", "Hilde", "Ivo", "Jalila", "Kofi", "Leilani")
_WORDING = (
    (r"\bFind\b", "Determine"),
    (r"\bHow many\b", "What is the number of"),
    (r"\bhow many\b", "what number of"),
    (r"\bWhat is\b", "Give"),
    (r"\bCompute\b", "Work out"),
    (r"\bEvaluate\b", "Calculate"),
    (r"\bLet\b", "Suppose that"),
    (r"\beach\b", "every"),
    (r"\btotal\b", "overall"),
    (r"\bif\b", "provided that"),
    (r"\bpositive integers?\b", "natural number(s)"),
    (r"\bsuch that\b", "for which"),
    (r"\bvalue\b", "result"),
    (r"\bbuys\b", "purchases"),
    (r"\bmoney\b", "cash"),
)
_LATEX = (
    (r"\\dfrac|\\tfrac", r"\\frac"),
    (r"\\frac\{([^{}]+)\}\{([^{}]+)\}", r"{\1 \\over \2}"),
    (r"\$([^$]+)\$", r"\\(\1\\)"),
    (r"\\le\b", r"\\leqslant"),
    (r"\\ge\b", r"\\geqslant"),
    (r"\\cdot", r"\\times"),
    (r"\\sqrt\{([^{}]+)\}", r"(\1)^{1/2}"),
    (r"(?<=\d)%", r" percent"),
    (r"\\left|\\right", ""),
)
_STORY = (
    "The evening before the village fair, the teacher walked home along the river and thought about the competition. "
    "Her pupils had asked for something they could argue about over supper, so she wrote it on the back of a ticket: ",
    "During a long train ride two friends kept each other awake with riddles. The older one lost every round until he remembered "
    "a page of an old notebook and read aloud: ",
    "In the attic of the museum a clerk found a box of letters. One of them, with no date on it, ended in this way: ",
)
_AFTER = (
    " Nobody at the table spoke for a while, and the soup went cold while everyone scribbled on napkins.",
    " The conductor, who had listened from the door, said that he would come back for the solution.",
    " The clerk copied it out in her best hand and pinned it to the wall above her desk.",
)
_WRAPPERS = (
    "Problem {n}. (Mock examination {m}, section {k}) {text} Show all of your work and box the final result.",
    "### Question {n}.{k}\nRead carefully and answer: {text}\n\nThink step by step.",
    "[{m} points] Exercise {n}: {text} (Source: practice set {k}.)",
    "You are an expert. Solve task #{n} below.\n\n{text}\n\nReturn only the answer to item {n}.",
)


def _wrapped(text: str, rng: random.Random) -> str:
    return rng.choice(_WRAPPERS).format(n=rng.randint(2, 99), m=rng.randint(3, 40), k=rng.randint(1, 9), text=text)


def _renamed(text: str, rng: random.Random) -> str:
    """Other people, and other letters for variables."""
    people = set(re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b|\b[A-Z][a-z]+(?='s\b)", text)) - {
        "Let",
        "Find",
    }
    for name in sorted(people):
        text = re.sub(rf"\b{name}\b", rng.choice(_NAMES), text)
    letters = dict(zip("xyznmk", rng.sample("uvwtpq", 6), strict=True))
    return re.sub(r"(?<![A-Za-z\\])([xyznmk])(?![A-Za-z])", lambda found: letters[found[1]], text)


def _reordered(text: str, rng: random.Random) -> str:
    sentences = re.split(r"(?<=[.?!])\s+", text.strip())
    if len(sentences) == 1:
        head, comma, tail = text.partition(", ")
        return f"{tail.rstrip('.')} when {head[0].lower()}{head[1:]}." if comma else f"{text} Do it."
    *conditions, question = sentences
    rng.shuffle(conditions)
    return " ".join([question, *conditions])


def _noisy(text: str, rng: random.Random) -> str:
    """Three in a hundred characters swapped with the next, capitals and spaces changed."""
    signs = list(text)
    for place in range(len(signs) - 1):
        if rng.random() < 0.03 and signs[place].isalpha() and signs[place + 1].isalpha():
            signs[place], signs[place + 1] = signs[place + 1], signs[place]
    text = "".join(signs)
    return re.sub(r" ", lambda _: rng.choice((" ", " ", "  ", "\n")), text.upper() if rng.random() < 0.3 else text)


def _relatexed(text: str, _rng: random.Random) -> str:
    for pattern, replacement in _LATEX:
        text = re.sub(pattern, replacement, text)
    return text


def _told(text: str, rng: random.Random) -> str:
    number = rng.randrange(len(_STORY))
    return _STORY[number] + text + _AFTER[number]


def _reworded(text: str, _rng: random.Random) -> str:
    for pattern, replacement in _WORDING:
        text = re.sub(pattern, replacement, text)
    return text


def _renumbered(text: str, rng: random.Random) -> str:
    """Other numbers, of as many digits."""
    return re.sub(r"(?<![\w.^_{])\d+(?![\w}])", lambda found: str(int(found[0]) + rng.randint(1, 7)), text)


_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_PARTS = {
    2: "half",
    3: "third",
    4: "quarter",
    5: "fifth",
    6: "sixth",
    7: "seventh",
    8: "eighth",
    9: "ninth",
    10: "tenth",
}


def _in_words(number: int) -> str:
    if number < 20:
        return _SMALL[number]
    if number < 100:
        return _TENS[number // 10 - 2] + (f"-{_SMALL[number % 10]}" if number % 10 else "")
    for scale, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= scale:
            rest = number % scale
            joint = " and " if scale == 100 else " "
            return f"{_in_words(number // scale)} {name}" + (f"{joint}{_in_words(rest)}" if rest else "")
    raise AssertionError(number)


def _parts(above: str, below: str) -> str:
    """`five sixths`, or the fraction on a line."""
    if not (above.isdecimal() and below.isdecimal() and int(below) in _PARTS and int(above) < 20):
        return f"({above})/({below})"
    name = _PARTS[int(below)]
    plural = "halves" if name == "half" else f"{name}s"
    return f"{_in_words(int(above))} {name if above == '1' else plural}"


def _spelled(text: str, rng: random.Random) -> str:
    """Nine in ten numbers in words, powers and simple fractions, too; a coefficient may stick to its letter."""
    text = re.sub(r"\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}", lambda found: _parts(found[1], found[2]), text)
    text = re.sub(r"\^\{?2\}?(?![\d}])", " squared", text)
    text = re.sub(r"\^\{?3\}?(?![\d}])", " cubed", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    return re.sub(
        r"(?<![\w.,\\])\d{1,7}(?![\d.,]\d)",
        lambda found: _in_words(int(found[0])) if rng.random() < 0.9 else found[0],
        text,
    )


def _in_digits(text: str, _rng: random.Random) -> str:
    """The other way round: what is spelled in digits."""
    spelled = {word: str(value) for value, word in enumerate(_SMALL) if value > 1}
    spelled |= {word: str(10 * value) for value, word in enumerate(_TENS, start=2)} | {
        "half": "1/2",
        "third": "3rd",
        "fourth": "4th",
    }
    return re.sub(r"[A-Za-z]+", lambda found: spelled.get(found[0].lower(), found[0]), text)


def _combined(text: str, rng: random.Random) -> str:
    return _wrapped(_noisy(_relatexed(_renamed(text, rng), rng), rng), rng)


DISGUISES: dict[str, Callable[[str, random.Random], str]] = {
    "renamed": _renamed,
    "wrapped": _wrapped,
    "reordered": _reordered,
    "noise": _noisy,
    "LaTeX": _relatexed,
    "story": _told,
    "reworded": _reworded,
    "renumbered": _renumbered,
    "combined": _combined,
    "spelled": _spelled,
    "in digits": _in_digits,
    "spelled, in a story": lambda text, rng: _told(_spelled(text, rng), rng),
    "spelled and renamed": lambda text, rng: _renamed(_spelled(text, rng), rng),
    "spelled and combined": lambda text, rng: _combined(_spelled(text, rng), rng),
}


# ---------------------------------------------------------------- the challenge


def data_folder() -> Path:
    folder = Path(os.environ.get("RING_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not any(folder.glob("*.parquet")):
        raise SystemExit(f"no public problem sets in {folder}; set RING_DATA_DIR")
    return folder


def rows_of(name: str, split: str) -> list[dict[str, str]]:
    table = pq.read_table(data_folder() / f"{name}.parquet", columns=["id", "split", "prompt", "answer"])
    return [row for row in table.to_pylist() if row["split"] == split]


def measured_rows() -> list[MeasuredRow]:
    return [
        MeasuredRow(name, row["id"], row["prompt"], "math", row["answer"])
        for name in MEASURED
        for row in rows_of(name, "eval")
    ]


def disguised(measured: list[MeasuredRow], rng: random.Random) -> Iterator[Probe]:
    english = [row for row in measured if len(row.text.split()) >= 8]
    for name, disguise in DISGUISES.items():
        for row in rng.sample(english, EACH):
            yield Probe(disguise(row.text, rng), name, row.id, "" if name == "renumbered" else row.answer)
    gsm8k = [row for row in measured if row.benchmark == "gsm8k"]
    chinese = rows_of("mgsm_zh", "eval")
    for number in rng.sample(range(250), EACH):
        yield Probe(chinese[number]["prompt"], "translated", gsm8k[number].id, gsm8k[number].answer)


def near_misses(measured: list[MeasuredRow], rows: list[dict[str, str]], rng: random.Random) -> Iterator[Probe]:
    """The training row with the words most like a benchmark row's, for as many benchmark rows as there are disguised ones."""
    training = [row["prompt"] for row in rows]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    vectors = vectorizer.fit_transform(training)
    used: set[int] = set()
    count = 0
    for row in rng.sample(measured, len(measured)):
        scores = np.asarray((vectors @ vectorizer.transform([row.text]).T).todense()).ravel()
        best = next(int(place) for place in np.argsort(-scores) if not _is_copy(training[place], row.text))
        if best in used or any(_is_copy(training[best], other.text) for other in _like(row, measured)):
            continue
        used.add(best)
        names = [name for name in DISGUISES if name != "renumbered"]
        text = training[best]
        yield Probe(
            DISGUISES[names[count // 2 % len(names)]](text, rng) if count % 2 else text,
            "near miss",
            "",
            rows[best]["answer"],
        )
        count += 1
        if count == (len(DISGUISES) + 1) * EACH:
            return


def _like(row: MeasuredRow, measured: list[MeasuredRow]) -> list[MeasuredRow]:
    own = set(comparison_key(row.text).split())
    return [other for other in measured if len(own & set(comparison_key(other.text).split())) * 2 >= len(own)]


def _is_copy(one: str, other: str) -> bool:
    """By another measure than those that are tried: character 5-grams, or equality but for numbers."""
    first, second = comparison_key(one), comparison_key(other)
    if masked(first.split()) == masked(second.split()):
        return True
    left, right = shingles(first), shingles(second)
    return len(left & right) >= 0.5 * len(left | right)


def training_rows() -> list[dict[str, str]]:
    return [row for name in TRAINING for row in rows_of(name, "train")]


def _problem(text: str, answer: str) -> Problem:
    return Problem(id="", domain="math", split="", prompt=text, answer=answer)


def main() -> None:
    """Print the table for one seed."""
    rng = random.Random(SEED)
    measured, training = measured_rows(), training_rows()
    probes = [*disguised(measured, rng), *near_misses(measured, training, rng)]
    background = [row["prompt"] for row in rng.sample(training, 4096)]
    index = leak_index(measured, load_recipe("curate-public").recipe.curation.decontamination, background)
    found = list(index.find_all([_problem(probe.text, probe.answer) for probe in probes]))
    lines = ["| disguise | rows | found | the right row |", "| --- | --- | --- | --- |"]
    for name in (*DISGUISES, "translated", "near miss"):
        pairs = [(probe, leak) for probe, leak in zip(probes, found, strict=True) if probe.disguise == name]
        hits = [(probe, leak) for probe, leak in pairs if leak is not None]
        right = sum(leak.row.id == probe.leaks for probe, leak in hits)
        lines.append(f"| {name} | {len(pairs)} | {len(hits)} | {right} |")
    told = [leak is not None for probe, leak in zip(probes, found, strict=True) if probe.disguise in DISGUISES]
    lines.append(f"\nrecall without the translated rows {np.mean(told):.3f}")
    others = rng.sample(training, NUM_OTHERS)
    flagged = list(index.find_all([_problem(row["prompt"], row["answer"]) for row in others]))
    kinds = Counter(leak.reason for leak in flagged if leak is not None)
    lines.append(f"of {NUM_OTHERS} training rows at random {kinds.total()} are taken for leaks: {dict(kinds)}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
