"""A step's updates of the weights: all on choices of the same samples, one after the other, each against the policy before the first.

In: the step's rows. Out: weights that moved on, and figures of the updates, a mean where there are several.
"""

from collections.abc import Collection, Sequence

import pyarrow as pa

from stages.config import Objective, RlConfig
from stages.rl.figures import mean_figures
from stages.rl.mismatch import Differences
from stages.rl.progress import Progress
from stages.rl.update import Totals, Update, accumulate_gradients, chosen_of
from stages.training.routing import domain_metrics, load_by_domain, router_losses, routing_metrics, step_load
from stages.training.trainer import Trainer


def updates_of(rows: pa.Table, *, config: RlConfig, trainer: Trainer, sentence_ends: Collection[int]) -> list[Update]:
    """What each update of a step takes; `config` is that of its phase, `sentence_ends` are ids of tokens."""
    micro_batch_tokens = trainer.runtime.micro_batch_tokens
    return [
        Update(chosen_of(rows, update=number), config, trainer.engine, sentence_ends, micro_batch_tokens)
        for number in range(1, config.objective.updates_per_batch + 1)
    ]


def take_updates(
    step: int, updates: Sequence[Update], *, trainer: Trainer, progress: Progress, learning_rate: float
) -> dict[str, float]:
    """Take those that have tokens, and note in `progress` what the next update needs; a step without any is counted and told."""
    old = [None, *(update.old_logprobs() for update in updates[1:])]
    found: list[dict[str, float]] = []
    differences = Differences.none()
    for update, logprobs in zip(updates, old, strict=True):
        if not update.chosen:
            continue
        totals = accumulate_gradients(update, load=progress.load, old=logprobs)
        routers = trainer.engine.shape.routers
        progress.gradient_norm = trainer.apply(step, loss=totals.sums["loss"], learning_rate=learning_rate)
        progress.load = step_load(totals.sums, routers)
        progress.domain_load = load_by_domain(totals.sums, update.domains, routers)
        found.append(_figures(totals, trainer=trainer, progress=progress, objective=update.config.objective))
        differences.merge(totals.differences)
    if not found:
        progress.skipped += 1
        trainer.log.message(f"step {step}: no response enters the loss, so the weights stay as they are")
        return {}
    return {**mean_figures(found), "train/learning_rate": learning_rate, **differences.figures()}


def _figures(totals: Totals, *, trainer: Trainer, progress: Progress, objective: Objective) -> dict[str, float]:
    sums, routers = totals.sums, trainer.engine.shape.routers
    has_kl = objective.kl_coefficient and objective.kl_place == "loss"
    return {
        "train/loss": sums["loss"],
        "train/gradient_norm": progress.gradient_norm,
        **({"policy/kl": sums["kl"] / sums["tokens"]} if has_kl else {}),
        "loss/clip_fraction": sums["clipped"] / sums["tokens"],
        **router_losses(sums, routers),
        **routing_metrics(sums, routers),
        **domain_metrics(progress.domain_load, routers),
    }
