"""Which problems RL asks, and in what order."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from data.schema import Problem, table_from_problems, write_table
from ring_model.tokenizer import Tokenizer
from stages.config import Phase, RlArm, RlConfig
from stages.rl.prompts import Pool, PromptStream, load_pool
from stages.sampling.prompting import prompt_ids
from tests.stages.conftest import arm_config, graded_rows

MATH = {"name": "p", "steps": 1, "mixture": {"math": 1.0}, "max_total_tokens": 64}


def problem(name: str, domain: str = "math", solution: str = "", prompt: str = "") -> Problem:
    return Problem(
        id=name, domain=domain, split="rl", prompt=prompt or f"what is {name}", answer="1", solution=solution
    )


def arm_of(*phases: dict[str, Any]) -> RlArm:
    return RlArm(kind="rl", name="arm", phases=tuple(Phase(**phase) for phase in phases))


def written_pool(
    folder: Path,
    model: Path,
    solved: dict[str, tuple[int, int]],
    taught: tuple[str, ...] = (),
    *,
    stronger: dict[str, tuple[int, int]] | None = None,
    problems: list[Problem] | None = None,
    arm: RlArm | None = None,
    config: RlConfig | None = None,
) -> Pool:
    problems = problems or [problem(name, solution="steps" if name in taught else "") for name in solved]
    write_table(table_from_problems(problems), folder / "rl.parquet")
    write_table(graded_rows(solved, stronger), folder / "graded.parquet")
    tokenizer = Tokenizer.from_folder(model)
    return load_pool(folder, folder, arm=arm or arm_of(MATH), config=config or arm_config(), tokenizer=tokenizer)


# ---------------------------------------------------------------- the pool


def test_what_is_always_solved_or_hopeless_is_left_out_with_its_reason(tmp_path: Path, tiny_model: Path) -> None:
    pool = written_pool(tmp_path, tiny_model, {"easy": (4, 4), "mid": (2, 4), "never": (0, 4), "unknown": (0, 0)})
    assert [row.id for row in pool.problems["math"]] == ["mid"]
    assert pool.num_problems == 1
    assert pool.left_out == {"always solved": 1, "never solved, by the checkpoint or the teacher": 1, "not judged": 1}


def test_a_problem_without_a_row_of_grading_was_not_judged(tmp_path: Path, tiny_model: Path) -> None:
    problems = [problem("mid"), problem("new")]
    assert written_pool(tmp_path, tiny_model, {"mid": (1, 2)}, problems=problems).left_out == {"not judged": 1}


def test_what_the_teacher_solves_stays_though_the_checkpoint_never_does(tmp_path: Path, tiny_model: Path) -> None:
    pool = written_pool(tmp_path, tiny_model, {"hard": (0, 4), "hopeless": (0, 4)}, ("hard",))
    assert [row.id for row in pool.problems["math"]] == ["hard"]


def test_what_the_stronger_model_solves_stays_and_what_nobody_solves_goes(tmp_path: Path, tiny_model: Path) -> None:
    solved = {"seen": (0, 4), "hopeless": (0, 4), "taught": (0, 4), "unjudged": (0, 4), "easy": (4, 4)}
    stronger = {"seen": (1, 4), "hopeless": (0, 4), "taught": (0, 4)}
    pool = written_pool(tmp_path, tiny_model, solved, ("taught",), stronger=stronger)
    assert [row.id for row in pool.problems["math"]] == ["seen", "taught"]
    assert pool.left_out == {
        "always solved": 1,
        "never solved, by the checkpoint or the teacher": 1,
        "never solved, by the checkpoint, the stronger model or the teacher": 1,
    }


def test_a_band_leaves_out_what_is_seldom_solved_whoever_else_solves_it(tmp_path: Path, tiny_model: Path) -> None:
    solved = {"hard": (0, 10), "rare": (1, 10), "mid": (2, 10)}
    pool = written_pool(tmp_path, tiny_model, solved, ("hard",), config=arm_config(min_solve_rate=0.2))
    assert [row.id for row in pool.problems["math"]] == ["mid"]
    assert pool.left_out == {"solved at less than 0.2": 2}


@pytest.mark.parametrize(("correct", "kept"), [(6, False), (7, True), (8, True), (9, False)])
def test_thresholds_are_compared_as_counts_so_that_7_of_10_is_not_less_than_0_7(
    tmp_path: Path, tiny_model: Path, correct: int, kept: bool
) -> None:
    # .7 as float32 is .69999999; 9/10 would not reach .9
    config = arm_config(min_solve_rate=0.7, max_solve_rate=0.9)
    solved = {"other": (8, 10), "x": (correct, 10)}
    pool = written_pool(tmp_path, tiny_model, solved, config=config)
    assert ("x" in [row.id for row in pool.problems["math"]]) is kept
    reasons = {6: "solved at less than 0.7", 9: "solved at 0.9 or more"}
    assert pool.left_out == ({} if kept else {reasons[correct]: 1})


def test_a_prompt_too_long_for_a_phase_that_asks_its_domain_is_left_out_and_counted(
    tmp_path: Path, tiny_model: Path
) -> None:
    tokenizer = Tokenizer.from_folder(tiny_model)
    texts = {"short": "list " * 3, "long": "list " * 40}
    lengths = {}
    for domain in ("math", "science"):
        problems = [problem(name, domain, prompt=text) for name, text in texts.items()]
        lengths[domain] = len(prompt_ids(tokenizer, problems[1]))
        phases = [
            {**MATH, "name": "a", "mixture": {domain: 1.0}, "max_total_tokens": 128},
            {**MATH, "name": "b", "mixture": {domain: 1.0}, "max_total_tokens": lengths[domain]},
            {**MATH, "name": "c", "mixture": {domain: 0.0, "code": 1.0}, "max_total_tokens": 8},
        ]
        solved = dict.fromkeys(texts, (1, 2))
        pool = written_pool(tmp_path, tiny_model, solved, problems=problems, arm=arm_of(*phases[:2]))
        assert [row.id for row in pool.problems[domain]] == ["short"]
        assert pool.left_out == {f"prompt of {lengths[domain]} tokens or more": 1}
        phases[1]["max_total_tokens"] += 1
        pool = written_pool(tmp_path, tiny_model, solved, problems=problems, arm=arm_of(*phases[:2]))
        assert pool.num_problems == 2  # one token of response fits
    with pytest.raises(ValueError, match="arm arm, phase c: mixture asks for code"):
        written_pool(tmp_path, tiny_model, solved, problems=problems, arm=arm_of(phases[2]))


def test_a_domain_with_no_share_in_a_phase_need_not_be_there_nor_fit(tmp_path: Path, tiny_model: Path) -> None:
    phases = (
        {**MATH, "name": "a", "max_total_tokens": 128},
        {**MATH, "name": "b", "mixture": {"math": 0.0, "code": 1.0, "science": 0.0}, "max_total_tokens": 40},
    )
    problems = [problem("long", prompt="list " * 40), problem("code", "code", prompt="list")]
    solved = {"long": (1, 2), "code": (1, 2)}
    pool = written_pool(tmp_path, tiny_model, solved, problems=problems, arm=arm_of(*phases))
    assert pool.left_out == {}


def test_a_mixture_of_a_domain_without_problems_is_refused_with_what_was_left_out(
    tmp_path: Path, tiny_model: Path
) -> None:
    with pytest.raises(ValueError, match=r"phase p: mixture asks for math, .*\(left out: 1 always solved\)"):
        written_pool(tmp_path, tiny_model, {"easy": (4, 4)})


def test_what_was_left_out_is_told_in_words():
    assert Pool({}, {"always solved": 1420, "not judged": 3}).left_out_words == "1,420 always solved, 3 not judged"
    assert Pool({}, {}).left_out_words == "none"


# ---------------------------------------------------------------- the stream


def domain_pool(**counts: int) -> Pool:
    rows = {domain: tuple(problem(f"{domain}{n}", domain) for n in range(count)) for domain, count in counts.items()}
    return Pool(rows, {})


def taken(stream: PromptStream, phase: dict[str, Any], *counts: int) -> list[str]:
    return [row.id for count in counts for row in stream.take(Phase(**phase), count)]


def test_a_domain_is_seen_whole_before_any_problem_comes_again_and_then_in_another_order() -> None:
    asked = taken(PromptStream(domain_pool(math=10), seed=0), MATH, 4, 4, 1, 3, 8)
    assert sorted(asked[:10]) == sorted(asked[10:])
    assert asked[:10] != asked[10:]
    assert asked == taken(PromptStream(domain_pool(math=10), seed=0), MATH, 20)
    assert asked != taken(PromptStream(domain_pool(math=10), seed=1), MATH, 20)


@pytest.mark.parametrize("shares", [{"math": 0.2, "code": 0.53, "science": 0.27}, {"math": 1.0}])
def test_every_prefix_of_a_phase_is_within_one_of_its_shares(shares: dict[str, float]) -> None:
    stream = PromptStream(domain_pool(math=9, code=7, science=5), seed=0)
    domains = [row.domain for row in stream.take(Phase(**{**MATH, "mixture": shares}), 500)]
    for length in range(1, 501):
        counts = Counter(domains[:length])
        assert all(abs(counts[name] - share * length) <= 1.0 for name, share in shares.items())


def test_the_domain_that_lacks_most_is_next() -> None:
    # by share x (place + 1) less what it had: .8 .2 | .6 .4 | .4 .6 | 1.2 -.2 | 1 0, and over again
    stream = PromptStream(domain_pool(math=9, science=5), seed=0)
    asked = taken(stream, {**MATH, "mixture": {"math": 0.8, "science": 0.2}}, 10)
    assert "".join(name[0] for name in asked) == "mmsmm" * 2


def test_a_new_phase_mixes_anew_and_goes_on_with_the_domains_where_the_last_one_stopped() -> None:
    stream = PromptStream(domain_pool(math=8, code=4), seed=0)
    two = {**MATH, "name": "two", "mixture": {"math": 0.5, "code": 0.5}}
    asked = taken(stream, MATH, 4) + taken(stream, two, 4, 4)
    assert Counter(name[:4] for name in asked[4:8]) == Counter(name[:4] for name in asked[8:]) == {"math": 2, "code": 2}
    assert len({name for name in asked if name.startswith("math")}) == 8


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_stream_goes_on_from_any_cursor_as_if_it_had_never_stopped(cut: int) -> None:
    pool, plan = (
        domain_pool(math=5, code=3),
        [MATH] * 12 + [{**MATH, "name": "b", "mixture": {"math": 0.3, "code": 0.7}}] * 18,
    )
    whole, first = PromptStream(pool, seed=3), PromptStream(pool, seed=3)
    straight = [taken(whole, phase, 1)[0] for phase in plan]
    begun = [taken(first, phase, 1)[0] for phase in plan[:cut]]
    again = PromptStream(pool, seed=3, cursor=first.cursor)
    assert begun + [taken(again, phase, 1)[0] for phase in plan[cut:]] == straight
    for domain, size in (("math", 5), ("code", 3)):
        asked = [name for name in straight if name.startswith(domain)]
        places = [[n for n, one in enumerate(asked) if one == name] for name in set(asked)]
        assert all(later // size == earlier // size + 1 for at in places for earlier, later in pairwise(at))


@pytest.mark.parametrize("left_at", range(13))
def test_an_attempt_takes_what_is_left_of_a_pass_and_the_next_ones_in_another_order(left_at: int) -> None:
    pool, size = domain_pool(math=5), 5
    first, second = PromptStream(pool, seed=3), PromptStream(pool, seed=3)
    before = taken(first, MATH, left_at)
    second = PromptStream(pool, seed=3, cursor=first.cursor)
    second.begin(1)
    straight, asked = before + taken(first, MATH, 20 - left_at), before + taken(second, MATH, 20 - left_at)
    assert straight != asked
    for start in range(0, 20, size):
        assert len(set(asked[start : start + size])) == size
    again = PromptStream(pool, seed=3, cursor=second.cursor)
    again.begin(1)
    assert taken(again, MATH, 10) == taken(second, MATH, 10)


def test_a_stream_says_whether_an_attempt_begins() -> None:
    stream = PromptStream(domain_pool(math=5), seed=3)
    assert [stream.begin(attempt) for attempt in (0, 0, 2, 2, 3)] == [False, False, True, False, True]
    again = PromptStream(domain_pool(math=5), seed=3, cursor=stream.cursor)
    assert not again.begin(3)


def test_the_first_attempt_has_the_order_of_a_stream_that_knows_none() -> None:
    plain, begun = PromptStream(domain_pool(math=5), seed=3), PromptStream(domain_pool(math=5), seed=3)
    begun.begin(0)
    assert taken(begun, MATH, 12) == taken(plain, MATH, 12)
    assert begun.cursor == plain.cursor


def test_every_attempt_has_an_order_of_its_own_behind_what_the_attempts_before_it_took() -> None:
    stream = PromptStream(domain_pool(math=40), seed=3)
    kept = taken(stream, MATH, 10)
    cursor, orders = stream.cursor, []
    for attempts in ((0,), (1,), (2,), (1, 2)):
        again = PromptStream(domain_pool(math=40), seed=3, cursor=cursor)
        asked = kept.copy()
        for attempt in attempts:
            again.begin(attempt)
            asked += taken(again, MATH, 30 // len(attempts))
        assert len(set(asked)) == 40
        orders.append(asked)
    assert len({tuple(order) for order in orders}) == 4
    assert orders[3][:25] == orders[1][:25]  # of attempt 1 what came before attempt 2 began
