"""One RL arm (paper 3.2): from the chosen SFT checkpoint, or the one that the arm names, through the arm's phases.

In: `curation` (rl.parquet, probe.parquet), `sft`, `selection` (choice.json, graded.parquet). Out: model/, the model at the end of
every earlier phase, steps.jsonl, rollouts/, probes/, best/; watch.jsonl and rollouts-abandoned/ where its rules decided something; the
tables `phases`, `pool` and `probes`. Arms share everything before them byte for byte, the grading of the pool by the chosen
checkpoint among it; equal token budgets are checked with the recipe.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ring_model.tokenizer import Tokenizer
from stages.config import RlArm, RlConfig, Runtime
from stages.rl.loop import train_arm
from stages.rl.probe import Probe
from stages.rl.prompts import load_pool
from stages.sampling.prompting import chosen_model, start_model
from stages.stage import StageLog, StageRecord


def run(config: RlConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog) -> StageRecord:
    """Train the one arm of `config`, which must be of kind "rl"."""
    arms = [arm for arm in config.arms if isinstance(arm, RlArm)]
    if len(arms) != 1 or len(config.arms) != 1:
        raise ValueError(f"RL takes exactly one arm of kind 'rl'; got {[(arm.name, arm.kind) for arm in config.arms]}")
    chosen, start = chosen_model(inputs), start_model(inputs, arms[0].start)
    tokenizer = Tokenizer.from_folder(start)
    pool = load_pool(inputs["curation"], inputs["selection"], arm=arms[0], config=config, tokenizer=tokenizer)
    log.message(f"{pool.num_problems:,} problems may be asked; left out: {pool.left_out_words}")
    if config.objective.takes_older_samples and config.objective.mismatch.kind == "none":
        log.message(
            "responses that older weights drew are trained on as if the present ones had drawn them; rl.objective.mismatch"
            " can correct for it, and mismatch/... in the ledger says how far they are apart"
        )
    probe = Probe.load(inputs["curation"], config=config, out=out)
    record = train_arm(arms[0], pool, config=config, start=start, probe=probe, runtime=runtime, out=out, log=log)
    if start == chosen:
        return record
    note = f"the arm starts from {start.name}; {chosen.name} was chosen, and graded the problems that may be asked"
    return replace(record, notes=(note, *record.notes))
