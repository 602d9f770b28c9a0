"""One RL arm (paper 3.2): from the chosen SFT checkpoint through the arm's phases.

In: `curation` (rl.parquet), `sft`, `selection` (choice.json, graded.parquet). Out: model/, steps.jsonl, rollouts/; the tables
`phases` and `pool`. Arms share everything before them byte for byte; equal token budgets are checked with the recipe.
"""

from collections.abc import Mapping
from pathlib import Path

from stages.config import RlArm, RlConfig, Runtime
from stages.rl.pool import load_pool
from stages.rl.training import train_arm
from stages.sampling.prompting import chosen_model
from stages.stage import StageLog, StageRecord


def run(config: RlConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog) -> StageRecord:
    """Train the one arm of `config`, which must be of kind "rl"."""
    arms = [arm for arm in config.arms if isinstance(arm, RlArm)]
    if len(arms) != 1 or len(config.arms) != 1:
        raise ValueError(f"RL takes exactly one arm of kind 'rl'; got {[(arm.name, arm.kind) for arm in config.arms]}")
    pool = load_pool(
        inputs["curation"],
        inputs["selection"],
        min_solve_rate=config.min_solve_rate,
        max_solve_rate=config.max_solve_rate,
    )
    log.message(f"{pool.num_problems:,} problems may be asked; left out: {pool.left_out_words}")
    return train_arm(arms[0], pool, config=config, start=chosen_model(inputs), runtime=runtime, out=out, log=log)
