"""A rating from the problems that a model solves in Codeforces contests, as CodeElo computes it (arXiv 2501.01257; paper 4.1.2).

In: for each problem its tries in order, right or not; of each contest the rated entrants, with the rating that they came with and what they
scored. The model joins the standings: its points, its rank among the entrants, and then the rating m whose expected rank is that rank,

    rank = 1 + sum over entrants i of 1 / (1 + 10^((m - r_i) / 400)),

found by bisection. The rating of several contests is their mean, its percentile the share of human ratings below it.

Standings and ratings are those of the site's API (`contest.standings`, `contest.ratingChanges`), kept as files: none are shipped. We depart
from CodeElo's code in that places count from 1 (there from 0), and that ratings are not rounded. As there, who has the same points and
penalty stands before the model, and the time of a try takes no points off.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

LOWEST = 0.0  # of a rating
HEADROOM = 100.0  # a model may be rated so much above the strongest entrant
POINTS_PER_FAILED_TRY = 50.0
MINUTES_PER_FAILED_TRY = 10.0
MIN_ENTRANTS = 200  # a contest with no more rated entrants says little, and is left out
_STEPS = 60  # of a bisection: 5 000 / 2^60

Tries = Mapping[tuple[str, str], Sequence[bool]]  # (contest, index of the problem) -> right or not, in order
Humans = Mapping[float, int]  # rating -> how many have it


@dataclass(frozen=True, slots=True)
class Entrant:
    """One human of the standings."""

    rating: float  # before the contest
    points: float
    penalty: float = 0.0  # minutes


@dataclass(frozen=True, slots=True)
class Contest:
    """A contest and who took part."""

    id: str
    name: str
    problems: Mapping[str, float | None]  # index -> points; None: 1 point and penalty minutes, as in educational rounds
    entrants: tuple[Entrant, ...]

    @property
    def is_division_2(self) -> bool:
        """Whether it is one of Div. 2 alone, as the paper's are."""
        return "Div. 2" in self.name and "Div. 1" not in self.name


@dataclass(frozen=True, slots=True)
class ContestRating:
    """How a model did in one contest."""

    contest: str
    num_solved: int
    num_untried: int  # problems that nothing was tried on, as where the set lacks them: they count as not solved
    points: float
    penalty: float  # minutes
    rank: int  # from 1, among the entrants and the model
    rating: float
    limit: Literal[
        "", "lowest", "highest"
    ]  # the rank is beyond what a rating in these bounds makes likely: the rating is the bound
    percentile: float | None  # of humans below the rating; None: no human ratings at hand


@dataclass(frozen=True, slots=True)
class Rating:
    """How a model did in all of them."""

    rating: float  # mean over the contests
    percentile: float | None  # of humans below that mean
    mean_percentile: float | None  # of the contests' percentiles
    contests: tuple[ContestRating, ...]


def rating_of(tries: Tries, contests: Sequence[Contest], *, humans: Humans | None = None) -> Rating:
    """The model's rating over these contests. Raises ValueError for no contest, or one without entrants."""
    if not contests:
        raise ValueError("a rating needs the standings of at least one contest")
    rated = tuple(contest_rating(tries, contest, humans=humans) for contest in contests)
    mean = sum(one.rating for one in rated) / len(rated)
    if humans is None:
        return Rating(mean, None, None, rated)
    return Rating(
        mean, percentile(mean, humans), sum(percentile(one.rating, humans) for one in rated) / len(rated), rated
    )


def contest_rating(tries: Tries, contest: Contest, *, humans: Humans | None = None) -> ContestRating:
    """The model's rating in one contest.

    With nothing solved it stands behind everybody, and where others solved something its rating is LOWEST or near it; with the best score
    it is HEADROOM above the strongest entrant: no finite rating has an expected rank of 1.

    Raises ValueError for a contest without entrants.
    """
    if not contest.entrants:
        raise ValueError(f"contest {contest.id}: has no rated entrant to compare with")
    given = {index: tries.get((contest.id, index), ()) for index in contest.problems}
    points, penalty = _score(given, contest.problems)
    rank = 1 + sum(_is_ahead(entrant, points, penalty) for entrant in contest.entrants)
    rating, limit = rating_of_rank(rank, [entrant.rating for entrant in contest.entrants])
    return ContestRating(
        contest=contest.id,
        num_solved=sum(map(any, given.values())),
        num_untried=sum(not tried for tried in given.values()),
        points=points,
        penalty=penalty,
        rank=rank,
        rating=rating,
        limit=limit,
        percentile=None if humans is None else percentile(rating, humans),
    )


