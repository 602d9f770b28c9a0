"""Long-CoT SFT (paper 4.1.1).

In: `curation` (sft.parquet, validation.parquet) and `base`. Out: epoch-01/ ... epoch-NN/, with `checkpoints_per_epoch` also those
in between (epoch-01+1of2/), with `mean_of_last` also the mean of the last ones (mean-of-last-3/); checkpoints.json, steps.jsonl; the
table `epochs`.
"""

from collections.abc import Mapping
from pathlib import Path

from data.schema import PROBLEM_SCHEMA, problems_from_table, read_table
from ring_model.scorers import open_scorer
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime, SftConfig, Training
from stages.sampling.prompting import model_folder
from stages.seeds import derive_seed
from stages.sft.batches import Rows, tokenise
from stages.sft.training import SupervisedJob, train
from stages.stage import StageLog, StageRecord
from stages.training.adapters import adapters


def run(config: SftConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog) -> StageRecord:
    """Train from the base model; a folder a checkpoint."""
    seed = derive_seed(config.seed, "sft")
    job = finetuning_job(
        model_folder(inputs["base"]), config.training, curation=inputs["curation"], seed=seed, keeps_checkpoints=True
    )
    return train(job, runtime=runtime, out=out, log=log)


def finetuning_job(
    start: Path, training: Training, *, curation: Path, seed: int, keeps_checkpoints: bool
) -> SupervisedJob:
    """Training of the model folder `start` on curation's traces; also what the control arm does."""
    tokenizer = Tokenizer.from_folder(start)
    return SupervisedJob(
        open_scorer(start, adapters=adapters(training.lora)),
        tokenizer,
        training,
        rows=rows_of(curation / "sft.parquet", tokenizer, training),
        validation=rows_of(curation / "validation.parquet", tokenizer, training),
        seed=seed,
        keeps_checkpoints=keeps_checkpoints,
    )


def rows_of(path: Path, tokenizer: Tokenizer, training: Training) -> Rows:
    """The training rows of a problem file."""
    problems = problems_from_table(read_table(path, PROBLEM_SCHEMA))
    return tokenise(problems, tokenizer=tokenizer, max_total_tokens=training.max_total_tokens)
