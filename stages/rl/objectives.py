"""Which tokens of a step enter the loss, and with what weight: the difference between C3PO and GRPO (paper eq. 1 to 3).

In: the responses of a step, of all ranks, with their advantages. Out: for each response how many of its first tokens are
kept and the weight of each of them. The loss is then the weighted sum of `losses.token_losses`; nothing else differs.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stages.config import C3po, Grpo


@dataclass(frozen=True, slots=True)
class Response:
    """What the choice of tokens needs to know of a response."""

    group: int  # number of its prompt among the prompts of the step
    sample: int  # number within the group
    num_tokens: int
    advantage: float
    judged: bool  # False: the judge failed on it; it takes no part

    @property
    def key(self) -> tuple[int, int]:
        """Identity within the step."""
        return self.group, self.sample


@dataclass(frozen=True, slots=True)
class Share:
    """What of a response enters the loss."""

    kept_tokens: int  # its first tokens; 0: none
    weight: float  # of each kept token


Shares = dict[tuple[int, int], Share]  # by (group, sample)


def tokens_per_step(objective: C3po | Grpo) -> int | None:
    """|Psi| = Phi of a step over all ranks; None where the objective has no budget."""
    if isinstance(objective, Grpo):
        return None
    return objective.token_budget * (objective.budget_ranks if objective.scope == "rank" else 1)


def c3po_shares(responses: Sequence[Response], *, objective: C3po, seed: int) -> Shares:
    """Whole responses in a seeded random order of prompts until their tokens first reach Phi (eq. 2), each token weighing 1/Phi.

    Phi is `tokens_per_step(objective)`. Groups whose advantages are all zero come last: they carry no policy gradient. With
    cut = "token" (Fig. 3) the last response's tokens past Phi are left out, so that exactly Phi tokens are used; with
    "response" it stays whole (eq. 3). Where a step has fewer than Phi tokens all are used, and the weight is still 1/Phi.
    """
    budget = tokens_per_step(objective)
    assert budget is not None
    shares: Shares = {}
    used = 0
    for response in _greedy_order(responses, seed=seed):
        room = budget - used
        if room <= 0:
            break
        kept = min(response.num_tokens, room) if objective.cut == "token" else response.num_tokens
        shares[response.key] = Share(kept, 1.0 / budget)
        used += kept
    return shares


def _greedy_order(responses: Sequence[Response], *, seed: int) -> list[Response]:
    groups: dict[int, list[Response]] = {}
    for response in sorted(responses, key=lambda response: response.key):
        if response.judged:
            groups.setdefault(response.group, []).append(response)
    order = list(groups)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: all(response.advantage == 0.0 for response in groups[group]))  # stable: zeros last
    return [response for group in order for response in groups[group]]


def grpo_shares(responses: Sequence[Response], *, objective: Grpo, seed: int) -> Shares:
    """Every judged response whole; a token of response i weighs 1 / (number of responses x |o_i|) (eq. 1)."""
    judged = [response for response in responses if response.judged]
    return {response.key: Share(response.num_tokens, 1.0 / (len(judged) * response.num_tokens)) for response in judged}


OBJECTIVES: dict[str, Callable[..., Any]] = {"c3po": c3po_shares, "grpo": grpo_shares}


def choose_shares(responses: Sequence[Response], *, objective: C3po | Grpo, seed: int) -> Shares:
    """The shares that the configured objective gives."""
    return OBJECTIVES[objective.kind](responses, objective=objective, seed=seed)
