"""Rows of supervised training and the order in which they are seen.

In: problems with a verified solution (the text after an opened `<think>`). Out: rows of token ids, in which that tag stands once, in
the prompt or as the response's beginning (`ring_model.chat_template`), and per epoch a list of batches of row indices, fixed before
training starts by the seed alone.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from data.schema import Problem
from ring_model.tokenizer import Tokenizer
from stages.sampling.prompting import prompt_ids
from stages.seeds import derive_seed

Batch = tuple[int, ...]  # indices of rows


@dataclass(frozen=True, slots=True)
class Row:
    """One training example."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]  # ends with eos; the loss is on these tokens

    @property
    def num_tokens(self) -> int:
        """Prompt and response tokens."""
        return len(self.prompt) + len(self.response)


@dataclass(frozen=True, slots=True)
class Rows:
    """The examples of a split, and what was left out."""

    rows: tuple[Row, ...]
    num_too_long: int  # rows over max_total_tokens
    num_without_solution: int

    @property
    def num_response_tokens(self) -> int:
        """Tokens that carry loss, once over."""
        return sum(len(row.response) for row in self.rows)


def tokenise(problems: Sequence[Problem], *, tokenizer: Tokenizer, max_total_tokens: int) -> Rows:
    """Rows in the order of the problems; those without a solution, or longer than the limit, are left out and counted."""
    solved = [problem for problem in problems if problem.solution]
    rows = [_row(problem, problem.solution or "", tokenizer) for problem in solved]
    kept = tuple(row for row in rows if row.num_tokens <= max_total_tokens)
    return Rows(kept, num_too_long=len(rows) - len(kept), num_without_solution=len(problems) - len(solved))


def _row(problem: Problem, solution: str, tokenizer: Tokenizer) -> Row:
    response = (*tokenizer.encode_response(solution), tokenizer.eos_id)
    return Row(prompt=tuple(prompt_ids(tokenizer, problem)), response=response)


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One optimiser step."""

    epoch: int  # from 1
    batch: Batch
    ends_epoch: bool
    ends_part: int  # the part of the epoch, from 1, that ends with this step; the last one ends with the epoch; 0: none


@dataclass(frozen=True, slots=True)
class Plan:
    """Every step of a run."""

    steps: tuple[PlannedStep, ...]
    loss_tokens: float  # the constant that the loss is divided by: mean response tokens per batch over the whole plan


def plan_steps(rows: Rows, *, num_epochs: int, batch_tokens: int, seed: int, parts_per_epoch: int = 1) -> Plan:
    """Shuffle the rows anew for each epoch and cut them into batches of at most `batch_tokens` tokens.

    A row longer than the budget makes a batch of its own. `parts_per_epoch` changes no batch: it marks where an epoch's parts of
    equally many steps (to one) end. Raises ValueError when there is nothing to train on, or an epoch has fewer steps than parts.
    """
    if not rows.rows:
        raise ValueError(
            f"no row to train on: {rows.num_too_long} are longer than max_total_tokens and {rows.num_without_solution} have no solution; "
            "raise max_total_tokens or give problems with solutions"
        )
    lengths = [row.num_tokens for row in rows.rows]
    steps: list[PlannedStep] = []
    for epoch in range(1, num_epochs + 1):
        batches = _cut(_shuffled(len(lengths), derive_seed(seed, "epoch", epoch)), lengths, batch_tokens)
        ends = _part_ends(len(batches), parts_per_epoch)
        steps += [
            PlannedStep(epoch, batch, ends_epoch=index == len(batches), ends_part=ends.get(index, 0))
            for index, batch in enumerate(batches, start=1)
        ]
    return Plan(tuple(steps), loss_tokens=num_epochs * rows.num_response_tokens / len(steps))


def _part_ends(num_steps: int, num_parts: int) -> dict[int, int]:
    """Step of the epoch -> the part that ends with it, both counted from 1."""
    if num_parts > num_steps:
        raise ValueError(
            f"an epoch of {num_steps} steps has no room for checkpoints_per_epoch = {num_parts}: lower it, or lower batch_tokens"
        )
    return {part * num_steps // num_parts: part for part in range(1, num_parts + 1)}


def _shuffled(count: int, seed: int) -> list[int]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def _cut(order: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> tuple[Batch, ...]:
    batches: list[list[int]] = []
    room = 0
    for index in order:
        if lengths[index] > room or not batches:
            batches.append([])
            room = batch_tokens
        batches[-1].append(index)
        room -= lengths[index]
    return tuple(tuple(batch) for batch in batches)
