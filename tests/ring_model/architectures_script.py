"""Trains models of several architectures one after another, each as `engine_script.py` does, in one start of this rank.

usage: architectures_script.py FOLDER CASE...
A case is KIND:STAGE or KIND:STAGE:RANK_OF_ADAPTERS. KIND is a model's folder in FOLDER; CASE.pt and the exported folder CASE are written
there.
"""

import os
import sys
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
from engine_script import NUM_STEPS, SAVED_STEPS, SETTINGS, from_checkpoint, take, weights_of  # noqa: E402

from ring_model.engine import Engine  # noqa: E402
from ring_model.policy import Scorer  # noqa: E402
from ring_model.scorers import open_scorer  # noqa: E402
from ring_model.transformers_scorer import Adapters  # noqa: E402


def scorer_of(folder: Path, case: str) -> Scorer:
    """The model of a case before training."""
    kind, _, *rank = case.split(":")
    return open_scorer(folder / kind, adapters=Adapters(rank=int(rank[0]), alpha=8) if rank else None)


def train(folder: Path, case: str) -> Engine:
    torch.manual_seed(7)  # of new adapters
    engine = Engine.start(scorer_of(folder, case), optimizer=SETTINGS, zero_stage=int(case.split(":")[1]))
    checkpoint, norms = folder / f"{case}.checkpoint", []
    for step in range(NUM_STEPS):
        if step == SAVED_STEPS:
            engine.save(checkpoint, {})
        norms.append(take(engine, step))
    found = {"norms": norms, "weights": weights_of(engine)}
    engine.export(folder / case, end_ids=[3])
    found["again"] = from_checkpoint(engine, str(checkpoint), resets=False)
    if case.count(":") == 1:
        engine.refill(folder / case.split(":")[0])
        found["refilled"] = weights_of(engine)
    if engine.rank == 0:
        torch.save(found, folder / f"{case}.pt")
    return engine


if __name__ == "__main__":
    torch.set_num_threads(1)
    engines = [train(Path(sys.argv[1]), case) for case in sys.argv[2:]]
    engines[-1].close()
    sys.stdout.flush()
    os._exit(0)  # as engine_script does