def _score(tries: Mapping[str, Sequence[bool]], worth: Mapping[str, float | None]) -> tuple[float, float]:
    """Points and penalty: of each problem that was solved, less what the tries before the first right one cost."""
    points = penalty = 0.0
    for index, tried in tries.items():
        if not any(tried):
            continue
        num_failed, value = list(tried).index(True), worth[index]
        points += 1.0 if value is None else max(0.0, value - POINTS_PER_FAILED_TRY * num_failed)
        penalty += MINUTES_PER_FAILED_TRY * num_failed if value is None else 0.0
    return points, penalty


def _is_ahead(entrant: Entrant, points: float, penalty: float) -> bool:
    return entrant.points > points or (entrant.points == points and entrant.penalty <= penalty)


def expected_rank(rating: float, ratings: Iterable[float]) -> float:
    """Rank that a contestant of this rating has on average among others of these ratings."""
    return 1 + sum(1 / (1 + 10 ** ((rating - other) / 400)) for other in ratings)


def rating_of_rank(rank: float, ratings: Sequence[float]) -> tuple[float, Literal["", "lowest", "highest"]]:
    """The rating whose expected rank is this one, and which bound it stands at, if at one."""
    low, high = LOWEST, max(ratings) + HEADROOM
    if rank >= expected_rank(low, ratings):
        return low, "lowest"
    if rank <= expected_rank(high, ratings):
        return high, "highest"
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if expected_rank(middle, ratings) > rank else (low, middle)
    return (low + high) / 2, ""


def percentile(rating: float, humans: Humans) -> float:
    """Per cent of humans with a lower rating. Raises ValueError where there are none."""
    known = sorted(humans)
    counts = [0, *accumulate(humans[one] for one in known)]
    if not counts[-1]:
        raise ValueError("a percentile needs the ratings of some humans")
    return 100 * counts[bisect_left(known, rating)] / counts[-1]


# ---------------------------------------------------------------- files of the site's API


def read_contests(
    folder: Path, *, division_2: bool = True, min_entrants: int = MIN_ENTRANTS
) -> tuple[list[Contest], dict[str, str]]:
    """Contests of the files `ID.standings.json` and `ID.ratings.json`, and why others are left out: contest -> reason.

    Raises ValueError for a folder without standings, and for a file that is not what the API gives.
    """
    paths = sorted(folder.glob("*.standings.json"))
    if not paths:
        raise ValueError(
            f"{folder}: holds no ID.standings.json (contest.standings of the Codeforces API) beside ID.ratings.json"
        )
    kept, left_out = [], {}
    for path in paths:
        contest = read_contest(path, path.with_name(path.name.replace(".standings.", ".ratings.")))
        if division_2 and not contest.is_division_2:
            left_out[contest.id] = f"{contest.name} is not of Div. 2 alone"
        elif len(contest.entrants) <= min_entrants:
            left_out[contest.id] = f"{len(contest.entrants)} rated entrants, more than {min_entrants} needed"
        else:
            kept.append(contest)
    return kept, left_out


def read_contest(standings: Path, ratings: Path) -> Contest:
    """The contest of `contest.standings` and `contest.ratingChanges`; entrants are those who are in both.

    Raises ValueError for a file that is not what the API gives.
    """
    told, changes = _result(standings), _result(ratings)
    try:
        before = {change["handle"]: float(change["oldRating"]) for change in changes}
        rows = [(row["party"]["members"][0]["handle"], row) for row in told["rows"] if row["party"]["members"]]
        problems = {problem["index"]: _points(problem) for problem in told["problems"]}
        entrants = tuple(
            Entrant(before[handle], float(row["points"]), float(row["penalty"]))
            for handle, row in rows
            if handle in before
        )
        return Contest(str(told["contest"]["id"]), str(told["contest"]["name"]), problems, entrants)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{standings} and {ratings.name}: not what the Codeforces API gives ({error!r})") from error


def _points(problem: Mapping[str, Any]) -> float | None:
    return float(problem["points"]) if problem.get("points") is not None else None


def _result(path: Path) -> Any:  # noqa: ANN401 - JSON
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(answer, dict) or answer.get("status") != "OK" or "result" not in answer:
        raise ValueError(f'{path}: is no answer of the Codeforces API; needed is {{"status": "OK", "result": ...}}')
    return answer["result"]


def read_humans(path: Path) -> dict[float, int]:
    """Human ratings from JSON: `{rating: users}`, or a list of ratings. Raises ValueError for anything else, and for none."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        pairs = told.items() if isinstance(told, dict) else ((rating, 1) for rating in told)
        humans: dict[float, int] = {}
        for rating, number in pairs:
            humans[float(rating)] = humans.get(float(rating), 0) + int(number)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: cannot be read as human ratings ({error}); needed is JSON, {{rating: users}}"
        ) from error
    if not humans or min(humans.values()) < 0 or not sum(humans.values()):
        raise ValueError(f"{path}: holds no human rating; needed is JSON, {{rating: users}}")
    return humans
