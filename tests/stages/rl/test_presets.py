"""The loss of each preset on two groups of two responses, from the journal's rows to the number, worked out by hand."""

import math

import pyarrow as pa
import pytest
import torch

from ring_model.modelling import RouterOutput
from stages.config import PRESETS, Objective
from stages.rl.losses import LossOutput, TokenBatch, update_loss
from stages.rl.ratios import unit_of_tokens
from stages.rl.samples import with_choice
from stages.rl.update import Chosen, chosen_of
from tests.stages.conftest import arm_config
from tests.stages.rl.scripted import rollouts

# Of every response its length, verdict, and pi / pi_old of its tokens; at most 3 tokens. Of the first the second token ends a sentence.
STEP = (
    ((3, "correct", (1.21, 1.0, 1.02)), (1, "wrong", (0.5,))),
    ((3, "correct", (1.5, 1.0, 1.0)), (2, "correct", (1.25, 0.9))),
)
ENDS = (11,)  # ids are 10, 11, 12
# std is 1/2, so with this epsilon standardised advantages of group 0 are .5 / .625 = .8 and -.8; centred ones .5 and -.5
EPSILON = 0.125
ROUTER = RouterOutput(
    probability_LE=torch.tensor([[0.5, 0.5]]),
    load_LE=torch.ones(1, 2) / 2,
    entropy_L=torch.zeros(1),
    z_loss=torch.tensor(5.0),
    expert_LNK=torch.zeros(1, 0, 1, dtype=torch.int64),
)
LOAD = torch.tensor([[2.0, 1.0]])
ROUTERS = 1e-5 * 3 + 1e-7 * 5  # a_bal B + a_z Z, B = 2 (.5 x 2 + .5 x 1)
# The reference finds the first token of the first response twice as likely as the policy, all others as likely: k3 = 2 - 1 - ln 2, weighed
# by the ratio 1.21 and beta. Every entropy is 1.
KL = 1e-3 * 1.21 * (1 - math.log(2))
A_ENT = 5e-4


def step() -> pa.Table:
    return rollouts(
        [
            {
                "group": group,
                "sample": sample,
                "num_tokens": length,
                "status": status,
                "logprobs": [-1.0] * length,
                "reference_logprobs": [-1.0 + math.log(ratio) for ratio in ratios],
            }
            for group, of_group in enumerate(STEP)
            for sample, (length, status, ratios) in enumerate(of_group)
        ]
    )


def loss_of(chosen: list[Chosen], ratios: list[float], objective: Objective) -> LossOutput:
    """Of tokens whose policy was at log pi_old = -1 and is away from it by their ratios."""
    responses = [one.token_ids for one in chosen]
    lengths = torch.tensor([len(one) for one in responses])
    logprobs_M = torch.tensor([-1.0 + math.log(ratio) for ratio in ratios], dtype=torch.float64)
    reference_M = torch.tensor([value for one in chosen for value in one.reference_logprobs], dtype=torch.float64)
    reference_M[0] += math.log(2) if len(reference_M) == sum(lengths) else 0.0
    tokens = TokenBatch(
        sampler_logprobs_M=torch.tensor([value for one in chosen for value in one.logprobs]),
        old_logprobs_M=torch.full_like(logprobs_M, -1.0),
        reference_logprobs_M=reference_M if objective.kl_coefficient else None,
        advantages_M=torch.tensor([one.advantage for one in chosen]).repeat_interleave(lengths),
        weights_M=torch.tensor([one.weight for one in chosen], dtype=torch.float64).repeat_interleave(lengths),
        unit_M=torch.tensor(unit_of_tokens(responses, objective=objective, ends=ENDS)),
        response_M=torch.arange(len(chosen)).repeat_interleave(lengths),
    )
    entropies_M = torch.ones_like(logprobs_M)
    return update_loss(logprobs_M, entropies_M, ROUTER, tokens, objective=objective, load_LE=LOAD, router_share=1.0)


@pytest.mark.parametrize(
    ("kind", "kept", "gains", "num_clipped"),
    [
        # Phi = 5: the whole live group, one token of the first response without an advantage. A = .8:
        # min(1.21, 1.2) A + A + 1.02 A = .96 + .8 + .816; A = -.8: min(.5 A, .8 A) = -.64
        ("c3po", [3, 1, 1, 0], (0.96 + 0.8 + 0.816 - 0.64 - KL + 5 * A_ENT) / 5, 2),
        # each response 1/4, of that each token its share
        ("grpo", [3, 1, 3, 2], (0.96 + 0.8 + 0.816 - KL) / 12 - 0.64 / 4 + A_ENT, 2),
        # 3 of 3 tokens cost a reward of 1, so that group 0 has the rewards 0 and 0, and is left out; group 1 has 0 and 1, A = -.8 and .8:
        # min(1.5 A, 1.28 A) = -1.2, twice A = -.8; 1.25 A = 1 below 1.28, .9 A = .72
        ("dapo", [0, 0, 3, 2], (-1.2 - 0.8 - 0.8 + 1.0 + 0.72) / 5 + A_ENT, 0),
        # A = .5: .6 + .5 + .51, and min(.5 A, .8 A) = -.4; a token weighs 1 / (4 responses x 3)
        ("dr_grpo", [3, 1, 3, 2], (0.6 + 0.5 + 0.51 - 0.4 - KL + 9 * A_ENT) / 12, 2),
        # s = (1.21 x 1 x 1.02)^(1/3) = 1.07, clipped at 1.0004; s = .5, clipped at .9997: .80032 and -.79976
        ("gspo", [3, 1, 3, 2], 0.80032 / 4 - 0.79976 / 4 - KL / 12 + A_ENT, 4),
        # two sentences: s = (1.21 x 1)^(1/2) = 1.1, clipped at 1.03, of two tokens; s = 1.02 of one. s = .5, clipped at .97
        ("lpo", [3, 1, 3, 2], (2 * 0.824 + 0.816 - 0.776 - KL) / 9 + A_ENT, 3),
    ],
)
def test_a_presets_loss_is_the_one_worked_out_by_hand(
    kind: str, kept: list[int], gains: float, num_clipped: int
) -> None:
    budget = {"token_budget": 5, "budget_scope": "global", "order": "as_sampled", "advantage_epsilon": EPSILON}
    objective = Objective.model_validate({"kind": kind, **budget})
    config = arm_config(samples_per_prompt=2, sampling={"max_new_tokens": 3}).model_copy(
        update={"objective": objective}
    )
    rows = with_choice(step(), step=1, config=config)
    assert rows["kept_tokens"].to_pylist() == kept
    taken = zip((ratios for group in STEP for _, _, ratios in group), kept, strict=True)
    found = loss_of(
        chosen_of(rows, update=1), [ratio for ratios, count in taken for ratio in ratios[:count]], objective
    )
    assert found.loss.item() == pytest.approx(ROUTERS - gains, rel=1e-6)
    assert found.num_clipped == num_clipped


def test_every_preset_is_worked_out() -> None:
    (mark,) = test_a_presets_loss_is_the_one_worked_out_by_hand.pytestmark
    assert [case[0] for case in mark.args[1]] == list(PRESETS)
