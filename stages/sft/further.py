"""The control arm: more SFT on the same traces from the chosen checkpoint, so that RL has something to be compared with.

In: `curation`, `sft`, `selection`. Out: model/ and steps.jsonl; the table `epochs`.
"""

from collections.abc import Mapping
from pathlib import Path

from stages.config import RlConfig, Runtime, SftArm
from stages.prompting import chosen_model
from stages.seeds import derive_seed
from stages.sft.run import finetuning_job
from stages.sft.training import train
from stages.stage import StageLog, StageRecord


def run(config: RlConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog) -> StageRecord:
    """Train the one arm of `config`, which must be of kind "sft"."""
    arms = [arm for arm in config.arms if isinstance(arm, SftArm)]
    if len(arms) != 1 or len(config.arms) != 1:
        raise ValueError(
            f"further SFT takes exactly one arm of kind 'sft'; got {[(arm.name, arm.kind) for arm in config.arms]}"
        )
    seed = derive_seed(config.seed, "rl", arms[0].name)
    job = finetuning_job(
        chosen_model(inputs), arms[0].training, curation=inputs["curation"], seed=seed, keeps_epochs=False
    )
    return train(job, runtime=runtime, out=out, log=log)
