"""Takes one good step and one whose gradient is not finite on the last rank; run alone or under torchrun.

usage: nonfinite_script.py OUT.json ZERO_STAGE CHECKPOINT_FOLDER
"""

import gc
import json
import os
import sys
from pathlib import Path

gc.disable()

import torch  # noqa: E402

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
from engine_script import SETTINGS, loss_of, rows_of, weights_of  # noqa: E402
from slow_model import SMALL  # noqa: E402

from ring_model.engine import Engine, NonFiniteError  # noqa: E402
from ring_model.modelling import BailingMoe, initialise  # noqa: E402
from ring_model.policy import BailingScorer  # noqa: E402


def step(engine: Engine, *, factor: float) -> None:
    rows = rows_of(0)[engine.rank]
    engine.backward(loss_of(engine.score, rows) * factor, denominator=20.0)
    engine.step()


def refusal(call, *arguments, **options) -> str:
    try:
        call(*arguments, **options)
    except NonFiniteError as error:
        return str(error)
    return ""


def main(out: str, zero_stage: int, folder: str) -> None:
    torch.set_num_threads(1)
    engine = Engine.start(
        BailingScorer(initialise(BailingMoe(SMALL), seed=5)), optimizer=SETTINGS, zero_stage=zero_stage
    )
    step(engine, factor=1.0)
    engine.save(folder, {"step": 1})
    before = weights_of(engine)
    is_last = engine.rank == engine.world_size - 1
    errors = engine.all_gather_object(refusal(step, engine, factor=float("nan") if is_last else 1.0))
    unchanged = all(torch.equal(one, two) for one, two in zip(before, weights_of(engine), strict=True))
    next(engine.state.pieces()).tensors[0][0] = float("inf")
    unsaved = engine.all_gather_object(refusal(engine.save, folder, {"step": 2}))
    state = engine.load(folder)
    if engine.rank == 0:
        found = {"errors": errors, "unchanged": unchanged, "unsaved": unsaved, "state": state}
        Path(out).write_text(json.dumps(found))
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    sys.stdout.flush()
    os._exit(0)
