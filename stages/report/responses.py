"""A few responses of RL for the page: what was judged how, what of it was trained on, and what is easy and hard at the end.

In: rollouts/ of the arms (ROLLOUT_SCHEMA), rl.parquet of the curation that they were made from. Out: rows for the template.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.records.artifact import Manifest
from stages.records.rollouts import (
    WITHOUT_VERDICT,
    loss_words,
    prompts_of,
    read_rollouts,
    rollout_rows,
    rollout_steps,
    verdict_words,
)
from stages.stage import Row

MOST_CHARACTERS = 1_500  # of a text; at most six responses an arm, so that the page stays far below its limit
_COLUMNS = (
    *("step", "problem_id", "response", "status", "score", "checker_failed", "weak", "extracted", "reason"),
    *("num_tokens", "truncated", "advantage", "kept_tokens"),
)
_OF_GROUP = ("group", "score", "status")


def told_responses(arms: Mapping[str, Manifest], curation: Manifest | None) -> Iterator[Row]:
    """Of the first, the middle and the last step of each arm a response that was reinforced and one that was discouraged."""
    for arm, manifest in arms.items():
        for step in _some(rollout_steps(manifest.folder)):
            rows = rollout_rows(manifest.folder, step, telling_places(manifest.folder, step), _COLUMNS)
            asked = [row["problem_id"] for row in rows]
            prompts = prompts_of(curation.folder, asked) if curation else {}
            for row in rows:
                words = {"verdict": verdict_words(row), "loss": loss_words(row)}
                yield cut({"arm": arm, **row, **words, "prompt": prompts.get(row["problem_id"], "")})


def decile_responses(arms: Mapping[str, Manifest], curation: Manifest | None) -> Iterator[Row]:
    """Of the last step of each arm: its groups ordered by mean reward, and of each tenth of them the first response of the middle group."""
    for arm, manifest in arms.items():
        steps = rollout_steps(manifest.folder)
        if not steps:
            continue
        places = decile_places(read_rollouts(manifest.folder, steps[-1], ("group", "score", "status")))
        rows = rollout_rows(manifest.folder, steps[-1], [place for _, place, _ in places], _COLUMNS)
        prompts = prompts_of(curation.folder, [row["problem_id"] for row in rows]) if curation else {}
        for (decile, _, reward), row in zip(places, rows, strict=True):
            said = {"arm": arm, "decile": decile, "reward": reward, "verdict": verdict_words(row)}
            yield cut({**row, **said, "prompt": prompts.get(row["problem_id"], "")})


def decile_places(rows: pa.Table) -> list[tuple[int, int, float]]:
    """(decile from 1, place of a response, mean reward of its group) by rising reward; fewer than ten groups have a decile each.

    `rows` have `group`, `score` and `status`; a group that nobody judged is left out.
    """
    rewards: dict[int, list[float]] = {}
    first: dict[int, int] = {}
    for place, (group, score, status) in enumerate(zip(*(rows[name].to_pylist() for name in _OF_GROUP), strict=True)):
        first.setdefault(group, place)
        if status not in WITHOUT_VERDICT:
            rewards.setdefault(group, []).append(score)
    means = sorted((sum(scores) / len(scores), group) for group, scores in rewards.items())
    deciles = [part for part in np.array_split(np.arange(len(means)), min(10, len(means)) or 1) if len(part)]
    middle = [means[part[len(part) // 2]] for part in deciles]
    return [(number, first[group], mean) for number, (mean, group) in enumerate(middle, start=1)]


def telling_places(artifact: Path, step: int) -> list[int]:
    """Of the responses of a step that entered the loss, the first with an advantage above 0 and the first with one below.

    Where no advantage differs from 0, the first response of all.
    """
    rows = read_rollouts(artifact, step, ("advantage", "kept_tokens"))
    advantages = np.where(rows["kept_tokens"].to_numpy() > 0, rows["advantage"].to_numpy(), 0.0)
    found = [np.flatnonzero(sign * advantages > 0)[:1] for sign in (1, -1)]
    return np.concatenate(found).tolist() or [0][: len(rows)]


def cut(row: Row) -> Row:
    """The row with its long texts cut, and their length said."""
    return {name: _cut(value) if isinstance(value, str) else value for name, value in row.items()}


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} … ({len(text):,} characters)"


def _some(steps: Sequence[int]) -> list[int]:
    return sorted({steps[0], steps[len(steps) // 2], steps[-1]}) if steps else []
