"""The gradient of a step: against a slow one in float64, and however the step is cut, ordered and padded."""

import itertools
import random
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from ring_model.checkpoint import released_tensors
from ring_model.modelling import BailingMoe
from ring_model.policy import pack_rows, response_logprobs
from stages.config import C3po, Grpo, RlConfig
from stages.rl.samples import with_choice
from stages.rl.update import Chosen, add, chosen_of
from tests.stages.conftest import arm_config
from tests.stages.rl import slow_step
from tests.stages.rl.one_rank import CONFIG, LOADS, gradients, policy, reference, update
from tests.stages.rl.scripted import rollouts

TEMPERATURE = 0.8
COEFFICIENTS = {
    "kl_coefficient": 0.3,
    "entropy_coefficient": 0.2,
    "balance_coefficient": 0.1,
    "z_coefficient": 0.05,
    "advantage_epsilon": 0.01,
}
TWO_RANKS = C3po(token_budget=20, scope="rank", budget_ranks=2)
# Prompt length, then length and verdict of each response. On virtual rank 0 (groups 0 and 2) 30 tokens want a budget of 20: one
# response is cut. On rank 1 there are 18, group 3 of equal rewards among them.
STEP = (
    (4, ((7, "correct"), (5, "wrong"), (6, "judge_error"))),
    (2, ((3, "correct"), (4, "wrong"), (2, "wrong"))),
    (6, ((6, "wrong"), (4, "correct"), (8, "wrong"))),
    (3, ((5, "wrong"), (1, "wrong"), (3, "wrong"))),
)


def config_of(**values: object) -> RlConfig:
    sampling = {"max_new_tokens": 12, "temperature": TEMPERATURE}
    return arm_config(
        **{"samples_per_prompt": 3, "objective": TWO_RANKS, "sampling": sampling, **COEFFICIENTS, **values}
    )


def sampled_step() -> pa.Table:
    """STEP as a policy of long ago would have sampled it: ratios are far from 1, on either side."""
    draw, model, rows = random.Random(5), policy(), []
    for group, (prompt_length, responses) in enumerate(STEP):
        prompt = [draw.randrange(1, CONFIG.vocab_size) for _ in range(prompt_length)]
        for number, (length, status) in enumerate(responses):
            tokens = [draw.randrange(1, CONFIG.vocab_size) for _ in range(length)]
            with torch.no_grad():
                scored = response_logprobs(model, pack_rows([prompt], [tokens]), temperature=TEMPERATURE)
            old = [logprob + draw.uniform(-0.6, 0.6) for logprob in scored.logprobs_M.tolist()]
            rows.append(
                {
                    "group": group, "sample": number, "budget_rank": group % 2, "prompt_ids": prompt, "token_ids": tokens,
                    "logprobs": old, "num_tokens": length, "status": status,
                }
            )  # fmt: skip
    return rollouts(rows)


def slow_gradient(rows: pa.Table, config: RlConfig) -> slow_step.Slow:
    """Of the rows' choice nothing is taken but how many tokens are kept."""
    records = rows.to_pylist()
    judged = [row for row in records if row["status"] != "judge_error"]
    for _, group in itertools.groupby(records, key=lambda row: row["group"]):
        of_group = list(group)
        rewards = [None if row["status"] == "judge_error" else float(row["status"] == "correct") for row in of_group]
        for row, advantage in zip(of_group, slow_step.advantages(rewards, config.advantage_epsilon), strict=True):
            row["advantage"] = advantage
            row["weight"] = 1 / 40 if isinstance(config.objective, C3po) else 1 / (len(judged) * row["num_tokens"])
    settings = slow_step.Settings(
        eps=0.2,
        beta=config.kl_coefficient,
        a_ent=config.entropy_coefficient,
        a_bal=config.balance_coefficient,
        a_z=config.z_coefficient,
        temperature=TEMPERATURE,
    )
    ours, theirs = (double_weights(model) for model in (policy(), reference()))
    return slow_step.step(ours, theirs, records, config=CONFIG, loads=LOADS, settings=settings)


def double_weights(model: BailingMoe) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in released_tensors(model).items()}


def furthest(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """Largest difference of a tensor, as a share of its norm."""
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).norm() / two[name].norm()) for name in one)


@pytest.fixture(scope="module")
def process() -> Generator[ProcessPoolExecutor]:
    """The process in which engines start."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


# ---------------------------------------------------------------- the gradient


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "has_reference"),
    [
        ({}, True),
        ({"objective": Grpo()}, True),
        ({"kl_coefficient": 0.0, "entropy_coefficient": 0.0}, False),
    ],
)
def test_the_gradient_of_a_step_is_that_of_a_loop_over_tokens_in_float64(process, values, has_reference) -> None:
    config = config_of(**values)
    rows = with_choice(sampled_step(), step=1, config=config)
    kept, lengths = rows["kept_tokens"].to_pylist(), rows["num_tokens"].to_pylist()
    is_cut = [0 < some < whole for some, whole in zip(kept, lengths, strict=True)]
    assert sum(is_cut) == isinstance(config.objective, C3po)
    assert kept[2] == 0  # the judge failed
    assert kept[-3:] == lengths[-3:]  # equal rewards
    found, totals = process.submit(gradients, chosen_of(rows), config=config, has_reference=has_reference).result()
    slow = slow_gradient(rows, config)
    assert furthest(found, slow.gradient) < 2e-5  # what float32 rounds of the smallest; 5e-6 here
    assert totals["loss"] == pytest.approx(slow.loss, rel=1e-5)
    assert totals["clipped"] == slow.num_clipped > 4
    assert totals["tokens"] == slow.num_tokens == sum(kept)
    assert totals["kl"] == pytest.approx(slow.kl if has_reference else 0.0, rel=1e-4)


@pytest.fixture(scope="module")
def whole(process) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Gradient and sums of STEP in one micro-batch."""
    return process.submit(gradients, chosen_step(), config=config_of()).result()


