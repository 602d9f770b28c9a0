import json

import pytest

from stages.config import CurationConfig
from stages.curation.annotation import annotate
from stages.curation.subjects import SUBJECTS, subject_of


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("Find the remainder when $7^{100}$ is divided by 13.", "11"),
        ("In how many ways can 5 people sit in a row?", "05"),
        ("Triangle $ABC$ has an area of 12. Find its perimeter.", "51"),
        ("A fair coin is flipped 3 times. What is the probability of 2 heads?", "60"),
        (r"Evaluate $\int_0^1 x^2 \, dx$.", "26"),
        ("Find the eigenvalues of the matrix.", "15"),
        (r"Solve the differential equation $y' = y$.", "34"),
        ("Natalia sold 48 clips to her friends for 2 dollars each and spends half. How many dollars are left?", "97"),
        ("Is every compact space that is Hausdorff normal, in topology?", "54"),
        ("Simplify $(x + 1)^2 - x$.", "12"),
    ],
)
def test_the_subject_is_a_class_of_the_msc(prompt, subject):
    assert subject_of(prompt) == subject
    assert subject in SUBJECTS


def test_a_row_of_a_file_is_annotated_and_a_generated_one_is_not(problem, batch, worker):
    row = problem("Find the remainder when $7^{100}$ is divided by 13.", meta=json.dumps({"grade": 5, "kept": [1]}))
    metas = annotate(worker, (batch(row), CurationConfig())).changed["meta"]
    assert json.loads(metas[0]) == {
        "grade": 5,
        "kept": [1],
        "annotations": {"subject": "11", "level": "primary", "language": "en", "characters": 51},
    }
    assert annotate(worker, (batch(row, generated=True), CurationConfig())).changed["meta"] == [row.meta]


@pytest.mark.parametrize(
    ("licence", "is_dropped"),
    [
        ("MIT (repo); origin CC BY-NC-SA 4.0 - non-commercial", True),
        ("Creative Commons Attribution Non-Commercial ShareAlike", True),
        ("It may be copied provided no money is charged".replace("is ", ""), True),
        ("cc_by_nc_4.0", True),
        ("for research use only", True),
        ("CC BY-SA 4.0", False),
        ("MIT", False),
        ("Apache-2.0 (INCLUDING SYNC)", False),
    ],
)
def test_a_licence_against_commercial_use_drops_the_row_where_the_recipe_says_so(
    problem, batch, worker, licence, is_dropped
):
    rows = batch(problem(licence=licence))
    drops = annotate(worker, (rows, CurationConfig(non_commercial="drop"))).drops
    assert [drop.reason for drop in drops] == ["non-commercial licence"] * is_dropped
    assert annotate(worker, (rows, CurationConfig())).drops == []


def test_meta_that_is_no_json_is_kept_as_it_is_written(problem, batch, worker):
    (meta,) = annotate(worker, (batch(problem(meta="{broken")), CurationConfig())).changed["meta"]
    assert json.loads(meta)["unparsed"] == "{broken"


@pytest.mark.parametrize("meta", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"a": "\\ud800"}', "5"])
def test_odd_meta_stops_nothing_and_stays_readable(problem, batch, worker, meta):
    (written,) = annotate(worker, (batch(problem(meta=meta)), CurationConfig())).changed["meta"]
    assert json.loads(written.encode().decode())["annotations"]["language"] == "en"
    assert problem(meta=meta).level is None
