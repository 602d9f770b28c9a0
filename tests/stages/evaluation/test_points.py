"""Points of an exam and ratings of contests from judged samples, by hand."""

import json
import math

import pytest

from data.schema import Problem
from stages.evaluation.points import point_rows, rating_rows
from tests.stages.rl.scripted import samples


def question(name, answer, **meta):
    return Problem(name, "math", "eval", f"{name}?", answer, source="gaokao_math", meta=json.dumps(meta))


def judged(*rows):
    return samples([{"problem_id": name, "status": status, "extracted": "x"} for name, status in rows])


def test_points_are_scaled_to_a_whole_paper_and_what_was_not_judged_is_in_no_total():
    problems = [question("a", "1", score=5), question("b", "2", score=5), question("c", "3", score=12)]
    greedy = judged(("a", "correct"), ("b", "wrong"), ("c", "judge_error"))
    sampled = judged(
        ("a", "correct"), ("a", "wrong"), ("b", "correct"), ("b", "judge_error"), ("c", "wrong"), ("c", "wrong")
    )
    tables = {"gaokao_math.greedy": greedy, "gaokao_math.sampled": sampled}
    first, second = point_rows({"gaokao_math": problems}, tables)
    assert first == {
        "benchmark": "gaokao_math", "mode": "greedy", "points": 150 * 5 / 10, "of": 150, "earned": 5, "judged_points": 10,
        "unjudged_points": 12, "partly_right": 0,
    }  # fmt: skip
    assert (second["earned"], second["judged_points"]) == (2.5 + 5, 22)
    assert second["points"] == pytest.approx(150 * 7.5 / 22)


def test_nothing_judged_is_no_number():
    tables = dict.fromkeys(("gaokao_math.greedy", "gaokao_math.sampled"), judged(("a", "judge_error")))
    assert all(math.isnan(row["points"]) for row in point_rows({"gaokao_math": [question("a", "1", score=5)]}, tables))


def test_a_question_that_was_not_asked_is_in_no_total():
    problems = [question("a", "1", score=5), question("proof", "", score=12)]
    tables = dict.fromkeys(("gaokao_math.greedy", "gaokao_math.sampled"), judged(("a", "correct")))
    for row in point_rows({"gaokao_math": problems}, tables):
        assert (row["earned"], row["judged_points"], row["unjudged_points"], row["points"]) == (5, 5, 12, 150)


def test_a_benchmark_that_counts_shares_has_no_points():
    assert point_rows({"aime24": [question("a", "1")]}, {}) == []


CONTESTED = [
    Problem(f"codeforces/{index}", "code", "eval", index, meta=json.dumps({"contest": "9", "index": index}))
    for index in "AB"
]
TRIED = {"codeforces.sampled": judged(("codeforces/A", "correct"), ("codeforces/B", "wrong"))}


def test_without_standings_a_rating_is_no_number():
    (row,) = rating_rows({"codeforces": CONTESTED}, TRIED, standings=None)
    assert row["contest"] == "not available here: no standings in codeforces-standings"
    assert row["rating"] is None


def test_a_rating_is_that_of_the_standings_at_hand_and_contests_left_out_say_why(tmp_path):
    folder = tmp_path
    for contest, division in (("9", "Div. 2"), ("8", "Div. 1")):
        entrants = range(201)
        rows = [
            {"party": {"members": [{"handle": f"h{n}"}]}, "points": 1000.0 if n < 100 else 0.0, "penalty": 0}
            for n in entrants
        ]
        problems = [{"index": "A", "points": 500.0}, {"index": "B", "points": 1000.0}]
        told = {"contest": {"id": contest, "name": f"Round ({division})"}, "problems": problems, "rows": rows}
        changes = [{"handle": f"h{n}", "oldRating": 1500} for n in entrants]
        for kind, result in (("standings", told), ("ratings", changes)):
            (folder / f"{contest}.{kind}.json").write_text(json.dumps({"status": "OK", "result": result}))
    (folder / "humans.json").write_text('{"1000": 1, "2000": 3}')
    one, mean, out = rating_rows({"codeforces": CONTESTED}, TRIED, standings=folder)
    # 500 points: behind the hundred with 1 000, before the others; 1 + 201 / (1 + 10^((m - 1500) / 400)) = 101
    assert (one["contest"], one["rank"], one["solved"]) == ("9", 101, 1)
    assert one["rating"] == pytest.approx(1500 + 400 * math.log10(201 / 100 - 1))
    assert (mean["contest"], mean["rating"], mean["percentile"]) == ("mean", one["rating"], 25.0)
    assert out["contest"] == "8 left out: Round (Div. 1) is not of Div. 2 alone"
