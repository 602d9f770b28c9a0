"""A chain with puzzles of reasoning-gym in RL and evaluation."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

RECIPE = """
from = "smoke"
without = ["rl.arms.phased", "rl.arms.more-sft"]

[[curation.sources]]
kind = "gym"
name = "puzzles-heldout"
split = "heldout"
num_problems = 8
generators = { chain_sum = 0.5, lcm = 0.25, gcd = 0.25 }

[[curation.sources]]
kind = "gym"
name = "puzzles"
split = "rl"
num_problems = 16
generators = { chain_sum = 0.5, lcm = 0.25, gcd = 0.25 }
settings = { chain_sum = { min_terms = 2, max_terms = 2, min_digits = 1, max_digits = 1 } }

[rl]
min_solve_rate = 0.0

[[rl.arms]]
name = "mixed"

[[rl.arms.phases]]
name = "all"
steps = 2
mixture = { math = 0.3, code = 0.2, science = 0.1, gym = 0.4 }
"""


@pytest.mark.slow
def test_puzzles_are_rewarded_and_measured_by_their_own_scorers(ring):
    pytest.importorskip("reasoning_gym", reason="needs the extra `gym`")
    recipe = ring.home.parent / "puzzles.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    document = ring.json("run", str(recipe))
    stages = {entry["stage"]: Path(entry["artifact"]) for entry in document["stages"]}
    trained = [row for path in sorted(stages["rl"].glob("rollouts/step-*.parquet")) for row in rows_of(path)]
    assert {domain for domain, _ in trained} == {"math", "code", "science", "gym"}
    measured = rows_of(stages["evaluation"] / "samples.parquet")
    for rows in (trained, measured):
        judged = {status for domain, status in rows if domain == "gym"}
        assert judged
        assert judged <= {"correct", "wrong", "no_answer"}


def rows_of(path: Path) -> list[tuple[str, str]]:
    """Domain and status of each response."""
    table = pq.read_table(path, columns=["domain", "status"])
    return list(zip(table["domain"].to_pylist(), table["status"].to_pylist(), strict=True))
