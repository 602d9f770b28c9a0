import random

import pyarrow.parquet as pq
import pytest

from data.schema import problems_from_table
from stages.config import Decontamination
from stages.curation.contamination import LeakIndex, MeasuredRow
from stages.curation.decontamination import decontaminate
from stages.curation.likeness import Likeness
from stages.curation.normalisation import words
from stages.recipe import load_recipe

TWELVE = "one two three four five six seven eight nine ten eleven twelve"


def _index(*texts, ngram=8, coverage=0.5):
    rows = [MeasuredRow("bench", str(number), text) for number, text in enumerate(texts)]
    return LeakIndex(rows, Decontamination(ngram=ngram, coverage=coverage))


def test_coverage_is_the_share_of_the_measured_rows_ngrams():
    # 12 words have 5 8-grams; ten of them in a row hold 3
    leak = _index(TWELVE).find("Listen: One, two, three, four; five six seven eight nine ten! and more")
    assert leak is not None and leak.reason == "shared n-grams"
    assert leak.score == pytest.approx(3 / 5)


def test_below_the_threshold_there_is_no_leak():
    assert _index(TWELVE).find("one two three four five six seven eight nine but no more") is None
    assert _index(TWELVE, coverage=0.4).find("one two three four five six seven eight nine but no more") is not None


def test_a_long_candidate_is_measured_by_the_row_and_not_by_itself():
    padding = " ".join(f"word{number}" for number in range(500))
    leak = _index(TWELVE).find(f"{padding} {TWELVE} {padding}")
    assert leak is not None and leak.score == 1


def test_a_row_shorter_than_n_words_is_one_ngram():
    index = _index("Find the value of seven")
    assert index.find("Now find the value of seven and nine, please") is not None
    assert index.find("Find the value of nine") is None


def test_a_very_short_row_leaks_only_when_equal():
    index = _index("Simplify 180")
    assert index.find("simplify 180.") is not None
    assert index.find("Simplify 180 divided by four and add nine") is None


def test_equal_text_is_found_first_and_said_so():
    leak = _index(TWELVE + " thirteen", TWELVE).find(TWELVE.upper())
    assert leak is not None and leak.reason == "same text" and leak.row.id == "1"


def test_the_row_that_is_given_away_most_is_named():
    leak = _index(TWELVE + " x y z", TWELVE + " x").find(TWELVE + " nothing")
    assert leak is not None and leak.row.id == "1"


def _plain_coverage(row, text, ngram):
    """The definition, without an index."""
    row_words, text_words = words(row), words(text)
    size = min(ngram, len(row_words))
    wanted = {tuple(row_words[i : i + size]) for i in range(len(row_words) - size + 1)}
    return sum(any(tuple(text_words[i : i + size]) == gram for i in range(len(text_words))) for gram in wanted) / len(
        wanted
    )


@pytest.mark.parametrize("coverage", [0.3, 0.5, 0.9])
def test_the_index_agrees_with_a_plain_comparison_of_all_pairs(coverage):
    rng = random.Random(0)
    rows = [" ".join(rng.choices("abcde", k=rng.randint(5, 14))) for _ in range(40)]
    index = _index(*rows, ngram=4, coverage=coverage)
    found = 0
    for _ in range(300):
        text = " ".join(rng.choices("abcde", k=rng.randint(3, 25)))
        best = max(_plain_coverage(row, text, 4) for row in rows)
        leak = index.find(text)
        assert (leak is not None) == (best >= coverage)
        if leak is not None:
            assert leak.score == pytest.approx(best)
            found += 1
    assert 0 < found < 300


def test_benchmarks_heldout_and_probe_are_guarded(problem, batch, pool, funnel, dropped):
    def row(split, text, number):
        return problem(text, id=f"{split}/{number}", split=split)

    other = "red orange yellow green blue indigo violet black white grey brown pink"
    third = "mercury venus earth mars jupiter saturn uranus neptune pluto ceres eris haumea"
    rows = [
        row("heldout", TWELVE, 0),
        row("probe", other, 0),
        row("probe", TWELVE + " x", 1),
        row("sft", other + " x", 0),
        row("rl", TWELVE + " y", 0),
        row("base", third, 0),
        row("rl", "a fresh problem about nothing of the kind", 1),
    ]
    benchmarks = {"bench": [problem(third, id="b/7")]}
    kept, step = decontaminate(pool(batch(*rows[:3]), batch(*rows[3:])), benchmarks, Decontamination(), funnel)
    assert [name for table in kept.batches() for name in table["id"].to_pylist()] == ["heldout/0", "probe/0", "rl/1"]
    found = [(drop["id"], drop["reason"], drop["benchmark"], drop["against"], drop["score"]) for drop in dropped(step)]
    assert found == [
        ("probe/1", "contaminated: shared n-grams", "heldout", "heldout/0", 1),
        ("sft/0", "contaminated: shared n-grams", "probe", "probe/0", 1),
        ("rl/0", "contaminated: shared n-grams", "heldout", "heldout/0", 1),
        ("base/0", "contaminated: same text", "bench", "b/7", 1),
    ]
    assert all(drop["evidence"] for drop in dropped(step))


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [  # measured rows that public sets give away; the known figures are 8, 21, 28, 3, 13, 1 and 54
        ("aime_1983_2023", {"math500": (8, 12), "aime25": (0, 0)}),
        ("math_train", {"math500": (21, 60), "aime24": (0, 0)}),
        ("math_test4500", {"math500": (28, 60)}),
        ("deepmath_sample", {"math500": (3, 6)}),
        ("taco_solutions", {"code_contests_test": (13, 13)}),
        ("gsm8k", {"gsm8k": (1, 3)}),
        ("mbpp", {"mbpp": (54, 110)}),
        ("gaokao_math", {"agieval_gaokao_math": (201, 240)}),
    ],
)
def test_natural_leaks_of_public_sets_are_found_and_boilerplate_is_not(public_data, candidates, expected):
    def rows(name):
        return problems_from_table(pq.read_table(public_data / f"{name}.parquet"))

    measured = [
        MeasuredRow(benchmark, row.id, row.prompt, row.domain, row.answer)
        for benchmark in expected
        for row in rows(benchmark)
        if row.split == "eval"
    ]
    asked = [row for row in rows(candidates) if row.split == "train" or candidates == "gaokao_math"]
    rule = load_recipe("curate-public").recipe.curation.decontamination
    likeness = Likeness([row.text for row in measured], [row.prompt for row in asked])
    found = {(leak.row.benchmark, leak.row.id) for leak in LeakIndex(measured, rule, likeness).find_all(asked) if leak}
    for benchmark, (low, high) in expected.items():
        assert low <= sum(name == benchmark for name, _ in found) <= high, benchmark


def test_the_next_exercise_of_a_book_gives_no_own_row_away_but_a_benchmark_row():
    text = (
        "Convert the angle from degree measure into radian measure, giving the exact value in terms of pi: {} degrees"
    )
    rule = Decontamination(likeness=0.6, numbers=0.8)
    for is_own in (True, False):
        row = MeasuredRow("probe", "0", text.format(135), is_own=is_own)
        index = LeakIndex([row], rule, Likeness([row.text]))
        assert (index.find(text.format(240)) is None) == is_own
        assert index.find(text.format(135) + " or more") is not None
