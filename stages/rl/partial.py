"""Partial rollouts: C3PO++ (arXiv 2510.18855, Alg. 1) as rows of the journal.

A pool of at most Omega unfinished responses grows in rounds of a few tokens each, so that what is sampled does not depend on how fast
which process works. Finished ones are judged; room is filled with new prompts. The step ends when the finished groups have the tokens that
its budgets need. What is unfinished then stands in the step's file with the status `unfinished`, together with its group, and goes on
under the next weights; `token_versions` says which weights drew which token. A response that has outlived sigma updates is given up: it is
kept as `expired`, and its group goes on without it. In all other respects a step is what it is without.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from data.schema import ROLLOUT_SCHEMA
from stages.config import RlConfig
from stages.rl.samples import Group, attempt_parts, is_waiting, with_columns
from stages.sampling.requests import EXPIRED, UNFINISHED, Begun
from stages.seeds import derive_seed


def begin(groups: Sequence[Group], *, step: int, version: int, config: RlConfig, attempt: int = 0) -> pa.Table:
    """Rows of responses of which nothing is drawn yet."""
    pairs = [(group, sample) for group in groups for sample in range(config.samples_per_prompt)]
    names = {
        "step": step, "asked_step": step, "born_step": 0, "new_tokens": 0, "policy_version": version, "prompt_ids": [], "response": "",
        "token_ids": [], "logprobs": [], "status": UNFINISHED, "score": 0.0, "checker_failed": False, "weak": False, "extracted": "",
        "reason": "", "entropy": 0.0, "num_tokens": 0, "truncated": False, "token_versions": [], "reference_logprobs": [],
        "reward": np.nan, "advantage": np.nan, "kept_tokens": 0, "weight": 0.0, "update": 0,
    }  # fmt: skip
    rows = [
        {
            **names,
            "group": group.number,
            "budget_rank": group.budget_rank,
            "problem_id": group.problem.id,
            "domain": group.problem.domain,
            "sample": sample,
            "seed": derive_seed(config.seed, "rl", "sample", step, group.number, sample, *attempt_parts(attempt)),
        }
        for group, sample in pairs
    ]
    return pa.Table.from_pylist(rows, schema=ROLLOUT_SCHEMA)


def unfinished(rows: pa.Table) -> pa.Table:
    """The pool: rows that go on, in their order."""
    return rows.filter(pa.array(_has(rows, UNFINISHED)))


def begun(rows: pa.Table) -> tuple[Begun, ...]:
    """What there is of each."""
    columns = (rows[name].to_pylist() for name in ("token_ids", "logprobs", "entropy"))
    return tuple(
        Begun(tuple(tokens), tuple(logprobs), entropy) for tokens, logprobs, entropy in zip(*columns, strict=True)
    )


def give_up(rows: pa.Table, *, version: int, limit: int, config: RlConfig) -> pa.Table:
    """Rows in which those that have outlived sigma updates are expired, as are those without room below a shorter phase's limit."""
    assert config.objective.partial_rollouts is not None
    outlived = version - rows["policy_version"].to_numpy() > config.objective.partial_rollouts.max_updates
    lengths = np.array([len(prompt) for prompt in rows["prompt_ids"].to_pylist()]) + rows["num_tokens"].to_numpy()
    gone = _has(rows, UNFINISHED) & (outlived | (lengths >= limit))
    status = np.where(gone, EXPIRED, rows["status"].to_numpy(zero_copy_only=False))
    return with_columns(rows, status=status.tolist())


def reseeded(rows: pa.Table, *, attempt: int) -> pa.Table:
    """Rows of which the unfinished ones go on with other random numbers: those of an attempt that begins here."""
    seeds = zip(rows["seed"].to_pylist(), _has(rows, UNFINISHED).tolist(), strict=True)
    return with_columns(
        rows, seed=[derive_seed(seed, "attempt", attempt) if goes_on else seed for seed, goes_on in seeds]
    )


def grown(rows: pa.Table, answers: pa.Table, *, version: int) -> pa.Table:
    """Rows after a round, of which `answers` are the judged samples of the unfinished ones, in order."""
    place = np.flatnonzero(_has(rows, UNFINISHED))
    before = rows["num_tokens"].to_numpy()[place]
    added = answers["num_tokens"].to_numpy() - before
    own = {name: answers[name].to_pylist() for name in answers.column_names if name in _GROWS}
    own["new_tokens"] = (rows["new_tokens"].to_numpy()[place] + added).tolist()
    versions = rows["token_versions"].to_pylist()
    own["token_versions"] = [
        [*versions[row], *[version] * more] for row, more in zip(place.tolist(), added.tolist(), strict=True)
    ]
    columns = {}
    for name, values in own.items():
        column = rows[name].to_pylist()
        for row, value in zip(place.tolist(), values, strict=True):
            column[row] = value
        columns[name] = column
    return with_columns(rows, **columns)


def completed(rows: pa.Table, *, step: int) -> pa.Table:
    """Rows in which groups that have become complete are of this step."""
    is_new = ~is_waiting(rows) & (rows["born_step"].to_numpy() == 0)
    return with_columns(rows, born_step=np.where(is_new, step, rows["born_step"].to_numpy()).tolist())


def _has(rows: pa.Table, status: str) -> np.ndarray:
    return rows["status"].to_numpy(zero_copy_only=False) == status


_GROWS = (
    "prompt_ids", "response", "token_ids", "logprobs", "status", "score", "checker_failed", "weak", "extracted", "reason", "entropy",
    "num_tokens", "truncated", "reference_logprobs",
)  # fmt: skip
"""Columns of which a round says more."""
