"""The journal of an arm: what every step sampled, with its verdicts and what of it entered the loss.

rollouts/step-000057.parquet holds a row of ROLLOUT_SCHEMA a response, and the step is a function of it: the trainer reads it back,
whether it was written a moment ago or before a kill. Until a step is complete, its chunks lie under the resume state.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.domains import FAILED_STATUSES
from data.schema import ROLLOUT_SCHEMA, Problem, read_table, write_table
from stages.config import RlConfig
from stages.rl.advantages import group_advantages
from stages.rl.selection import NOTHING, Response, choose_shares
from stages.seeds import derive_seed
from stages.stage import ROLLOUTS, STATE, step_file


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt of a step."""

    number: int  # within the step
    budget_rank: int  # virtual rank whose budget it counts against
    problem: Problem


class Journal:
    """The files of an arm's steps."""

    def __init__(self, out: Path) -> None:
        self._folder, self._chunks = out / ROLLOUTS, out / STATE / "chunks"

    def path(self, step: int) -> Path:
        """File of a complete step."""
        return self._folder / step_file(step)

    def chunk_path(self, step: int, number: int) -> Path:
        """File of a chunk of a step that is not complete."""
        return self._chunks / f"step-{step:06d}" / f"{number:04d}.arrow"

    def has(self, step: int) -> bool:
        """Whether the step is complete: nothing of it is sampled or judged again."""
        return self.path(step).exists()

    def read(self, step: int) -> pa.Table:
        """The rows of a complete step, by group and sample."""
        return read_table(self.path(step), ROLLOUT_SCHEMA)

    def write(self, step: int, rows: pa.Table) -> None:
        """Complete a step; its chunks go."""
        write_table(rows, self.path(step))
        self.clear_chunks(step)

    def clear_chunks(self, step: int) -> None:
        """Remove what a complete step was made of; a kill may have left it."""
        shutil.rmtree(self.chunk_path(step, 0).parent, ignore_errors=True)

    def clean(self, *, num_steps: int) -> list[str]:
        """Remove what is no step of the arm, and steps behind one that is missing; returns the names."""
        steps = [step for step in range(1, num_steps + 1) if self.has(step)]
        whole = {self.path(step) for position, step in enumerate(steps, start=1) if step == position}
        strangers = [path for path in sorted(self._folder.glob("*")) if path not in whole]
        for path in strangers:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return [path.name for path in strangers]


def sampled_rows(samples: pa.Table, groups: Sequence[Group], *, step: int, config: RlConfig) -> pa.Table:
    """Rows of ROLLOUT_SCHEMA without what entered the loss: `samples` are those of the groups, one after the other."""
    per_group = config.samples_per_prompt
    columns: dict[str, object] = {
        "step": [step] * len(samples),
        "group": [group.number for group in groups for _ in range(per_group)],
        "budget_rank": [group.budget_rank for group in groups for _ in range(per_group)],
        "policy_version": [step - 1] * len(samples),
        **{name: samples[name] for name in samples.column_names},
        "advantage": [math.nan] * len(samples),
        "kept_tokens": [0] * len(samples),
        "weight": [0.0] * len(samples),
    }
    return pa.table({name: columns[name] for name in ROLLOUT_SCHEMA.names}, schema=ROLLOUT_SCHEMA)


def responses_of(rows: pa.Table, *, config: RlConfig) -> list[Response]:
    """What the choice of tokens needs to know of each row; advantages are those of eq. 1 within the K rows of a group."""
    columns = {name: rows[name].to_pylist() for name in ("group", "sample", "num_tokens", "status", "budget_rank")}
    judged = [status not in FAILED_STATUSES for status in columns.pop("status")]
    rewards = np.where(judged, rows["score"].to_numpy(), np.nan).astype(np.float64)
    advantages = group_advantages(
        rewards.reshape(-1, config.samples_per_prompt), epsilon=config.advantage_epsilon
    ).flatten()
    return [
        Response(group, sample, num_tokens, advantage=advantage, judged=counts, budget_rank=rank)
        for (group, sample, num_tokens, rank), advantage, counts in zip(
            zip(*columns.values(), strict=True), advantages.tolist(), judged, strict=True
        )
    ]


def attempt_parts(attempt: int) -> tuple[str | int, ...]:
    """What an attempt after a roll back adds to the seeds of its steps; the first, number 0, adds nothing."""
    return ("attempt", attempt) if attempt else ()


def with_choice(rows: pa.Table, *, step: int, config: RlConfig, attempt: int = 0) -> pa.Table:
    """The rows with their advantages and what of each enters the loss: a function of what was sampled and judged.

    `config` is that of the step's phase (`RlConfig.for_phase`).
    """
    responses = responses_of(rows, config=config)
    seed = derive_seed(config.seed, "rl", "choice", step, *attempt_parts(attempt))
    shares = choose_shares(responses, objective=config.objective, seed=seed)
    chosen = [shares.get(response.key, NOTHING) for response in responses]
    filled: Mapping[str, Sequence[float]] = {
        "advantage": [response.advantage for response in responses],
        "kept_tokens": [share.kept_tokens for share in chosen],
        "weight": [share.weight for share in chosen],
    }
    for name, values in filled.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, ROLLOUT_SCHEMA.field(name), pa.array(values, ROLLOUT_SCHEMA.field(name).type))
    return rows
