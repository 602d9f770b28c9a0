"""The control arm: more SFT on the same traces from the chosen checkpoint, so that RL has something to be compared with.

In: `curation`, `sft`, `selection`. Out: model/ and steps.jsonl; the table `epochs`.
"""

from collections.abc import Mapping
from pathlib import Path

from stages.config import Runtime, SftConfig
from stages.sampling.prompting import chosen_model
from stages.seeds import derive_seed
from stages.sft.run import finetuning_job
from stages.sft.training import train
from stages.stage import StageLog, StageRecord


def run(config: SftConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog) -> StageRecord:
    """Train from the chosen checkpoint; only the last weights are kept."""
    seed = derive_seed(config.seed, "further-sft")
    job = finetuning_job(
        chosen_model(inputs), config.training, curation=inputs["curation"], seed=seed, keeps_checkpoints=False
    )
    return train(job, runtime=runtime, out=out, log=log)
