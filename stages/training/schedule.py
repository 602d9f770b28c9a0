"""Learning rates by step, and AdamW's settings: what base, SFT and RL take from their configurations."""

import math
from typing import Protocol

from ring_model.engine import OptimizerSettings
from stages.config import RlOptimizer, Training


class Optimisation(Protocol):
    """What the configurations of SFT and of RL both state."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def gradient_clip(self) -> float: ...


def optimizer_settings(config: Optimisation) -> OptimizerSettings:
    """AdamW as configured."""
    return OptimizerSettings(
        learning_rate=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        gradient_clip=config.gradient_clip,
    )


def cosine_rate(step: int, *, num_steps: int, training: Training) -> float:
    """SFT's learning rate at `step`, counted from 1: linear over the first warmup_share of the steps, then a cosine to the last."""
    warmup_steps = math.ceil(training.warmup_share * num_steps)
    if step <= warmup_steps:
        return training.learning_rate * step / warmup_steps
    way = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    floor = training.final_learning_rate_share
    return training.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * way)))


def linear_rate(step: int, *, num_steps: int, optimizer: RlOptimizer) -> float:
    """RL's learning rate at `step`, counted from 1: linear warm-up, then a line down to the final share at the last step."""
    if step <= optimizer.warmup_steps:
        return optimizer.learning_rate * step / optimizer.warmup_steps
    way = (step - optimizer.warmup_steps) / max(1, num_steps - optimizer.warmup_steps)
    return optimizer.learning_rate * (1 - way * (1 - optimizer.final_learning_rate_share))
