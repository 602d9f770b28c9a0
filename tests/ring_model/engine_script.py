"""Trains the small model for four steps on this rank's share of fixed rows; run alone or under torchrun.

usage: [PRECISION=bfloat16] [START=FOLDER] engine_script.py OUT.pt ZERO_STAGE CHECKPOINT_FOLDER [FOLDER_TO_REFUSE ...]
It resumes from the checkpoint folder when there is one, else saves there after two steps and goes on.
"""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

gc.disable()  # importing PyTorch and DeepSpeed leaves no garbage, and looking for it takes a quarter of a run

import torch  # noqa: E402

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
from slow_model import SMALL, VARIANTS  # noqa: E402

from ring_model.engine import Engine, OptimizerSettings  # noqa: E402
from ring_model.modelling import BailingMoe, initialise  # noqa: E402
from ring_model.policy import BailingScorer, pack_rows  # noqa: E402
from ring_model.scorers import open_scorer  # noqa: E402

SETTINGS = OptimizerSettings(learning_rate=1e-2, weight_decay=0.1, gradient_clip=0.5)
DENOMINATOR = 20.0
NUM_STEPS, SAVED_STEPS = 4, 2
SHARES = {
    1: [(0, 4)],
    2: [(0, 3), (3, 4)],
    4: [(0, 2), (2, 3), (3, 4), (4, 4)],
}  # of the micro-batches of a step, by ranks


def rate(step: int) -> float:
    return 1e-2 / (1 + step)


def rows_of(step: int) -> list:
    """Four micro-batches of one to three rows."""
    generator = torch.Generator().manual_seed(step)
    batches = []
    for num_rows in (1, 3, 2, 1):
        draw = torch.randint(1, SMALL.vocab_size, (num_rows, 9), generator=generator).tolist()
        batches.append(pack_rows([row[:3] for row in draw], [row[3 : 6 + i] for i, row in enumerate(draw)]))
    return batches


def loss_of(score: Callable, rows) -> torch.Tensor:
    scored = score(rows, entropy="gradient")
    tokens = rows.num_response_tokens
    unused = 0.0 * scored.entropies_M.sum()  # of which there is a backward pass all the same
    loss = unused - scored.logprobs_M.sum()
    if scored.router is None:
        return loss
    return loss + 0.01 * tokens * (scored.router.balance_loss(scored.router.load_LE) + scored.router.z_loss)


def refusal(engine: Engine, folder: str) -> str:
    try:
        engine.load(folder)
    except ValueError as error:
        return str(error)
    return ""


def main(out: str, zero_stage: int, folder: str, refused: list[str]) -> None:
    torch.set_num_threads(1)
    start, sizes = os.environ.get("START"), VARIANTS.get(os.environ.get("VARIANT", ""), SMALL)
    scorer = open_scorer(Path(start)) if start else BailingScorer(initialise(BailingMoe(sizes), seed=5))
    precision = "bfloat16" if os.environ.get("PRECISION") == "bfloat16" else "float32"
    engine = Engine.start(scorer, optimizer=SETTINGS, zero_stage=zero_stage, precision=precision)
    refusals = engine.all_gather_object([refusal(engine, other) for other in refused])
    state = engine.load(folder)
    norms = []
    for step in range(state["step"] if state else 0, NUM_STEPS):
        if step == SAVED_STEPS and not state:
            engine.save(folder, {"step": step})
        norms.append(take(engine, step))
    gathered = engine.all_gather_object(engine.rank)
    total = engine.all_reduce_sum({"one": 1.0, "rank": engine.rank})
    word = engine.broadcast(f"from {engine.rank}")
    weights = weights_of(engine)
    if engine.rank == 0:
        found = {"weights": weights, "norms": norms, "gathered": gathered, "total": total, "word": word}
    again, reset = (from_checkpoint(engine, folder, resets=resets) for resets in (False, True))
    if engine.rank == 0:
        torch.save({**found, "refusals": refusals, "again": again, "reset": reset}, out)
    engine.close()


def take(engine: Engine, step: int) -> float:
    """One step on this rank's share; returns its norm."""
    batches = rows_of(step)
    mine = batches[slice(*SHARES[engine.world_size][engine.rank])]
    engine.set_learning_rate(rate(step))
    for rows in engine.padded(mine):
        if rows is None:
            engine.backward_nothing(entropy="gradient")
        else:
            engine.backward(loss_of(engine.score, rows), denominator=DENOMINATOR)
    return engine.step()


def from_checkpoint(engine: Engine, folder: str, *, resets: bool) -> list[torch.Tensor]:
    """The weights at the end where the engine goes back to the checkpoint, and forgets its moments there where it `resets`."""
    engine.load(folder)
    if resets:
        engine.reset_optimizer()
    for step in range(SAVED_STEPS, NUM_STEPS):
        take(engine, step)
    return weights_of(engine)


def weights_of(engine: Engine) -> list[torch.Tensor]:
    parameters = list(engine.scorer.parameters())
    with engine.gathered(parameters):
        return [p.detach().clone() for p in parameters]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
    sys.stdout.flush()
    os._exit(0)  # as stages.worker does: gloo's threads sometimes abort a process that leaves in the ordinary way