def chosen_step(**values: object) -> list[Chosen]:
    return chosen_of(with_choice(sampled_step(), step=1, config=config_of(**values)))


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch_tokens", [16, 30, 64])
@pytest.mark.parametrize("order", [1, -1])
def test_neither_micro_batches_nor_the_order_of_responses_change_the_gradient(
    process, whole, micro_batch_tokens: int, order: int
) -> None:
    chosen = chosen_step()[::order]
    found, totals = process.submit(
        gradients, chosen, config=config_of(), micro_batch_tokens=micro_batch_tokens
    ).result()
    assert furthest(found, whole[0]) < 1e-5
    assert totals == pytest.approx(whole[1], rel=1e-5)


@pytest.mark.slow
def test_a_longer_neighbour_that_weighs_nothing_changes_no_gradient(process) -> None:
    config = config_of(balance_coefficient=0.0, z_coefficient=0.0)
    longer = Chosen([1] * 20, [2] * 30, [-1.0] * 30, advantage=1.0, weight=0.0)
    alone, _ = process.submit(gradients, chosen_step(), config=config).result()
    padded, _ = process.submit(gradients, [longer, *chosen_step()], config=config).result()
    assert furthest(padded, alone) < 1e-5


@pytest.mark.slow
def test_without_beta_a_reference_model_changes_no_bit_of_the_gradient(process) -> None:
    config = config_of(kl_coefficient=0.0)
    without, none = process.submit(gradients, chosen_step(), config=config, has_reference=False).result()
    with_one, some = process.submit(gradients, chosen_step(), config=config).result()
    assert all(torch.equal(value, with_one[name]) for name, value in without.items())
    assert none["kl"] == 0.0 < some["kl"]
    assert none["loss"] == some["loss"]


@pytest.mark.slow
def test_a_group_of_equal_rewards_has_no_policy_gradient(process) -> None:
    config = config_of(kl_coefficient=0.0, entropy_coefficient=0.0, balance_coefficient=0.0, z_coefficient=0.0)
    rows = with_choice(sampled_step().slice(9), step=1, config=config)  # the last group alone
    assert rows["kept_tokens"].to_pylist() == [5, 1, 3]
    found, totals = process.submit(gradients, chosen_of(rows), config=config, has_reference=False).result()
    assert all(not gradient.any() for gradient in found.values())
    assert totals["loss"] == 0.0


# ---------------------------------------------------------------- a step of a run


@pytest.mark.slow
def test_a_run_without_beta_loads_no_reference_and_takes_the_step_that_it_would_with_one(
    process, tiny_model: Path, tmp_path: Path
) -> None:
    rows = with_choice(sampled_step(), step=1, config=config_of())
    plain, extra, usual = (
        process.submit(
            update, rows, config=config_of(kl_coefficient=beta), start=tiny_model, out=tmp_path / name, adds_reference=adds
        ).result()
        for name, beta, adds in (("plain", 0.0, False), ("extra", 0.0, True), ("usual", 0.3, False))
    )  # fmt: skip
    assert not plain.has_reference
    assert usual.has_reference
    assert plain.moved > 1e-4
    assert all(torch.equal(one, two) for one, two in zip(plain.weights, extra.weights, strict=True))
    assert plain.values["policy/kl"] == 0.0


@pytest.mark.slow
def test_a_step_in_which_no_verdict_counts_changes_no_weight_and_is_told_and_counted(
    process, tiny_model: Path, tmp_path: Path
) -> None:
    failed = [{**row, "status": "judge_error", "score": 0.0} for row in sampled_step().to_pylist()]
    config = config_of()
    rows = with_choice(pa.Table.from_pylist(failed, schema=sampled_step().schema), step=1, config=config)
    done = process.submit(update, rows, config=config, start=tiny_model, out=tmp_path / "arm").result()
    assert (done.values, done.moved, done.skipped) == ({}, 0.0, 1)
    assert done.messages == ["step 1: no response enters the loss, so the weights stay as they are"]


# ---------------------------------------------------------------- what enters it


def test_a_response_enters_as_far_as_it_is_kept_and_one_of_which_nothing_is_does_not() -> None:
    rows = rollouts(
        [
            {"num_tokens": 4, "kept_tokens": 4, "advantage": 1.5, "weight": 0.25},
            {"num_tokens": 3, "kept_tokens": 0, "advantage": -2.0},
            {"num_tokens": 4, "kept_tokens": 1, "advantage": -0.5, "weight": 0.125, "prompt_ids": [5, 6]},
        ]
    )
    assert chosen_of(rows) == [
        Chosen([1, 2, 3], [10, 11, 12, 13], [-0.5, -1.0, -1.5, -2.0], 1.5, 0.25),
        Chosen([5, 6], [10], [-0.5], -0.5, 0.125),
    ]
    assert [one.num_tokens for one in chosen_of(rows)] == [3 + 4, 2 + 1]


def test_sums_add_up_and_a_new_name_begins_at_nothing() -> None:
    sums = {"a": 1.0}
    add(sums, {"a": 2.0, "b": 4.0})
    assert sums == {"a": 3.0, "b": 4.0}
