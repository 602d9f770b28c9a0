import json
import math

import numpy as np
import pytest

from data.benchmarks.codeforces import (
    Contest,
    Entrant,
    contest_rating,
    expected_rank,
    percentile,
    rating_of,
    rating_of_rank,
    read_contest,
    read_contests,
    read_humans,
)

TRIO = (Entrant(1700, 1250), Entrant(1500, 500), Entrant(1300, 0))
PAIR = Contest("7", "Round (Div. 2)", {"A": 500.0, "B": 1000.0}, TRIO)  # two problems, three entrants
SOLVES_B = {("7", "A"): (False, False), ("7", "B"): (False, True)}


def test_a_contest_of_two_problems_and_three_entrants_worked_by_hand():
    # B at the second try: 1000 - 50 = 950 points, behind 1250 and before 500: rank 2. With x = 10^((m - 1500) / 400) and k = sqrt(10)
    # the chances of the entrants to be ahead are 1/(1 + x/k), 1/(1 + x), 1/(1 + kx); that they add up to 1 is x^3 = (k + 1 + 1/k) x + 2.
    rated = contest_rating(SOLVES_B, PAIR)
    assert (rated.points, rated.penalty, rated.rank, rated.num_solved, rated.limit) == (950, 0, 2, 1, "")
    k = math.sqrt(10)
    x = max(np.roots([1, 0, -(k + 1 + 1 / k), -2]).real)
    assert rated.rating == pytest.approx(1500 + 400 * math.log10(x), abs=1e-6)
    assert rated.rating == pytest.approx(1645.6, abs=0.1)
    assert expected_rank(rated.rating, [1700, 1500, 1300]) == pytest.approx(2, abs=1e-9)


@pytest.mark.parametrize(
    ("rank", "ratings", "rating"),
    [
        (2, (1500, 1500), 1500.0),  # one of two stands before it: as good as they are
        (2, (1300, 1700), 1500.0),  # symmetrical about 1500
        (3, (1500, 1500, 1500), 1500 - 400 * math.log10(2)),  # 3 / (1 + x) = 2: x = 1/2
        (3, (1000,) * 6, 1000 + 400 * math.log10(2)),  # 6 / (1 + x) = 2: x = 2, 120 above, beyond the bound of 100
        (5, (1000,) * 6, 1000 - 400 * math.log10(2)),  # 6 / (1 + x) = 4: x = 1/2
        (1.5, (1500,), 1500.0),
    ],
)
def test_the_rating_is_that_whose_expected_rank_is_the_rank(rank, ratings, rating):
    bounded = min(rating, max(ratings) + 100)
    assert rating_of_rank(rank, ratings)[0] == pytest.approx(bounded, abs=1e-6)


def test_expected_rank_is_one_and_the_chance_of_each_to_be_ahead():
    assert expected_rank(1500, []) == 1
    assert expected_rank(1500, [1500]) == pytest.approx(1.5)
    assert expected_rank(1500, [1900]) == pytest.approx(1 + 10 / 11)
    assert expected_rank(1900, [1500, 1900]) == pytest.approx(1 + 1 / 11 + 1 / 2)


def test_who_solves_nothing_stands_behind_all_and_has_the_lowest_rating():
    rated = contest_rating({}, PAIR)
    assert (rated.points, rated.rank, rated.num_solved, rated.num_untried) == (0, 4, 0, 2)
    assert (rated.rating, rated.limit) == (0.0, "lowest")
    assert contest_rating({("7", "A"): (False,) * 8, ("7", "B"): (False,) * 8}, PAIR).rating == 0.0


def test_who_solves_everything_at_once_is_a_hundred_above_the_strongest():
    rated = contest_rating({("7", "A"): (True,), ("7", "B"): (True,)}, PAIR)
    assert (rated.points, rated.rank, rated.num_solved) == (1500, 1, 2)
    assert (rated.rating, rated.limit) == (1800.0, "highest")


def test_only_tries_before_the_first_right_one_cost():
    def points(*tried):
        return contest_rating({("7", "A"): tried}, PAIR).points

    assert [points(True), points(True, False), points(False, True, False), points(False, False, True)] == [
        500,
        500,
        450,
        400,
    ]
    assert points(*[False] * 11, True) == 0  # never less than nothing


def test_who_has_as_many_points_stands_before_the_model():
    assert contest_rating({("7", "A"): (True,)}, PAIR).rank == 3  # 1250 and 500 are ahead, 0 is not


def test_an_educational_round_counts_problems_and_penalty_minutes():
    entrants = (Entrant(1600, 2, 15), Entrant(1500, 2, 10), Entrant(1400, 2, 5), Entrant(1300, 1, 0))
    contest = Contest("8", "Educational Round", {"A": None, "B": None}, entrants)
    rated = contest_rating({("8", "A"): (False, True), ("8", "B"): (True,)}, contest)
    assert (rated.points, rated.penalty) == (2, 10)
    assert rated.rank == 3  # penalties 5 and 10 are ahead, 15 is not


def test_tries_of_another_contest_count_nowhere():
    assert contest_rating({("70", "A"): (True,), ("7", "C"): (True,)}, PAIR).num_solved == 0


