"""What a step's rows say: rewards, lengths, failures of the judge, and how the budget was filled. Functions of the journal alone."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from data.domains import DOMAINS, FAILED_STATUSES
from stages.config import Objective, RlConfig
from stages.rl.samples import newborn, responses_of
from stages.rl.selection import Response, informative_tokens, live_groups
from stages.sampling.requests import EXPIRED, UNFINISHED
from stages.sampling.scores import checker_failures, entropy_figure, mean_tokens, num_weak

_GZIP_FRAME = 18  # bytes of header and trailer


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
    """Of responses, of which there are some; the deviation is that of the population."""
    tokens = rows["num_tokens"].to_numpy()
    return {
        "response/mean_tokens": mean_tokens(rows),
        "response/std_tokens": float(tokens.std()),
        "response/p99_tokens": float(np.percentile(tokens, 99)),
        "response/truncated_share": float(np.mean(rows["truncated"].to_pylist())),
        "response/compressibility": compressibility(rows["response"].to_pylist()),
        **entropy_figure("policy/entropy", rows),
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
    """The mean over those of a step's updates that have a figure; nothing of no update."""
    names = dict.fromkeys(name for one in updates for name in one)
    of_name = {name: [one[name] for one in updates if name in one] for name in names}
    return {name: sum(values) / len(values) for name, values in of_name.items()}


def compressibility(texts: Sequence[str]) -> float:
    """Mean over texts of compressed bytes / bytes, at most 1 each: near 0 where a text says the same over and over.

    By deflate without gzip's frame, as the pinned pyarrow has it, so that all machines find the same. An empty text counts as 1.
    """
    return float(np.mean([_compressed_share(text.encode()) for text in texts]))


def _compressed_share(text: bytes) -> float:
    deflated = len(pa.compress(text, codec="gzip", asbytes=True)) - _GZIP_FRAME
    return min(1.0, deflated / max(1, len(text)))


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
        "budget/underfilled_ranks": float(_underfilled(responses, rows, objective=config.objective)),
    }


def _informative_kept(responses: Sequence[Response], kept: Sequence[int], live: set[int]) -> int:
    return sum(tokens for response, tokens in zip(responses, kept, strict=True) if response.group in live)


def _underfilled(responses: Sequence[Response], rows: pa.Table, *, objective: Objective) -> int:
    """Virtual ranks whose Phi was not filled, in every update, by tokens with a policy gradient.

    What all updates but the last used beyond their Phi is not there for the others.
    """
    there, live = informative_tokens(responses, objective), live_groups(responses)
    used: Counter[tuple[int, int]] = Counter()
    for response, kept, update in zip(
        responses, rows["kept_tokens"].to_pylist(), rows["update"].to_pylist(), strict=True
    ):
        if response.group in live and 0 < update < objective.updates_per_batch:
            used[response.budget_rank, update] += kept
    for (rank, _), tokens in used.items():
        there[rank] -= max(0, tokens - objective.token_budget)
    return sum(tokens < objective.updates_per_batch * objective.token_budget for tokens in there)
