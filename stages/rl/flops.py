"""What a step of RL costs in FLOPs, by what they are spent on: a function of the journal, see `stages.training.compute`.

Sampling: a prompt is read once for its responses, of which counts what was drawn in this step. A partial rollout is read again, with what
there is of it, in every round in which it grows. Reference: the prompt with every response that was finished in this step, whole. Training:
the prompt with every response that enters a loss, as far as it does, forward and backward; forward once more for the updates of a step
after its first, whose pi_old is computed beforehand. The probe is not counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa

from ring_model.shape import Shape
from stages.config import Objective
from stages.sampling.requests import UNFINISHED
from stages.training.compute import (
    REFERENCE,
    SAMPLING,
    TRAINING,
    Work,
    forward_flops,
    row_work,
    sampling_work,
    training_flops,
)


@dataclass(frozen=True, slots=True)
class _Lengths:
    """A row of the journal, in tokens."""

    group: int
    prompt: int
    response: int
    drawn: int  # of the response, in this step
    kept: int
    update: int
    goes_on: bool


def step_flops(rows: pa.Table, *, model: Shape, objective: Objective) -> dict[str, int]:
    """FLOPs by name; the reference's where the objective has one."""
    responses = list(_lengths(rows))
    round_tokens = objective.partial_rollouts.round_tokens if objective.partial_rollouts else None
    drawn = [one for one in responses if one.drawn]
    sampled = sum((_group_work(list(group), round_tokens) for group in _groups(drawn)), Work())
    chosen = [one for one in responses if one.update]
    spent = {
        TRAINING: training_flops(_kept_work(chosen), model)
        + forward_flops(_kept_work([one for one in chosen if one.update > 1]), model),
        SAMPLING: forward_flops(sampled, model),
    }
    if objective.kl_coefficient:
        scored = (row_work(one.prompt, one.response) for one in drawn if not one.goes_on)
        spent[REFERENCE] = forward_flops(sum(scored, Work()), model)
    return spent


def _lengths(rows: pa.Table) -> Iterator[_Lengths]:
    columns = (
        rows[name].to_pylist() for name in ("group", "num_tokens", "new_tokens", "kept_tokens", "update", "status")
    )
    prompts = map(len, rows["prompt_ids"].to_pylist())
    for prompt, group, response, drawn, kept, update, status in zip(prompts, *columns, strict=True):
        yield _Lengths(group, prompt, response, drawn, kept, update, goes_on=status == UNFINISHED)


def _groups(responses: Sequence[_Lengths]) -> Iterator[Iterator[_Lengths]]:
    ordered = sorted(responses, key=lambda one: one.group)
    return (group for _, group in groupby(ordered, key=lambda one: one.group))


def _group_work(responses: Sequence[_Lengths], round_tokens: int | None) -> Work:
    """What was drawn of one prompt's responses."""
    first, work = [], Work()
    for one in responses:
        begun = one.response - one.drawn
        while begun < one.response:
            more = min(round_tokens or one.drawn, one.response - begun)
            if begun:
                work += sampling_work(one.prompt + begun, [more])
            else:
                first.append(more)
            begun += more
    return work + (sampling_work(responses[0].prompt, first) if first else Work())


def _kept_work(chosen: Sequence[_Lengths]) -> Work:
    return sum((row_work(one.prompt, one.kept) for one in chosen), Work())
