"""Which held-out problems are averaged together."""

import json
from dataclasses import replace

from data.schema import Problem
from stages.evaluation.groups import problem_clusters, problem_groups


def problem(
    name: str, domain: str, level: int | None, *, split: str = "heldout", source: str = "procedural/x"
) -> Problem:
    meta = json.dumps({} if level is None else {"level": level})
    return Problem(id=name, domain=domain, split=split, prompt=name, answer="1", source=source, meta=meta)


PROBLEMS = [
    problem("a", "math", 2),
    problem("b", "code", 3),
    problem("c", "math", 4),
    problem("d", "math", None, split="eval", source="math500"),
]


def test_what_is_harder_than_training_and_benchmarks_stand_by_themselves() -> None:
    groups = problem_groups(PROBLEMS, trained_levels=[2, 3, None])
    assert groups == {
        "all": ["a", "b"],
        "math": ["a"],
        "code": ["b"],
        "level 2": ["a"],
        "level 3": ["b"],
        "code level 3": ["b"],
        "math level 2": ["a"],
        "math500": ["d"],
        "harder": ["c"],
    }


def test_without_levels_in_training_nothing_is_harder() -> None:
    assert problem_groups(PROBLEMS, trained_levels=[None])["all"] == ["a", "b", "c"]


def test_problems_are_clustered_as_their_meta_says_and_stand_alone_where_it_says_nothing() -> None:
    named = [replace(PROBLEMS[3], id=name, meta=json.dumps({"cluster": 2024})) for name in ("e", "2024")]
    other = replace(PROBLEMS[3], id="cluster 2024", meta='{"cluster": "B"}')
    found = problem_clusters([*PROBLEMS, *named, other])
    assert found["e"] == found["2024"]
    assert len(set(found.values())) == len(PROBLEMS) + 2


def test_problems_of_a_benchmark_are_clustered_as_it_says() -> None:
    rows = [
        Problem(name, "code", "eval", name, source=source, meta=json.dumps(meta))
        for name, source, meta in (
            ("a", "codeforces", {"contest": "9", "index": "A"}),
            ("b", "codeforces_2024", {"contest": "9", "index": "B"}),
            ("c", "codeforces", {"index": "C"}),
            ("d", "aime24", {"contest": "9"}),
        )
    ]
    found = problem_clusters(rows)
    assert found["a"] == found["b"]
    assert len(set(found.values())) == 3
