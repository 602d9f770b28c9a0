"""The journal of an arm: what every step sampled, with its verdicts and what of it entered the loss.

rollouts/step-000057.parquet holds a row of ROLLOUT_SCHEMA a response, and the step is a function of it: the trainer reads it back,
whether it was written a moment ago or before a kill. Until a step is complete, its chunks lie under the resume state.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.schema import ROLLOUT_SCHEMA, Problem, read_table, write_table
from stages.config import RlConfig
from stages.rl.advantages import group_advantages
from stages.rl.rewards import NO_REWARD, rewards_of
from stages.rl.selection import NOTHING, Response, choose_shares, live_groups
from stages.sampling.requests import EXPIRED, UNFINISHED
from stages.seeds import derive_seed
from stages.stage import ROLLOUTS, STATE, step_file


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt that is asked in a step."""

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

    def chunks(self, step: int) -> list[Path]:
        """Files of the chunks of a step that is not complete, in order."""
        return sorted(self.chunk_path(step, 0).parent.glob("*.arrow"))

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


def sampled_rows(samples: pa.Table, groups: Sequence[Group], *, step: int, version: int, config: RlConfig) -> pa.Table:
    """Rows of ROLLOUT_SCHEMA without what entered the loss: `samples` are those of the groups, one after the other, drawn by `version`."""
    per_group, count = config.samples_per_prompt, len(samples)
    sampled = {name: samples[name] for name in samples.column_names}
    columns: dict[str, object] = {
        "step": [step] * count,
        "asked_step": [step] * count,
        "born_step": [step] * count,
        "new_tokens": samples["num_tokens"],
        "group": [group.number for group in groups for _ in range(per_group)],
        "budget_rank": [group.budget_rank for group in groups for _ in range(per_group)],
        "policy_version": [version] * count,
        "token_versions": [[version] * length for length in samples["num_tokens"].to_pylist()],
        "reference_logprobs": [[]] * count,
        **sampled,
        "reward": [math.nan] * count,
        "advantage": [math.nan] * count,
        "kept_tokens": [0] * count,
        "weight": [0.0] * count,
        "update": [0] * count,
    }
    return pa.table({name: columns[name] for name in ROLLOUT_SCHEMA.names}, schema=ROLLOUT_SCHEMA)


def newborn(rows: pa.Table) -> pa.Table:
    """The rows of a step whose group is complete since this step, without those that were given up."""
    is_new = rows["born_step"].to_numpy() == rows["step"].to_numpy()
    return rows.filter(pa.array(is_new & (rows["status"].to_numpy(zero_copy_only=False) != EXPIRED)))


def is_waiting(rows: pa.Table) -> np.ndarray:
    """Whether a row's group has a response that is not finished, so that nobody of it has an advantage yet."""
    groups = rows["group"].to_numpy()
    unfinished = groups[rows["status"].to_numpy(zero_copy_only=False) == UNFINISHED]
    return np.isin(groups, unfinished)


def responses_of(rows: pa.Table, *, config: RlConfig) -> list[Response]:
    """What the choice of tokens needs to know of each row. An advantage that a row has stays: a carried one is born with it."""
    waits = is_waiting(rows)
    judged = (~waits & ~np.isin(rows["status"].to_pylist(), list(NO_REWARD))).tolist()
    ages = (rows["step"].to_numpy() - rows["born_step"].to_numpy()).tolist()
    known = rows["advantage"].to_numpy()
    lacks = np.isnan(known)
    advantages = np.where(lacks, _advantages(rows, config=config), known) if lacks.any() else known.copy()
    advantages[waits] = 0.0
    columns = (rows[name].to_pylist() for name in ("group", "sample", "num_tokens", "budget_rank"))
    return [
        Response(group, sample, num_tokens, advantage=advantage, judged=counts, budget_rank=rank, age=age)
        for group, sample, num_tokens, rank, advantage, counts, age in zip(
            *columns, advantages.tolist(), judged, ages, strict=True
        )
    ]


def _advantages(rows: pa.Table, *, config: RlConfig) -> np.ndarray:
    """Of every row within the responses of its group that are here (eq. 1)."""
    groups, samples = rows["group"].to_numpy(), rows["sample"].to_numpy()
    rewards_PK = np.full((int(groups.max(initial=-1)) + 1, config.samples_per_prompt), np.nan)
    rewards_PK[groups, samples] = rewards_of(rows, config=config)
    return group_advantages(rewards_PK, objective=config.objective)[groups, samples]


def attempt_parts(attempt: int) -> tuple[str | int, ...]:
    """What an attempt after a roll back adds to the seeds of its steps; the first, number 0, adds nothing."""
    return ("attempt", attempt) if attempt else ()


def choice_seed(step: int, *, config: RlConfig, attempt: int = 0) -> int:
    """Of the order in which a step's prompts are taken."""
    return derive_seed(config.seed, "rl", "choice", step, *attempt_parts(attempt))


def with_choice(rows: pa.Table, *, step: int, config: RlConfig, attempt: int = 0) -> pa.Table:
    """The rows with rewards, advantages and what of each enters which loss: a function of what was sampled and judged.

    `config` is that of the step's phase (`RlConfig.for_phase`).
    """
    responses = responses_of(rows, config=config)
    seed = choice_seed(step, config=config, attempt=attempt)
    shares = choose_shares(responses, objective=config.objective, longest=config.sampling.max_new_tokens, seed=seed)
    chosen = [shares.get(response.key, NOTHING) for response in responses]
    return with_columns(
        rows,
        reward=rewards_of(rows, config=config).tolist(),
        advantage=np.where(is_waiting(rows), np.nan, [response.advantage for response in responses]).tolist(),
        kept_tokens=[share.kept_tokens for share in chosen],
        weight=[share.weight for share in chosen],
        update=[share.update for share in chosen],
    )


def carried(rows: pa.Table, *, config: RlConfig) -> pa.Table:
    """What a step leaves to the next, as rows of that one, in groups numbered from 0; they keep the virtual rank of their prompt.

    Groups in the making go on. With left_over = `carry` so do judged responses with an advantage of which nothing was chosen and which are
    not too old by then.
    """
    goes_on = is_waiting(rows)
    if config.objective.left_over == "carry":
        responses = responses_of(rows, config=config)
        live = live_groups(responses)
        goes_on |= np.array(
            [
                one.judged and one.group in live and one.age < config.objective.max_age and not kept
                for one, kept in zip(responses, rows["kept_tokens"].to_pylist(), strict=True)
            ],
            dtype=bool,
        )
    left = rows.filter(pa.array(goes_on))
    groups = left["group"].to_pylist()
    number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    return with_columns(
        left,
        step=[step + 1 for step in left["step"].to_pylist()],
        group=[number[group] for group in groups],
        new_tokens=[0] * len(left),
    )


def with_columns(rows: pa.Table, **columns: Sequence[object]) -> pa.Table:
    """Rows of ROLLOUT_SCHEMA with other values in some columns."""
    for name, values in columns.items():
        field = ROLLOUT_SCHEMA.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))
    return rows
