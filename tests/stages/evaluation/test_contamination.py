"""Which problems of a benchmark stand in what a model was trained on."""

from data.schema import Problem, table_from_problems, write_table
from stages.evaluation.contamination import trained_rows

LONG = "a train leaves the town at nine and runs for two hours at sixty miles an hour before it stops for {}"
SETS = {
    "aime24": [
        Problem("x", "math", "eval", LONG.format("water"), "1"),
        Problem("y", "math", "eval", "What is two plus two, please?", "4"),
    ],
    "math500": [Problem("z", "math", "eval", "How many primes are there below one hundred, counted with one?", "25")],
}


def curation(tmp_path, **splits):
    for split, prompts in splits.items():
        rows = [Problem(f"{split}/{number}", "math", split, prompt, "0") for number, prompt in enumerate(prompts)]
        write_table(table_from_problems(rows), tmp_path / f"{split}.parquet")
    return tmp_path


def test_problems_are_found_in_every_split_that_models_are_trained_on(tmp_path):
    folder = curation(tmp_path, base=[LONG.format("coal")], sft=["What is two plus two, PLEASE?"], rl=["nothing of it"])
    assert trained_rows(SETS, folder) == {"aime24": ["x", "y"], "math500": []}


def test_problems_that_are_kept_for_evaluation_are_no_training(tmp_path):
    folder = curation(tmp_path, heldout=[LONG.format("water")], validation=[LONG.format("water")])
    assert trained_rows(SETS, folder) == {"aime24": [], "math500": []}


def test_without_a_curation_nothing_is_known():
    assert trained_rows(SETS, None) is None
