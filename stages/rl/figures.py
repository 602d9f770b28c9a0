"""What a step's rows say: rewards, lengths, failures of the judge, and how the budget was filled. Functions of the journal alone."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pyarrow as pa

from data.domains import DOMAINS, FAILED_STATUSES
from ring_model.configuration import BailingMoeConfig
from stages.config import C3po, RlConfig
from stages.rl.samples import responses_of
from stages.rl.selection import Response, informative_tokens, live_groups, tokens_per_step
from stages.sampling.scores import checker_failures, mean_tokens, num_weak, policy_entropy
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


def step_figures(rows: pa.Table, *, config: RlConfig) -> dict[str, float]:
    """Metrics of a step; a domain that was not asked, or on which no verdict counts, has no reward."""
    return {
        **_rewards(rows),
        "response/count": float(len(rows)),
        "response/mean_tokens": mean_tokens(rows),
        "response/truncated_share": float(np.mean(rows["truncated"].to_pylist())),
        "policy/entropy": policy_entropy(rows),
        "judge/failures": float(np.isin(rows["status"].to_pylist(), list(FAILED_STATUSES)).sum()),
        "judge/checker_failures": float(checker_failures([rows])),
        "judge/weak": float(num_weak([rows])),
        **_budget(rows, config=config),
    }


def _rewards(rows: pa.Table) -> dict[str, float]:
    """Mean score of the verdicts that count, of all and of each domain."""
    counts = ~np.isin(rows["status"].to_pylist(), list(FAILED_STATUSES))
    scores, domains = rows["score"].to_numpy().astype(np.float64), np.array(rows["domain"].to_pylist())
    parts = {"mean": counts} | {domain: counts & (domains == domain) for domain in DOMAINS}
    return {f"reward/{name}": float(scores[part].mean()) for name, part in parts.items() if part.any()}


def _budget(rows: pa.Table, *, config: RlConfig) -> dict[str, float]:
    """How much of the budget was used, and how much of that carries a policy gradient."""
    responses, kept = responses_of(rows, config=config), rows["kept_tokens"].to_pylist()
    live = live_groups(responses)
    num_groups = len({response.group for response in responses})
    used = sum(kept)
    found = {
        "budget/tokens_used": float(used),
        "budget/tokens_informative": float(
            sum(one.num_tokens for one in responses if one.judged and one.group in live)
        ),
        "group/asked": float(num_groups),
        "group/zero_advantage_share": 1.0 - len(live) / num_groups,
    }
    total = tokens_per_step(config.objective)
    if total is None or not isinstance(config.objective, C3po):
        return found
    return found | {
        "budget/fill": used / total,
        "budget/tokens_missing": float(max(0, total - used)),
        "budget/informative_share": _informative_kept(responses, kept, live) / total,
        "budget/underfilled_ranks": float(_underfilled(responses, config.objective)),
    }


def _informative_kept(responses: Sequence[Response], kept: Sequence[int], live: set[int]) -> int:
    return sum(tokens for response, tokens in zip(responses, kept, strict=True) if response.group in live)


def _underfilled(responses: Sequence[Response], objective: C3po) -> int:
    """Virtual ranks whose Phi was not filled by tokens with a policy gradient."""
    return sum(tokens < objective.token_budget for tokens in informative_tokens(responses, objective))


def step_flops(rows: pa.Table, *, model: BailingMoeConfig, has_reference: bool) -> dict[str, int]:
    """FLOPs of a step, see `compute`: a prompt is read once for its samples, and with each response, as far as it is kept, in training.

    The probe is not counted. A prompt that a step asks twice is two groups, and counts twice.
    """
    lengths = zip(
        rows["group"].to_pylist(),
        map(len, rows["prompt_ids"].to_pylist()),
        rows["num_tokens"].to_pylist(),
        rows["kept_tokens"].to_pylist(),
        strict=True,
    )
    sampled, trained = Work(), Work()
    for (_, prompt), group in groupby(lengths, key=lambda row: row[:2]):
        responses = [(length, kept) for *_, length, kept in group]
        sampled += sampling_work(prompt, [length for length, _ in responses])
        trained += sum((row_work(prompt, kept) for _, kept in responses if kept), Work())
    spent = {TRAINING: training_flops(trained, model), SAMPLING: forward_flops(sampled, model)}
    return spent | ({REFERENCE: forward_flops(trained, model)} if has_reference else {})
