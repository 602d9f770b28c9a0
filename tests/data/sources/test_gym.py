import itertools
import json
from importlib.util import find_spec

import pytest

from data.domains import Judge
from data.schema import problems_from_table, read_table, table_from_problems, write_table
from data.sources.gym import SEEDS, draw_problems, first_seed, shared_out
from data.sources.procedural.kind import derive_seed

SHORT = {"chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}}
needs_the_package = pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="needs the extra `gym`")


def draw(**changes):
    given = {"name": "puzzles", "split": "rl", "num_problems": 12, "generators": {"chain_sum": 0.75, "lcm": 0.25}}
    return draw_problems(**{**given, "settings": SHORT, "seed": 0, **changes})


@needs_the_package
def test_the_same_arguments_give_the_same_rows_and_another_seed_name_or_split_others():
    rows = draw()
    assert draw() == rows
    others = [draw(seed=1), draw(name="more"), draw(split="heldout")]
    assert all([row.prompt for row in other] != [row.prompt for row in rows] for other in others)


@needs_the_package
def test_a_row_says_where_it_comes_from():
    row = draw()[0]
    seed = first_seed("puzzles", "rl", "chain_sum", 0)
    assert (row.id, row.domain, row.split) == ("puzzles-chain_sum-000000", "gym", "rl")
    assert (row.source, row.licence) == ("reasoning-gym/chain_sum", "Apache-2.0")
    assert row.metadata == {
        "generator": "chain_sum",
        "version": "0.1.25",
        "settings": SHORT["chain_sum"],
        "seed": seed,
        "index": 0,
    }


@needs_the_package
def test_a_row_can_be_drawn_again_from_what_it_says():
    from reasoning_gym.factory import create_dataset

    for row in draw():
        said = row.metadata
        again = create_dataset(said["generator"], **said["settings"], seed=said["seed"], size=500)[said["index"]]
        assert (again["question"], again["answer"]) == (row.prompt, row.answer)


@needs_the_package
def test_settings_reach_the_generator():
    prompts = [row.prompt for row in draw(generators={"chain_sum": 1.0})]
    assert all(sum(sign.isdigit() for sign in prompt) == 2 for prompt in prompts)


@needs_the_package
def test_no_prompt_comes_twice_nor_one_that_is_taken():
    first = {row.prompt for row in draw(num_problems=60, generators={"chain_sum": 1.0})}
    second = {row.prompt for row in draw(num_problems=60, generators={"chain_sum": 1.0}, exclude=first)}
    assert (len(first), len(second), first & second) == (60, 60, set())


@needs_the_package
def test_too_few_new_problems_are_refused():
    with pytest.raises(ValueError, match=r"chain_sum: \d+ new problems in 5200 draws, 5000 asked for: ask for fewer"):
        draw(num_problems=5000, generators={"chain_sum": 1.0})


@needs_the_package
@pytest.mark.parametrize("settings", [{"terms": 2}, {"min_terms": 9, "max_terms": 2}])
def test_settings_that_are_refused_are_named_with_those_that_there_are(settings):
    with pytest.raises(
        ValueError, match=r"source 'puzzles': chain_sum: settings .* are refused: .* there are min_terms, max_terms"
    ):
        draw(settings={"chain_sum": settings})


@needs_the_package
def test_a_stored_row_is_judged_from_itself_alone(tmp_path):
    rows = draw()
    write_table(table_from_problems(rows), tmp_path / "rows.parquet")
    stored = problems_from_table(read_table(tmp_path / "rows.parquet"))
    assert stored == rows
    with Judge(requires_thinking=False) as judge:
        right = judge.verify([(f"\\boxed{{{row.answer}}}", row) for row in stored])
        wrong = judge.verify([(f"\\boxed{{{row.answer}1}}", row) for row in stored])
    assert {one.status for one in right} == {"correct"}
    assert {one.status for one in wrong} == {"wrong"}


@pytest.mark.skipif(find_spec("reasoning_gym") is not None, reason="the extra `gym` is installed")
def test_without_the_package_the_message_says_how_to_get_it():
    with pytest.raises(
        ValueError, match=r"source 'puzzles': .* not installed: pip install -e '\.\[gym\]' -c constraints\.txt"
    ):
        draw()


def test_a_generator_that_is_not_used_is_refused():
    with pytest.raises(ValueError, match=r"generator .acre. is left out: its code is under"):
        draw(generators={"acre": 1.0})


def test_the_seeds_of_splits_never_meet():
    ranges = [SEEDS[split] for split in ("heldout", "probe", "rl")]
    assert all(one.stop <= other.start for one, other in itertools.pairwise(ranges))
    assert ranges[-1].stop <= 1 << 32
    for split, seeds in SEEDS.items():
        for number in range(50):
            first = first_seed(f"source {number}", split, "lcm", derive_seed("seed", number))
            assert first in seeds
            assert first + 500_000_000 in seeds  # so many draws of one source stay within


def test_shares_of_a_whole_number_sum_to_it():
    assert shared_out(7, {"c": 1 / 3, "b": 1 / 3, "a": 1 / 3}) == {"a": 3, "b": 2, "c": 2}
    assert shared_out(1, {"a": 0.4, "b": 0.6}) == {"a": 0, "b": 1}
    assert json.dumps(shared_out(4, {"a": 0.5, "b": 0.5})) == '{"a": 2, "b": 2}'
