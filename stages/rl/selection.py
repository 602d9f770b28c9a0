"""Which tokens of a step enter which of its losses, and with what weight (paper eq. 1 to 3).

In: the responses of a step with their advantages. Out: for each response how many of its first tokens are kept, in which update, and the
weight of each of them. The loss is then the weighted sum of `losses`.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from stages.config import Objective


@dataclass(frozen=True, slots=True)
class Response:
    """What the choice of tokens needs to know of a response."""

    group: int  # number of its prompt among the prompts of the step
    sample: int  # number within the group
    num_tokens: int
    advantage: float
    judged: bool  # False: the judge failed on it; it takes no part
    budget_rank: int = 0  # virtual rank of its prompt
    age: int = 0  # steps since it was sampled

    @property
    def key(self) -> tuple[int, int]:
        """Identity within the step."""
        return self.group, self.sample


@dataclass(frozen=True, slots=True)
class Share:
    """What of a response enters a loss."""

    kept_tokens: int  # its first tokens; 0: none
    weight: float  # of each kept token
    update: int  # of the step, from 1; 0: none


Shares = dict[tuple[int, int], Share]  # by (group, sample)
NOTHING = Share(0, 0.0, 0)
Taken = Mapping[Response, int]  # an update's responses, with how many tokens of each are kept


def choose_shares(responses: Sequence[Response], *, objective: Objective, longest: int, seed: int) -> Shares:
    """What enters the losses of a step; `longest`: tokens that a response may have."""
    take = take_up_to_budget if objective.weights == "budget" else take_all
    shares: Shares = {}
    for update, taken in enumerate(take(responses, objective=objective, seed=seed), start=1):
        weigh = WEIGHTS[objective.weights]
        shares |= {
            response.key: Share(kept, weigh(response, taken, objective, longest), update)
            for response, kept in taken.items()
        }
    return shares


# ---------------------------------------------------------------- what is taken


def take_up_to_budget(responses: Sequence[Response], *, objective: Objective, seed: int) -> list[Taken]:
    """Responses in their order until their tokens first reach Phi (eq. 2), on every virtual rank by itself, once for every update.

    With budget_mode `truncate` (Fig. 3) the last response's tokens past Phi are left out, so that exactly Phi are used; with `reach` it
    stays whole (eq. 3); with `within` it is not taken, and the choice ends before it. Where a rank has fewer than Phi tokens all are used.
    """
    waiting = _in_order(responses, objective=objective, seed=seed)
    found: list[Taken] = []
    for _ in range(objective.updates_per_batch):
        taken = _take_once(waiting, objective=objective)
        found.append(taken)
        waiting = [response for response in waiting if response not in taken]
    return found


def _take_once(waiting: Sequence[Response], *, objective: Objective) -> Taken:
    room = [objective.token_budget] * objective.num_budgets
    taken: dict[Response, int] = {}
    for response in waiting:
        left = room[response.budget_rank]
        if left <= 0:
            continue
        if objective.budget_mode == "within" and response.num_tokens > left:
            room[response.budget_rank] = 0
            continue
        kept = min(response.num_tokens, left) if objective.budget_mode == "truncate" else response.num_tokens
        taken[response] = kept
        room[response.budget_rank] -= kept
    return taken


def take_all(responses: Sequence[Response], *, objective: Objective, seed: int) -> list[Taken]:
    """Every judged response whole; several updates share them by prompts, dealt in turn."""
    ordered = _in_order(responses, objective=objective, seed=seed)
    number = {group: index for index, group in enumerate(dict.fromkeys(response.group for response in ordered))}
    num_updates = objective.updates_per_batch
    return [
        {response: response.num_tokens for response in ordered if number[response.group] % num_updates == update}
        for update in range(num_updates)
    ]


def _in_order(responses: Sequence[Response], *, objective: Objective, seed: int) -> list[Response]:
    """Judged responses in the objective's order: carried ones first, groups without a policy gradient last or not at all."""
    live = live_groups(responses)
    judged = [response for response in responses if response.judged]
    kept = judged if objective.zero_groups == "last" else [one for one in judged if one.group in live]
    place = ORDERS[objective.order](kept, seed)
    return sorted(kept, key=lambda one: (one.group not in live, -one.age, place[one.key], one.key))


