"""Which tokens of a step enter the loss, and with what weight: the difference between C3PO and GRPO (paper eq. 1 to 3).

In: the responses of a step with their advantages. Out: for each response how many of its first tokens are kept and the weight
of each of them. The loss is then the weighted sum of `losses.token_losses`; nothing else differs.
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
    budget_rank: int = 0  # virtual rank of its prompt

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
NOTHING = Share(0, 0.0)


def tokens_per_step(objective: C3po | Grpo) -> int | None:
    """|Psi|, the tokens that enter a step's loss: Phi times the virtual ranks; None where the objective has no budget."""
    return None if isinstance(objective, Grpo) else objective.token_budget * objective.num_budgets


def live_groups(responses: Sequence[Response]) -> set[int]:
    """Groups with a policy gradient: a response of theirs has an advantage."""
    return {response.group for response in responses if response.advantage != 0.0}


def c3po_shares(responses: Sequence[Response], *, objective: C3po, seed: int) -> Shares:
    """Whole responses in a seeded random order of prompts until their tokens first reach Phi (eq. 2), on every virtual rank by itself.

    A token weighs 1 / (Phi x virtual ranks): each rank divides by its Phi, and gradients are averaged over ranks. Groups whose
    advantages are all zero carry no policy gradient: they come last, or with zero_groups = "leave_out" not at all. With cut = "token"
    (Fig. 3) the last response's tokens past Phi are left out, so that exactly Phi tokens are used; with "response" it stays whole
    (eq. 3). Where a rank has fewer than Phi tokens all are used, and the weight is the same.
    """
    total = tokens_per_step(objective)
    assert total is not None
    room = [objective.token_budget] * objective.num_budgets
    shares: Shares = {}
    for response in _greedy_order(responses, objective=objective, seed=seed):
        left = room[response.budget_rank]
        if left > 0:
            kept = min(response.num_tokens, left) if objective.cut == "token" else response.num_tokens
            shares[response.key] = Share(kept, 1.0 / total)
            room[response.budget_rank] -= kept
    return shares


def _greedy_order(responses: Sequence[Response], *, objective: C3po, seed: int) -> list[Response]:
    groups: dict[int, list[Response]] = {}
    for response in sorted(responses, key=lambda response: response.key):
        if response.judged:
            groups.setdefault(response.group, []).append(response)
    order = list(groups)
    random.Random(seed).shuffle(order)
    live = live_groups(responses)
    order.sort(key=lambda group: group not in live)  # stable
    kept = order if objective.zero_groups == "last" else [group for group in order if group in live]
    return [response for group in kept for response in groups[group]]


def grpo_shares(responses: Sequence[Response], *, objective: Grpo, seed: int) -> Shares:
    """Every judged response whole; a token of response i weighs 1 / (number of responses x |o_i|) (eq. 1)."""
    judged = [response for response in responses if response.judged]
    return {response.key: Share(response.num_tokens, 1.0 / (len(judged) * response.num_tokens)) for response in judged}


OBJECTIVES: dict[str, Callable[..., Any]] = {"c3po": c3po_shares, "grpo": grpo_shares}


def choose_shares(responses: Sequence[Response], *, objective: C3po | Grpo, seed: int) -> Shares:
    """The shares that the configured objective gives."""
    return OBJECTIVES[objective.kind](responses, objective=objective, seed=seed)


def informative_tokens(responses: Sequence[Response], objective: C3po) -> list[int]:
    """By virtual rank: tokens of judged responses in live groups, of which there should be Phi."""
    tokens = [0] * objective.num_budgets
    live = live_groups(responses)
    for response in responses:
        if response.judged and response.group in live:
            tokens[response.budget_rank] += response.num_tokens
    return tokens


def lacking_groups(responses: Sequence[Response], objective: C3po | Grpo, *, most: int) -> list[int]:
    """The virtual rank of each prompt that the step should ask more: as many as fill every Phi if they are like those it has.

    At most `most`, one a rank in turn. Where nothing of the step is informative, as many as there are.
    """
    if isinstance(objective, Grpo):
        return []
    tokens = informative_tokens(responses, objective)
    num_groups = len({response.group for response in responses})
    lacks = [max(0, objective.token_budget - there) for there in tokens]
    if sum(tokens):
        wanted = [-(-lack * num_groups // sum(tokens)) for lack in lacks]
    else:
        wanted = [-(-num_groups // objective.num_budgets)] * objective.num_budgets
    turns = range(max(wanted, default=0))
    return [rank for turn in turns for rank, count in enumerate(wanted) if turn < count][:most]
