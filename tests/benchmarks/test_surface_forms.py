"""Responses whose truth is known: every form says the gold, or does not, as its table claims."""

from collections import Counter

import pytest

from benchmarks.surface_forms import OTHER, RIGHT, SAME, SHAPES, Recorded, say
from data.domains import Judge
from data.schema import Problem

GOLDS = ("7", "1234", "\\frac{3}{4}", "-\\frac{7}{2}", "90^\\circ", "\\text{Evelyn}", "3, 5, 7", "(3,4]", "1 \\pm \\sqrt{19}", "x=5",
         "3\\sqrt{13}", "6 - 5i", "52_8", "\\$36", "x^3+3x-6")  # fmt: skip


def problem(answer):
    return Problem(f"p/{answer}", "math", "eval", "How many?", answer, solution="One. Two. So \\boxed{" + answer + "}.")


def said(answer, seeds=range(400), recorded=()):
    return [say(problem(answer), seed=seed, others=GOLDS, recorded=recorded) for seed in seeds]


@pytest.mark.parametrize(
    ("form", "gold", "expected"),
    [
        ("decimal", "\\frac{3}{4}", "0.75"),
        ("mixed number", "\\frac{7}{2}", "3\\frac{1}{2}"),
        ("slash", "-\\frac{7}{2}", "-7/2"),
        ("turned round", "3, 5, 7", "7, 5, 3"),
        ("turned round", "6 - 5i", "- 5i+6 "),
        ("plus and minus", "1 \\pm \\sqrt{19}", "1 + \\sqrt{19}, 1 - \\sqrt{19}"),
        ("as an inequality", "(3,4]", "3 < x \\le 4"),
        ("without its unit", "90^\\circ", "90"),
        ("thousands in TeX", "1234", "1{,}234"),
        ("decimal", "\\frac{1}{3}", None),
        ("turned round", "58,500", None),
    ],
)
def test_a_form_writes_the_same_value(form, gold, expected):
    assert SAME[form](gold) == expected


@pytest.mark.parametrize(
    ("form", "gold", "expected"),
    [
        ("upside down", "\\frac{3}{4}", "\\frac{4}{3}"),
        ("rounded to three places", "\\frac{2}{3}", "0.667"),
        ("rounded to three places", "\\frac{3}{4}", None),
        ("other brackets", "(3,4]", "[3,4)"),
        ("last digit lost", "1234", "123"),
    ],
)
def test_another_value_is_another(form, gold, expected):
    assert OTHER[form](gold) == expected


def test_a_seed_says_the_same_again_and_seeds_differ():
    first, again = said("7"), said("7")
    assert first == again
    assert len({one.text for one in first}) > 50


def test_every_shape_occurs_and_all_truths_do():
    kinds = Counter(one.kind for one in said("7"))
    assert set(SHAPES) <= set(kinds)
    assert len({one.truth for one in said("7")}) == 3


def test_recorded_text_is_given_for_half_of_the_seeds_with_a_box_around_its_answer():
    recorded = [Recorded("6 + 2 = 8\nA: 8", is_right=False), Recorded("I do not know", is_right=False)]
    models = [one for one in said("7", recorded=recorded) if one.kind == "model"]
    assert 150 < len(models) < 250
    assert {one.text for one in models} == {"6 + 2 = 8\nThe answer is $\\boxed{8}$.", "I do not know"}


@pytest.mark.parametrize("gold", GOLDS)
def test_a_right_response_without_reading_difficulties_is_called_right(gold):
    plain = [one for one in said(gold, range(60)) if one.kind in ("as the gold", "said twice", "corrected", "thought")]
    with Judge(requires_thinking=False) as judge:
        verdicts = judge.verify([(one.text, problem(gold)) for one in plain])
    assert {one.truth for one in plain} <= {RIGHT}
    assert {verdict.status for verdict in verdicts} <= {"correct"}