def _by_group(responses: Iterable[Response], seed: int) -> dict[tuple[int, int], int]:
    order = sorted({response.group for response in responses})
    random.Random(seed).shuffle(order)
    place = {group: number for number, group in enumerate(order)}
    return {response.key: place[response.group] for response in responses}


ORDERS: dict[str, Callable[[Sequence[Response], int], dict[tuple[int, int], int]]] = {
    "shuffled": _by_group,
    "as_sampled": lambda responses, _: {response.key: response.group for response in responses},
    "shortest_first": lambda responses, _: {response.key: response.num_tokens for response in responses},
}


# ---------------------------------------------------------------- what it weighs

WEIGHTS: dict[str, Callable[[Response, Taken, Objective, int], float]] = {
    "budget": lambda _, __, objective, ___: 1.0 / (objective.tokens_per_update or 1),
    "response_mean": lambda response, taken, _, __: 1.0 / (len(taken) * response.num_tokens),
    "token_mean": lambda _, taken, __, ___: 1.0 / sum(taken.values()),
    "constant": lambda _, taken, __, longest: 1.0 / (len(taken) * longest),
}
"""Of a token, by `Objective.weights`. With a budget each virtual rank divides by its Phi, and gradients are averaged over ranks; a rank
with fewer than Phi tokens divides by Phi, too."""


# ---------------------------------------------------------------- what is lacking


def live_groups(responses: Sequence[Response]) -> set[int]:
    """Groups with a policy gradient: a response of theirs has an advantage."""
    return {response.group for response in responses if response.advantage != 0.0}


def informative_tokens(responses: Sequence[Response], objective: Objective) -> list[int]:
    """By virtual rank: tokens of judged responses in live groups, of which there should be U x Phi."""
    tokens = [0] * objective.num_budgets
    live = live_groups(responses)
    for response in responses:
        if response.judged and response.group in live:
            tokens[response.budget_rank] += response.num_tokens
    return tokens


def lacking_tokens(responses: Sequence[Response], objective: Objective, *, seed: int) -> list[int]:
    """By virtual rank: informative tokens that its updates lack; what all but the last use up beyond their Phi is not there for the others.

    `seed`: that of the choice.
    """
    there, live = informative_tokens(responses, objective), live_groups(responses)
    informative = [response for response in responses if response.group in live]
    for taken in take_up_to_budget(informative, objective=objective, seed=seed)[:-1]:
        for rank in range(objective.num_budgets):
            used = sum(response.num_tokens for response in taken if response.budget_rank == rank)
            there[rank] -= max(0, used - objective.token_budget)
    return [max(0, objective.updates_per_batch * objective.token_budget - tokens) for tokens in there]


def lacking_groups(
    responses: Sequence[Response], objective: Objective, *, wanted: int, most: int, seed: int
) -> list[int]:
    """The virtual rank of each prompt that the step should ask more, at most `most`.

    With a budget: as many as fill every Phi if they are like those it has, one a rank in turn; where nothing of the step is informative, as
    many as there are. Without one, where groups without a policy gradient are left out (DAPO): as many as `wanted` exceeds the others.
    """
    num_groups = len({response.group for response in responses})
    if objective.weights != "budget":
        lacking = wanted - len(live_groups(responses)) if objective.zero_groups == "leave_out" else 0
        return [0] * max(0, min(lacking, most))
    tokens, lacks = informative_tokens(responses, objective), lacking_tokens(responses, objective, seed=seed)
    if sum(tokens):
        more = [-(-lack * num_groups // sum(tokens)) for lack in lacks]
    else:
        more = [-(-num_groups // objective.num_budgets)] * objective.num_budgets
    turns = range(max(more, default=0))
    return [rank for turn in turns for rank, count in enumerate(more) if turn < count][:most]
