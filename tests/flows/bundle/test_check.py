"""`check.py`: the standard library alone comes to the pipeline's numbers, groups and digests."""

import ast
import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.domains import FAILED_STATUSES
from data.domains.plain import squeezed
from data.schema import Problem
from flows.bundle import check
from stages.evaluation import statistics
from stages.evaluation.groups import problem_clusters, problem_groups
from stages.evaluation.scores import model_scores
from stages.records.artifact import canonical_json, content_digest, document_seal
from stages.sampling.requests import GREEDY

CONFIDENCE = 0.95


def _drawn(seed):
    """Values of two models on problems, right or wrong or in quarters, some not judged, some drawn together."""
    rng = np.random.default_rng(seed)
    num = int(rng.integers(1, 60))
    ours, theirs = (rng.integers(0, 2, num) * 1.0 if seed % 2 else rng.integers(0, 5, num) / 4 for _ in range(2))
    ours[rng.random(num) < 0.05] = np.nan
    clusters = [f"c{number}" for number in (rng.integers(0, max(1, num // 3), num) if seed % 4 >= 2 else range(num))]
    return ours, theirs, clusters


@pytest.mark.parametrize("seed", range(24))
def test_means_and_differences_are_those_of_the_pipeline(seed):
    ours, theirs, clusters = _drawn(seed)
    expected = statistics.estimate_mean(ours, confidence=CONFIDENCE, clusters_P=clusters)
    found = check.judged_values([*ours], clusters)
    assert (found is None) == (expected is None)
    if found is None:
        return
    row = check.mean_row(found, CONFIDENCE)
    assert [*row.values()] == pytest.approx(dataclasses.astuple(expected), rel=check.DIGITS, abs=check.DIGITS)
    expected = statistics.estimate_difference(ours - theirs, confidence=CONFIDENCE, clusters_P=clusters)
    row = check.difference_row(check.judged_values([*(ours - theirs)], clusters), CONFIDENCE)
    names = {"difference": "value", "n": "num_problems", "unequal": "num_unequal", "smallest_difference": "smallest"}
    for name in ("difference", "low", "high", "n", "p", "unequal"):
        assert check.same(row[name], getattr(expected, names.get(name, name)))
    assert check.same(row["smallest_difference"], expected.smallest, check.ROOT_DIGITS)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, math.tan(math.pi * 0.475)), (2, 0.95 / math.sqrt(2 * 0.975 * 0.025))]
)
def test_students_quantile_is_the_closed_form_of_one_and_two_degrees(degrees, quantile):
    assert check.student_quantile(0.975, degrees) == pytest.approx(quantile, rel=1e-12)


def test_students_quantile_of_many_degrees_is_that_of_its_expansion():
    """Abramowitz and Stegun 26.7.5, its first two terms; the third is below 1e-12."""
    z, degrees = check.normal_quantile(0.975), 10_000
    expected = z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    assert check.student_quantile(0.975, degrees) == pytest.approx(expected, rel=1e-11)


def test_mcnemar_is_counted_by_hand():
    assert check.mcnemar(5, 1) == 2 * (1 + 6) / 64
    assert check.mcnemar(2, 2) == 1.0 and check.mcnemar(0, 0) == 1.0


def test_fewest_heads_that_are_significant_are_those_of_the_tail():
    needed = check._needed(30, 0.025)
    for num, k in enumerate(needed):
        tails = [sum(math.comb(num, heads) for heads in range(least, num + 1)) for least in (k - 1, k)]
        assert tails[1] <= 0.025 * 2**num < tails[0]


def _problem(number, **parts):
    return Problem(**{"id": f"p{number}", "domain": "math", "split": "heldout", "prompt": "", "meta": "{}", **parts})


def test_groups_are_those_of_the_pipeline():
    problems = [
        _problem(0, meta='{"level": 2}'), _problem(1, meta='{"level": 3}', domain="code"), _problem(2, meta='{"level": 4}'),
        _problem(3), _problem(4, split="eval", source="owner/set", meta='{"level": 2, "cluster": "paper 1"}'),
    ]  # fmt: skip
    clusters = problem_clusters(problems)
    rows = {
        one.id: {"domain": one.domain, "split": one.split, "source": one.source, "level": one.level,
                 "cluster": clusters[one.id], "samples": 2}
        for one in problems
    }  # fmt: skip
    made = check.Evaluation(rows, samples=[], levels=[2, 3], confidence=0.95, rl_arms=())
    assert made.groups == problem_groups(problems, trained_levels=[2, 3, None])


def _sample(problem, sample, status, extracted="", score=None):
    score = float(status == "correct") if score is None else score
    return {"problem_id": problem, "sample": sample, "status": status, "score": score, "extracted": extracted}


def test_scores_by_problem_are_those_of_the_pipeline():
    rows = [
        _sample(problem, GREEDY, status) for problem, status in (("a", "correct"), ("b", "judge_error"), ("c", "wrong"))
    ]
    answers = {
        "a": ["correct 7", "wrong 8", "correct 7 ", "no_answer ", "wrong 9"],
        "b": ["wrong x + 1", "wrong x+1", "correct 3", "judge_error 3", "timeout 3"],
        "c": ["wrong 1", "correct 2", "wrong 1", "correct 2", "bad_gold 5"],
    }
    for problem, given in answers.items():
        rows += [_sample(problem, number, *text.split(" ", 1)) for number, text in enumerate(given)]
    rows.append(_sample("d", 0, "wrong", "1/2", score=0.5))
    greedy, sampled = ([row for row in rows if (row["sample"] == GREEDY) == is_greedy] for is_greedy in (True, False))
    expected = model_scores(pa.Table.from_pylist(greedy), pa.Table.from_pylist(sampled), num_samples=5)
    found = check._model_scores(rows, 5)
    assert [*found] == [*expected]
    for metric, by_problem in expected.items():
        assert found[metric] == pytest.approx(by_problem, abs=0, nan_ok=True)


@pytest.mark.parametrize("text", ["x + 1", "  a  b ", "3 , 4", "f ( x )", "ä - ö", ""])
def test_answers_are_the_same_but_for_white_space_by_the_pipelines_rule(text):
    assert check.squeezed(text) == squeezed(text)


def test_digests_and_constants_are_the_pipelines():
    manifest = {"seal": "", "metrics": {"b": math.nan, "a": 0.1}, "files": {"ä": {"bytes": 1, "sha256": "0"}}}
    assert check.seal_of(manifest) == document_seal(manifest)
    assert check.content_of(manifest["files"]) == content_digest(manifest["files"])
    assert check.canonical({"b": [1, "ä"], "a": None}).decode() == canonical_json({"b": [1, "ä"], "a": None})
    assert check.FAILED == FAILED_STATUSES
    assert (check.POWER, check.GREEDY) == (statistics.POWER, GREEDY)


def test_only_the_standard_library_is_imported_but_for_what_may_be_absent():
    tree = ast.parse(Path(check.__file__).read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in found if name.split(".")[0] not in sys.stdlib_module_names} == {"pyarrow.parquet"}
