"""What a step's rows say: rewards, lengths, failures of the judge, and how the budget was filled. Functions of the journal alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from data.domains import DOMAINS, FAILED_STATUSES
from stages.config import RlConfig
from stages.rl.samples import choice_seed, newborn, responses_of
from stages.rl.selection import Response, lacking_tokens, live_groups
from stages.sampling.requests import EXPIRED, UNFINISHED
from stages.sampling.scores import checker_failures, mean_tokens, num_weak, policy_entropy


def step_figures(rows: pa.Table, *, config: RlConfig) -> dict[str, float]:
    """Metrics of a step; a domain that was not asked, or on which no verdict counts, has no reward. Only the budget counts carried rows."""
    new = newborn(rows)
    return {
        **_rewards(new),
        **_partial(rows),
        "response/count": float(len(new)),
        "response/new_tokens": float(sum(rows["new_tokens"].to_pylist())),
        **(_lengths(new) if len(new) else {}),
        "judge/failures": float(np.isin(new["status"].to_pylist(), list(FAILED_STATUSES)).sum()),
        "judge/checker_failures": float(checker_failures([new])),
        "judge/weak": float(num_weak([new])),
        **_budget(rows, config=config),
    }


def _lengths(rows: pa.Table) -> dict[str, float]:
    return {
        "response/mean_tokens": mean_tokens(rows),
        "response/truncated_share": float(np.mean(rows["truncated"].to_pylist())),
        "policy/entropy": policy_entropy(rows),
    }


def _partial(rows: pa.Table) -> dict[str, float]:
    """Of partial rollouts: responses that go on, and those that were given up of the groups that are complete since this step."""
    status = np.array(rows["status"].to_pylist())
    is_born = rows["born_step"].to_numpy() == rows["step"].to_numpy()
    found = {
        "partial/unfinished": np.sum(status == UNFINISHED),
        "partial/expired": np.sum((status == EXPIRED) & is_born),
    }
    return {name: float(value) for name, value in found.items()} if any(found.values()) else {}


def mean_figures(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over a step's updates of figures of the same names; nothing of no update."""
    return {name: sum(one[name] for one in updates) / len(updates) for name in (updates[0] if updates else ())}


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
    new = {response.group for response in responses if not response.age}
    used = sum(kept)
    found = {
        "budget/tokens_used": float(used),
        "budget/tokens_informative": float(
            sum(one.num_tokens for one in responses if one.judged and one.group in live)
        ),
        "group/asked": float(len(new)),
        **({"group/zero_advantage_share": 1.0 - len(live & new) / len(new)} if new else {}),
    }
    total = config.objective.tokens_per_step
    if total is None:
        return found
    return found | {
        "budget/fill": used / total,
        "budget/tokens_missing": float(max(0, total - used)),
        "budget/tokens_carried": float(sum(one.num_tokens for one in responses if one.judged and one.age)),
        "budget/informative_share": _informative_kept(responses, kept, live) / total,
        "budget/underfilled_ranks": float(_underfilled(responses, config=config, step=rows["step"][0].as_py())),
    }


def _informative_kept(responses: Sequence[Response], kept: Sequence[int], live: set[int]) -> int:
    return sum(tokens for response, tokens in zip(responses, kept, strict=True) if response.group in live)


def _underfilled(responses: Sequence[Response], *, config: RlConfig, step: int) -> int:
    """Virtual ranks whose Phi was not filled, in every update, by tokens with a policy gradient."""
    return sum(map(bool, lacking_tokens(responses, config.objective, seed=choice_seed(step, config=config))))
