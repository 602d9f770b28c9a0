import json
import math

import pytest

from data.benchmarks import find_benchmark
from data.benchmarks.gaokao import Mark, mark, question_points, total
from data.benchmarks.loading import load_benchmark
from data.domains.verdict import Verdict
from data.schema import Problem

FOUR = "哪些正确?\nA. a\nB. b\nC. c\nD. d"
FIVE = FOUR + "\nE. e"


def _question(answer, *, score=6, prompt=FOUR, domain="science", **meta):
    text = json.dumps({"score": score, **({"subject": "physics"} if domain == "science" else {}), **meta})
    return Problem("q", domain, "eval", prompt, answer, meta=text)


def _verdict(extracted, status="wrong"):
    return Verdict(status, float(status == "correct"), extracted, "", 0.0)


def _earned(answer, given, **question):
    return mark(_question(answer, **question), _verdict(given)).earned


@pytest.mark.parametrize(
    ("gold", "given", "points"),
    [
        ("ABD", "A", 3),
        ("ABD", "AB", 3),
        ("ABCD", "ABC", 3),
        ("AC", "C", 3),
        ("AC", "AB", 0),
        ("AC", "B", 0),
        ("AC", "ABC", 0),
        ("AC", "", 0),
        ("A", "B", 0),
    ],
)
def test_physics_with_four_options_gives_half_for_any_part(gold, given, points):
    assert _earned(gold, given) == points


@pytest.mark.parametrize(
    ("score", "given", "points"),
    [(5, "A", 2), (5, "AC", 4), (5, "AB", 0), (5, "B", 0), (6, "E", 3), (6, "CE", 4), (6, "BCE", 0), (10, "AC", 0)],
)
def test_the_optional_part_of_physics_gives_points_a_letter(score, given, points):
    assert _earned("ACE", given, score=score, prompt=FIVE) == points


@pytest.mark.parametrize(
    ("score", "gold", "given", "points"),
    [
        (5, "ABD", "A", 2), (5, "ABD", "BD", 2), (5, "ABCD", "ABC", 2), (5, "ABD", "AC", 0),
        (6, "AC", "A", 3), (6, "ABD", "A", 2), (6, "ABD", "AD", 4), (6, "ABD", "ACD", 0),
    ],
)  # fmt: skip
def test_mathematics_gives_what_the_papers_of_its_years_say(score, gold, given, points):
    assert _earned(gold, given, score=score, domain="math") == points


def test_meta_may_state_the_points_of_a_part():
    assert [_earned("ABD", given, score=12, partial=[1, 5]) for given in ("A", "BD", "AC")] == [1, 5, 0]
    assert _earned("ABCD", "ABC", score=12, partial=[1, 5]) == 0


def test_letters_are_read_in_any_dress():
    assert [_earned("$\\mathrm{ABD}$", given) for given in ("A、D", "\\text{AD}", "(A)(D)", "a and d")] == [3, 3, 3, 0]


def test_a_right_answer_earns_all_and_a_wrong_number_nothing():
    assert mark(_question("AC"), _verdict("AC", "correct")) == Mark(6, 6, is_judged=True)
    assert mark(_question("AC"), _verdict("A")) == Mark(3, 6, is_judged=True, is_partial=True)
    assert mark(_question("12", prompt="?"), _verdict("13")) == Mark(0, 6, is_judged=True)
    for status in ("no_answer", "timeout"):
        assert mark(_question("12", prompt="?"), _verdict("", status)) == Mark(0, 6, is_judged=True)


@pytest.mark.parametrize("status", ["bad_gold", "judge_error", "no_tests"])
def test_what_no_judge_can_mark_is_in_no_total(status):
    assert mark(_question("AC"), _verdict("AC", status)) == Mark(0, 6, is_judged=False)


def test_a_paper_of_150_worked_by_hand():
    # 8 x 5 single choice, 3 x 6 of several letters, 3 x 5 blanks, and 77 points of worked problems: 13 + 15 + 15 + 17 + 17
    choices = [Mark(5, 5, is_judged=True)] * 7 + [Mark(0, 5, is_judged=True)]  # 35
    several = [Mark(6, 6, is_judged=True), Mark(4, 6, is_judged=True), Mark(0, 6, is_judged=True)]  # 10
    blanks = [Mark(5, 5, is_judged=True)] * 3  # 15
    worked = [
        Mark(13, 13, is_judged=True),
        Mark(15, 15, is_judged=True),
        Mark(0, 15, is_judged=True),
        Mark(17, 17, is_judged=True),
    ]  # 45
    proof = [Mark(0, 17, is_judged=False)]
    paper = total([*choices, *several, *blanks, *worked, *proof], full_points=150)
    assert (paper.earned, paper.possible, paper.unjudged, paper.full) == (105, 133, 17, 150)
    assert paper.points == pytest.approx(150 * 105 / 133)
    whole = total([*choices, *several, *blanks, *worked, Mark(17, 17, is_judged=True)], full_points=150)
    assert whole.points == whole.earned == 122


def test_without_a_whole_paper_the_questions_are_the_paper():
    assert total([Mark(3, 6, is_judged=True), Mark(5, 5, is_judged=True)]).points == 8
    assert math.isnan(total([Mark(0, 6, is_judged=False)], full_points=150).points)


@pytest.mark.parametrize("meta", ["{}", '{"score": 0}', '{"score": "5"}', '{"score": true}', "nonsense"])
def test_a_question_without_points_is_refused(meta):
    with pytest.raises(ValueError, match=r"problem q: its meta says .* of its points"):
        question_points(Problem("q", "math", "eval", "?", "1", meta=meta))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("gaokao_math", 432 * 5 + 161 * 5 + 3 * 4 + 3 * 3 + 134 * 12 + 110 * 10 + 14),
        ("gaokao_physics", 64 * 6 + 15 * 5 + 11 * 6 + 2 * 9 + 9 * 10 + 6 * 12 + 14 + 15 + 18 + 20),
    ],
)
def test_every_question_at_hand_has_points(name, points, shared_data):
    problems = load_benchmark(find_benchmark(name), data_dir=shared_data)
    assert sum(map(question_points, problems)) == points