def test_the_rating_of_several_contests_is_their_mean():
    other = Contest("9", "Round (Div. 2)", {"A": 500.0}, (Entrant(1300, 500), Entrant(1700, 0)))
    tries = SOLVES_B | {("9", "A"): (False, True)}  # 450 points: rank 2, 1500
    humans = {1200: 50, 1490: 30, 1600: 20}
    rating = rating_of(tries, [PAIR, other], humans=humans)
    first, second = rating.contests
    assert second.rating == pytest.approx(1500, abs=1e-6)
    assert rating.rating == pytest.approx((first.rating + 1500) / 2)
    assert (second.percentile, first.percentile) == (80.0, 80.0 if first.rating <= 1600 else 100.0)
    assert rating.mean_percentile == (first.percentile + second.percentile) / 2
    assert rating.percentile == percentile(rating.rating, humans)


def test_without_human_ratings_there_is_no_percentile():
    rating = rating_of(SOLVES_B, [PAIR])
    assert rating.percentile is rating.mean_percentile is rating.contests[0].percentile is None


def test_the_percentile_is_the_share_below():
    humans = {1000: 1, 1500: 2, 2000: 1}
    values = {999: 0, 1000: 0, 1000.5: 25, 1500: 25, 1501: 75, 2000: 75, 2001: 100}
    assert {rating: percentile(rating, humans) for rating in values} == values


def test_a_rating_needs_a_contest_with_entrants():
    with pytest.raises(ValueError, match="the standings of at least one contest"):
        rating_of({}, [])
    with pytest.raises(ValueError, match="contest 7: has no rated entrant"):
        rating_of({}, [Contest("7", "x", {"A": 500.0}, ())])
    with pytest.raises(ValueError, match="the ratings of some humans"):
        percentile(1500, {})


# ---------------------------------------------------------------- files of the site's API


def _row(handle, points, *, penalty=0):
    return {"party": {"members": [{"handle": handle}]}, "points": points, "penalty": penalty}


def _write(folder, number, name, rows, changes, problems=({"index": "A", "points": 500.0}, {"index": "B"})):
    result = {"contest": {"id": number, "name": name}, "problems": list(problems), "rows": rows}
    folder.mkdir(exist_ok=True)
    (folder / f"{number}.standings.json").write_text(json.dumps({"status": "OK", "result": result}))
    told = [{"handle": handle, "oldRating": rating, "newRating": 0} for handle, rating in changes.items()]
    (folder / f"{number}.ratings.json").write_text(json.dumps({"status": "OK", "result": told}))


def test_entrants_are_those_with_a_place_and_a_rating(tmp_path):
    _write(tmp_path, 5, "Round 1 (Div. 2)", [_row("a", 500), _row("b", 3, penalty=40)], {"b": 1400, "c": 1900})
    contest = read_contest(tmp_path / "5.standings.json", tmp_path / "5.ratings.json")
    assert contest == Contest("5", "Round 1 (Div. 2)", {"A": 500.0, "B": None}, (Entrant(1400, 3, 40),))


def test_contests_of_other_divisions_and_small_ones_are_left_out_with_the_reason(tmp_path):
    for number, name in (
        (1, "R (Div. 2)"),
        (2, "R (Div. 1 + Div. 2)"),
        (3, "Educational (Rated for Div. 2)"),
        (4, "R (Div. 3)"),
    ):
        handles = {f"h{n}": 1000 + n for n in range(1 if number == 3 else 3)}
        _write(tmp_path, number, name, [_row(handle, 1) for handle in handles], handles)
    kept, left_out = read_contests(tmp_path, min_entrants=2)
    assert [contest.id for contest in kept] == ["1"]
    assert left_out == {
        "2": "R (Div. 1 + Div. 2) is not of Div. 2 alone",
        "3": "1 rated entrants, more than 2 needed",
        "4": "R (Div. 3) is not of Div. 2 alone",
    }
    assert len(read_contests(tmp_path, division_2=False, min_entrants=0)[0]) == 4


@pytest.mark.parametrize(
    "text", ["", "[]", '{"status": "FAILED"}', '{"status": "OK", "result": {}}', '{"status": "OK", "result": [1]}']
)
def test_a_file_that_is_not_the_apis_is_named(tmp_path, text):
    _write(tmp_path, 5, "R (Div. 2)", [], {})
    (tmp_path / "5.standings.json").write_text(text)
    with pytest.raises(ValueError, match=r"5\.standings\.json.*Codeforces API|cannot be read as JSON"):
        read_contests(tmp_path)
    with pytest.raises(ValueError, match=r"holds no ID\.standings\.json"):
        read_contests(tmp_path / "none")


def test_human_ratings_are_counts_or_a_list(tmp_path):
    path = tmp_path / "humans.json"
    path.write_text('{"1500": 2, "1600": 1}')
    assert read_humans(path) == {1500.0: 2, 1600.0: 1}
    path.write_text("[1500, 1600, 1500]")
    assert read_humans(path) == {1500.0: 2, 1600.0: 1}
    for text in ("{}", "[]", '{"a": 1}', "7", '{"1500": -1}', '{"1500": 0}', "nonsense"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"needed is JSON, \{rating: users\}"):
            read_humans(path)
