import random

import pytest

from stages.config import Decontamination
from stages.curation.contamination import LeakIndex, MeasuredRow
from stages.curation.likeness import Likeness, View
from stages.curation.normalisation import words

ROW = (
    "Mira sells 12 jars of honey at the market for 7 dollars each, and Tom sells 30 jars of jam for 4 dollars each. "
    "They share the money with 3 friends in equal parts. How many dollars does each of the five people get?"
)
OTHERS = [
    f"A {thing} costs {price} euros and has {price + 3} {part}s. How many {part}s do {price * 2} {thing}s have?"
    for price, (thing, part) in enumerate(
        [("table", "leg"), ("bus", "seat"), ("book", "page"), ("house", "window"), ("tree", "branch"), ("ship", "sail")]
        * 5,
        2,
    )
]
RULE = Decontamination(likeness=0.6, numbers=0.8, masked_numbers=0.9)


@pytest.fixture(scope="module")
def index():
    rows = [
        MeasuredRow("bench", "b/0", ROW, answer="68"),
        MeasuredRow("bench", "b/1", "Find the value of x if x + 3 = 9.", answer="6"),
    ]
    return LeakIndex(rows, RULE, Likeness([row.text for row in rows], OTHERS))


def _shuffled(text, seed=0):
    sentences = text.split(". ")
    random.Random(seed).shuffle(sentences)
    return ". ".join(sentences)


@pytest.mark.parametrize(
    "text",
    [
        ROW.replace("Mira", "Sonja").replace("Tom", "Pavel"),
        _shuffled(ROW),
        "It was a long evening. " * 30 + ROW + " Nobody knew." * 30,
        ROW.replace("market", "makret").replace("friends", "freinds").replace("dollars", "dolalrs"),
        ROW.replace("How many dollars does", "What amount does").replace("sells", "is selling"),
    ],
)
def test_a_row_in_disguise_is_found(index, text):
    leak = index.find(text)
    assert leak is not None and leak.row.id == "b/0"
    assert 0.5 <= leak.score <= 1


def test_a_row_with_other_numbers_is_found_where_the_recipe_says_so(index):
    text = ROW.replace("12", "15").replace("30", "28").replace("7", "9").replace("4", "6")
    leak = index.find(text)
    assert leak is not None and (leak.reason, leak.method) == ("numbers changed", "numbers masked")
    rule = RULE.model_copy(update={"masked_numbers": 0.0})
    rows = [MeasuredRow("bench", "b/0", ROW, answer="68")]
    assert LeakIndex(rows, rule, Likeness([ROW], OTHERS)).find(text) is None


def test_a_problem_of_the_same_kind_is_none(index):
    text = "Lena sells 9 pots of tea at the fair for 5 dollars each. She gives 2 friends the money. How many dollars does each get?"
    assert index.find(text) is None
    assert all(index.find(other) is None for other in OTHERS)


def test_the_words_of_a_short_row_scattered_over_a_long_text_are_no_leak(index, monkeypatch):
    parts = (
        "Find the value of gold",
        "they knew the value of x",
        "he said if x is there",
        "x + 3 steps on",
        "3 = 9 thirds",
    )
    text = " and so it went on for a long while, ".join(parts) + "."
    assert index.find(text) is None
    monkeypatch.setattr(Likeness, "_in_one_place", lambda _, match, text: match)
    assert index.find(text) is not None


def test_the_same_answer_lowers_what_is_asked_and_another_one_raises_it():
    rule = RULE.model_copy(update={"coverage": 1.0, "masked_numbers": 0.0})
    index = LeakIndex([MeasuredRow("bench", "b/0", ROW, answer="68")], rule, Likeness([ROW], OTHERS))
    tokens = ROW.split()
    texts = ["12 7 30 4 3 " + " ".join(tokens[count:]) for count in range(len(tokens))]
    found = [tuple(index.find(text, answer) is not None for answer in ("68", "", "5")) for text in texts]
    assert (True, False, False) in found and (True, True, False) in found
    assert all(same >= unknown >= other for same, unknown, other in found)


def test_names_and_single_letters_are_masked_in_pairs_and_numbers_in_triples():
    one, other = View.of("There Mira has 3 jars, so x is 3"), View.of("There Sonja has 5 jars, so y is 5")
    assert one.triples == other.triples and one.pairs != other.pairs
    assert (
        ("name", "has") in one.pairs
        and ("so", "v") in one.pairs
        and ("#", "jars") in {pair[:2] for pair in one.triples}
    )


def test_shares_are_those_of_the_row_and_not_of_the_text():
    likeness = Likeness([ROW], OTHERS)
    (whole,) = next(likeness.matches([ROW], least=0.1))
    (inside,) = next(likeness.matches(["So. " * 50 + ROW], least=0.1))
    assert whole.likeness == pytest.approx(1) and whole.numbers == 1 and whole.without_numbers == pytest.approx(1)
    assert inside.likeness == pytest.approx(1, abs=0.05)


def test_a_program_in_a_line_is_found_in_another_wording_and_not_among_many_others():
    rows = [MeasuredRow("bench", "b/0", "Write a function to find the circumference of a circle.", domain="code")]
    index = LeakIndex(rows, RULE, Likeness([row.text for row in rows], OTHERS))
    assert index.find("Write a python function to find the circumference of a circle, please.", domain="code")
    text = (
        "You are given circles on a grid, and must return how many points of the grid lie inside one circle at least. "
        * 4
    )
    assert index.find(text + "Write a function, and find the circumference of a circle.", domain="code") is None


def test_a_formula_of_common_words_is_found_by_its_ngrams():
    series = r"$\sum_{k=1}^{\infty} \frac{(-1)^{k-1}}{k} \sum_{n=0}^{\infty} \frac{1}{k 2^n + 1}$"
    terms = words(series)
    others = [" ".join(random.Random(seed).sample(terms, len(terms))) for seed in range(40)]
    rows = [MeasuredRow("bench", "b/0", f"What is the value of {series}?", answer="1.0")]
    for text, is_leak in ((f"Evaluate the infinite sum: {series}", True), (others[0], False)):
        likeness = Likeness([row.text for row in rows], [*others, *(f"What is the value of {n}?" for n in range(40))])
        found = LeakIndex(rows, RULE, likeness).find(text, "1")
        assert (found is not None) == is_leak


def test_many_rows_in_the_words_of_a_text_hide_no_row_that_it_repeats():
    things = (
        "honey",
        "jam",
        "jars",
        "market",
        "money",
        "friends",
        "people",
        "dollars",
        "parts",
        "tom",
        "mira",
        "equal",
        "share",
    )
    rows = [MeasuredRow("bench", f"short/{thing}", f"Find {thing}.") for thing in things]
    rows += [MeasuredRow("probe", f"own/{n}", ROW.replace("12", str(n)), is_own=True) for n in range(20, 40)]
    rows.append(MeasuredRow("bench", "b/0", ROW, answer="68"))
    index = LeakIndex(rows, RULE, Likeness([row.text for row in rows], OTHERS))
    for text in (f"{ROW} Find it.", ROW.replace("sells", "has sold").replace("share", "split")):
        found = index.find(text, "68")
        assert found is not None and found.row.id == "b/0"
