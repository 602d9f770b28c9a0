"""Which problems RL asks, and in what order."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from data.schema import Problem, table_from_problems, write_table
from stages.config import C3po, Phase, RlArm, RlConfig
from stages.rl.pool import Pool, load_pool, mix, plan_arm
from stages.sampling.scores import GRADED_SCHEMA


def problem(name: str, domain: str = "math", solution: str = "") -> Problem:
    return Problem(id=name, domain=domain, split="rl", prompt=f"what is {name}", answer="1", solution=solution)


def written_pool(
    folder: Path,
    rates: dict[str, float | None],
    solved_by_teacher: tuple[str, ...] = (),
    *,
    stronger: dict[str, float] | None = None,
    min_solve_rate: float = 0.0,
) -> Pool:
    problems = [problem(name, solution="steps" if name in solved_by_teacher else "") for name in rates]
    write_table(table_from_problems(problems), folder / "rl.parquet")
    columns = {
        "problem_id": list(rates),
        "solve_rate": list(rates.values()),
        "stronger_solve_rate": [(stronger or {}).get(name) for name in rates],
    }
    count = pa.array([4] * len(rates), pa.int32())
    write_table(
        pa.table({**columns, "num_samples": count, "failures": count}, schema=GRADED_SCHEMA), folder / "graded.parquet"
    )
    return load_pool(folder, folder, min_solve_rate=min_solve_rate, max_solve_rate=1.0)


def test_what_is_always_solved_or_hopeless_is_left_out_with_its_reason(tmp_path: Path) -> None:
    pool = written_pool(tmp_path, {"easy": 1.0, "mid": 0.5, "never": 0.0, "unknown": None})
    assert [row.id for row in pool.problems["math"]] == ["mid"]
    assert pool.left_out == {
        "always solved": 1,
        "never solved, by the checkpoint or the teacher": 1,
        "not judged": 1,
    }


def test_what_the_teacher_solves_stays_though_the_checkpoint_never_does(tmp_path: Path) -> None:
    pool = written_pool(tmp_path, {"hard": 0.0, "hopeless": 0.0}, solved_by_teacher=("hard",))
    assert [row.id for row in pool.problems["math"]] == ["hard"]


def test_what_the_stronger_model_solves_stays_and_what_nobody_solves_goes(tmp_path: Path) -> None:
    rates = {"seen": 0.0, "hopeless": 0.0, "taught": 0.0, "unjudged": 0.0, "easy": 1.0}
    pool = written_pool(tmp_path, rates, ("taught",), stronger={"seen": 0.25, "hopeless": 0.0, "taught": 0.0})
    assert [row.id for row in pool.problems["math"]] == ["seen", "taught"]
    assert pool.left_out == {
        "always solved": 1,
        "never solved, by the checkpoint or the teacher": 1,
        "never solved, by the checkpoint, the stronger model or the teacher": 1,
    }


def test_a_band_leaves_out_what_is_seldom_solved_whoever_else_solves_it(tmp_path: Path) -> None:
    pool = written_pool(tmp_path, {"hard": 0.0, "rare": 0.1, "mid": 0.25}, ("hard",), min_solve_rate=0.2)
    assert [row.id for row in pool.problems["math"]] == ["mid"]
    assert pool.left_out == {"solved at less than 0.2": 2}


@pytest.mark.parametrize("shares", [{"math": 0.2, "code": 0.53, "science": 0.27}, {"math": 1.0}])
def test_every_prefix_of_a_mixture_is_within_one_of_its_shares(shares: dict[str, float]) -> None:
    names = mix(shares, count=500)
    for length in range(1, 501):
        counts = Counter(names[:length])
        assert all(abs(counts[name] - share * length) <= 1.0 for name, share in shares.items())


def rl_config(*phases: dict) -> tuple[RlConfig, RlArm]:
    arm = RlArm(kind="rl", name="arm", phases=tuple(Phase(**phase) for phase in phases))
    return RlConfig(arms=(arm,), prompts_per_step=4, objective=C3po(token_budget=10, scope="global")), arm


def domain_pool(**counts: int) -> Pool:
    rows = {domain: tuple(problem(f"{domain}{n}", domain) for n in range(count)) for domain, count in counts.items()}
    return Pool(rows, {})


def test_a_domain_is_seen_whole_before_any_problem_comes_again() -> None:
    config, arm = rl_config({"name": "p", "steps": 5, "mixture": {"math": 1.0}})
    asked = [row.id for step in plan_arm(domain_pool(math=10), arm, config=config) for row in step.problems]
    assert len(asked) == 20
    assert sorted(asked[:10]) == sorted(asked[10:])
    assert asked[:10] != asked[10:]


def test_phases_follow_each_other_and_go_on_with_the_same_order() -> None:
    config, arm = rl_config(
        {"name": "one", "steps": 1, "mixture": {"math": 1.0}},
        {"name": "two", "steps": 2, "mixture": {"math": 0.5, "code": 0.5}},
    )
    steps = plan_arm(domain_pool(math=8, code=4), arm, config=config)
    assert [step.phase.name for step in steps] == ["one", "two", "two"]
    assert [Counter(row.domain for row in step.problems) for step in steps[1:]] == [{"math": 2, "code": 2}] * 2
    maths = [row.id for step in steps for row in step.problems if row.domain == "math"]
    assert len(set(maths)) == 8


def test_a_mixture_of_a_domain_without_problems_is_refused() -> None:
    config, arm = rl_config({"name": "p", "steps": 1, "mixture": {"code": 1.0}})
    with pytest.raises(ValueError, match="asks for code"):
        plan_arm(domain_pool(math=4), arm, config=config)


def test_what_was_left_out_is_told_in_words():
    assert Pool({}, {"always solved": 1420, "not judged": 3}).left_out_words == "1,420 always solved, 3 not judged"
    assert Pool({}, {}).left_out_words == "none"
