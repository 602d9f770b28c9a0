"""Steps of RL in one process of their own: DeepSpeed keeps what it knows of ranks for as long as a process lives.

Functions here run there (`Pool.submit`); what they take and give can be pickled.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from ring_model.checkpoint import released_tensors
from ring_model.configuration import BailingMoeConfig
from ring_model.engine import Engine, OptimizerSettings
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import BailingScorer
from stages.config import RlArm, RlConfig, Runtime
from stages.rl.loop import _Run
from stages.rl.update import Chosen, Update, accumulate_gradients
from stages.stage import StageLog
from tests.stages.conftest import lines_of

CONFIG = BailingMoeConfig(
    vocab_size=29,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_experts=5,
    num_experts_per_tok=2,
    num_shared_experts=1,
    moe_intermediate_size=8,
    initializer_range=0.3,
    eos_token_id=0,
    pad_token_id=0,
    max_position_embeddings=64,
)
LOADS = [[0.3, 0.1, 0.2, 0.25, 0.15], [0.05, 0.35, 0.2, 0.3, 0.1]]  # of the step before


def policy() -> BailingMoe:
    return initialise(BailingMoe(CONFIG), seed=0)


def reference() -> BailingMoe:
    """The policy a few steps ago."""
    model, generator = policy(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return model.requires_grad_(requires_grad=False)


def older_policy(moves: float) -> BailingMoe:
    """The policy at the beginning of a step of which this is not the first update."""
    model, generator = policy(), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += moves * torch.randn(parameter.shape, generator=generator)
    return model


def by_released_name(values: Sequence[Tensor]) -> dict[str, Tensor]:
    """What belongs to the parameters in their order, under the names of a released model."""
    model = BailingMoe(CONFIG)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)
    return {name: tensor.clone() for name, tensor in released_tensors(model).items()}


# ---------------------------------------------------------------- in the process


def gradients(
    chosen: Sequence[Chosen],
    *,
    config: RlConfig,
    micro_batch_tokens: int = 4096,
    moves: float | None = None,
    ends: Sequence[int] = (),
) -> tuple[dict[str, Tensor], dict[str, float], dict[str, float]]:
    """The gradient by released name, the sums, and the figures of the mismatch.

    Where it moves, the policy of the step's beginning is `older_policy`: the update is a later one.
    """
    torch.set_num_threads(1)
    model = policy()
    engine = Engine.start(BailingScorer(model), optimizer=OptimizerSettings(learning_rate=1e-3))
    update = Update(chosen, config, engine, ends, micro_batch_tokens)
    old = None
    if moves is not None:
        now = [parameter.detach().clone() for parameter in model.parameters()]
        put(model, [parameter.detach().clone() for parameter in older_policy(moves).parameters()])
        old = update.old_logprobs()
        put(model, now)
    totals = accumulate_gradients(update, load=LOADS, old=old)
    found = [parameter.grad for parameter in engine.scorer.model.parameters()]
    assert all(gradient is not None for gradient in found)
    by_name = by_released_name([gradient for gradient in found if gradient is not None])
    return by_name, totals.sums, totals.differences.figures()


def put(model: BailingMoe, values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)


@dataclass(frozen=True)
class Updated:
    """A step of a run."""

    values: dict[str, float]  # of the update
    moved: float  # furthest of any weight
    still: list[str]  # parameters that are the same to the bit
    weights: list[Tensor]
    skipped: int
    messages: list[str]


def update(rows: pa.Table, *, config: RlConfig, start: Path, out: Path) -> Updated:
    """`loop._Run` from its start through the updates of step 1."""
    out.mkdir(parents=True)
    events = io.StringIO()
    (arm,) = config.arms
    assert isinstance(arm, RlArm)
    log = StageLog(events)
    run = _Run.start(arm, config=config, start=start, probe=None, runtime=Runtime(), out=out, log=log)
    before = [parameter.detach().clone() for parameter in run.trainer.engine.scorer.model.parameters()]
    values = run.update(1, rows)
    weights = [parameter.detach().clone() for parameter in run.trainer.engine.scorer.model.parameters()]
    moved = max(float((one - two).abs().max()) for one, two in zip(before, weights, strict=True))
    names = [name for name, _ in run.trainer.engine.scorer.model.named_parameters()]
    still = [name for name, one, two in zip(names, weights, before, strict=True) if torch.equal(one, two)]
    messages = [event["text"] for event in lines_of(events) if event["event"] == "message"]
    return Updated(values, moved, still, weights, run.progress.skipped, messages)
