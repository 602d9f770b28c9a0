"""Science: letters, and numbers with units."""

import json
import random

import pyarrow.parquet as pq
import pytest

from data.domains import Policy, science, verify
from data.domains.domain import Outcome
from data.schema import Problem


def status(judge, answer: str, gold: str, meta: str = "{}") -> str:
    problem = Problem("p", "science", "train", "", gold, meta=meta)
    return judge.verify([(f"steps </think> \\boxed{{{answer}}}", problem)])[0].status


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("10 \\text{ m / s }", "10 m/s"), ("36 km/h", "10 m/s"), ("9.81 m s^{-2}", "9.8 m/s^2"), ("9.8 \\frac{m}{s^2}", "9.8 m/s^2"),
        ("5 kg m/s^2", "5 N"), ("2.5\\times10^{-7}", "2.5e-7"), ("3.02", "3"), ("B, C, E", "BCE"), ("\\text{(C)}", "C"),
        ("C. mitochondria", "C"), ("101.3 kPa", "1.0 atm"), ("20 × 10^{-6} C", "20 \\mu C"), ("293.15 K", "20 °C"), ("3", "3 kg"),
        ("0.5 km", "500m"), ("3.2\\times 10^{-19} J", "2 eV"), ("mv^2/2", "\\frac{1}{2}mv^2"), ("Clay", "Clay"), ("0.0", "0"),
        ("280 MeV", "T_{p} = 280 \\, \\text{MeV}"),
    ],
)  # fmt: skip
def test_the_same_quantity_in_other_units_is_correct(judge, answer, gold):
    assert status(judge, answer, gold) == "correct"


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("10 m", "10 m/s"),
        ("5 W", "5 J"),
        ("3.1", "3"),
        ("BC", "BCE"),
        ("D", "C"),
        ("5 V", "-5 V"),
        ("2.6e-7", "2.5e-7"),
        ("10 km", "10 m"),
        ("4.3\\times 10^{-24} s", "\\tau = 2.78\\times 10^{-23} s"),
        ("5", "5x+3"),
        ("5", "5x"),
    ],
)
def test_another_quantity_is_wrong(judge, answer, gold):
    assert status(judge, answer, gold) == "wrong"


def test_a_problem_may_set_its_own_tolerance(judge):
    assert status(judge, "3.1", "3", '{"tolerance": 0.05}') == "correct"
    assert status(judge, "3.02", "3", '{"tolerance": 0.001}') == "wrong"


def test_some_of_the_letters_earn_half_a_point_only_by_the_policy(judge):
    problem = Problem("p", "science", "train", "", "ACD")
    for answer, credit in (("ACD", 1.0), ("A, C", 0.5), ("ACB", 0.0), ("B", 0.0), ("ABCD", 0.0)):
        response = f"\\boxed{{{answer}}}"
        assert verify(response, domain="science", gold="ACD", policy=Policy(partial_credit=True)).score == credit, (
            answer
        )
        assert judge.verify([(f"</think> {response}", problem)])[0].score == float(answer == "ACD"), answer


def test_the_tolerance_is_half_a_unit_of_the_golds_last_digit(judge):
    assert status(judge, "2.54 m", "2.5 m") == "wrong"  # half a unit is 2 %, but 1 % is the most
    assert status(judge, "9.84 m", "9.8 m") == "correct"
    assert status(judge, "9.86 m", "9.8 m") == "wrong"
    assert status(judge, "2.5006 m", "2.500 m") == "correct"
    assert status(judge, "2.502 m", "2.500 m") == "wrong"


def test_labelled_pairs_of_physics_formulas(shared_data):
    """By formulas and quantities alone; what goes to Math-Verify counts as not accepted."""
    pairs = (
        pq.read_table(shared_data / "physics_equivalence_pairs.parquet")
        .select(["answer", "solution", "meta"])
        .to_pylist()
    )
    labels = [json.loads(pair["meta"])["verdict"] for pair in pairs]
    true = [pair for pair, label in zip(pairs, labels, strict=True) if label]
    false = random.Random(0).sample([pair for pair, label in zip(pairs, labels, strict=True) if not label], 700)
    assert (len(true), len(false)) == (941, 700)
    assert num_accepted(true) >= 0.65 * len(true)
    assert num_accepted(false) <= 0.01 * len(false)


def num_accepted(pairs: list[dict]) -> int:
    looks = [science.compare(pair["solution"].strip(), pair["answer"].strip(), Policy()) for pair in pairs]
    return sum(isinstance(look, Outcome) and look.status == "correct" for look in looks)
