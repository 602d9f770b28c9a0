"""The gradient of a step: against a slow one in float64, and however the step is cut, ordered and padded."""

import itertools
import math
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
from ring_model.generation import generate
from ring_model.modelling import BailingMoe
from ring_model.policy import pack_rows, response_logprobs
from stages.config import PRESETS, Objective, RlConfig
from stages.rl.samples import with_choice, with_columns
from stages.rl.update import Chosen, add, chosen_of
from tests.stages.conftest import arm_config
from tests.stages.rl import slow_step
from tests.stages.rl.one_rank import CONFIG, LOADS, gradients, older_policy, policy, reference, update
from tests.stages.rl.scripted import rollouts

TEMPERATURE = 0.8
MOVES = 0.03  # of every weight since the step began: ratios are far from 1, on either side
PARTS = {
    "kl_coefficient": 0.3,
    "entropy_coefficient": 0.2,
    "balance_coefficient": 0.1,
    "z_coefficient": 0.05,
    "advantage_epsilon": 0.01,
}
TWO_RANKS = {"token_budget": 20, "budget_scope": "rank", "budget_ranks": 2}
ENDS = (3, 8, 11, 20)  # ids that end a sentence
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
    objective = Objective.model_validate({**TWO_RANKS, **PARTS, **values})
    return arm_config(samples_per_prompt=3, sampling=sampling).model_copy(update={"objective": objective})


def sampled_step() -> pa.Table:
    """STEP as a sampler gave it whose probabilities differ by up to a factor of two from the trainer's."""
    draw, models, rows = random.Random(5), (policy(), reference()), []
    for group, (prompt_length, responses) in enumerate(STEP):
        prompt = [draw.randrange(1, CONFIG.vocab_size) for _ in range(prompt_length)]
        for number, (length, status) in enumerate(responses):
            tokens = [draw.randrange(1, CONFIG.vocab_size) for _ in range(length)]
            own, other = (logprobs_of(model, prompt, tokens) for model in models)
            rows.append(
                {
                    "group": group, "sample": number, "budget_rank": group % 2, "prompt_ids": prompt, "token_ids": tokens,
                    "logprobs": [logprob + draw.uniform(-0.6, 0.6) for logprob in own], "reference_logprobs": other,
                    "num_tokens": length, "status": status,
                }
            )  # fmt: skip
    return rollouts(rows)


def logprobs_of(model: BailingMoe, prompt: list[int], tokens: list[int]) -> list[float]:
    with torch.no_grad():
        return response_logprobs(model, pack_rows([prompt], [tokens]), temperature=TEMPERATURE).logprobs_M.tolist()


WEIGHTS = {  # of a token of a response of n, of N responses with T tokens in all
    "budget": lambda n, N, T: 1 / 40,
    "response_mean": lambda n, N, T: 1 / (N * n),
    "token_mean": lambda n, N, T: 1 / T,
    "constant": lambda n, N, T: 1 / (N * 12),
}  # fmt: skip
KEPT = {  # M(k)
    "none": lambda k, _: 1.0,
    "tis": lambda k, tis: min(k, tis.cap),
    "icepop": lambda k, icepop: k if icepop.low <= k <= icepop.high else 0.0,
}


def slow_gradient(rows: pa.Table, config: RlConfig, *, moves: float | None) -> slow_step.Slow:
    """Of the rows' choice nothing is taken but how many tokens are kept."""
    records, objective = rows.to_pylist(), config.objective
    taken = [row["num_tokens"] for row in records if row["kept_tokens"]]
    for _, group in itertools.groupby(records, key=lambda row: row["group"]):
        of_group = list(group)
        rewards = [None if row["status"] == "judge_error" else float(row["status"] == "correct") for row in of_group]
        found = (
            slow_step.centred(rewards)
            if objective.advantage == "centred"
            else slow_step.advantages(rewards, objective.advantage_epsilon)
        )
        for row, advantage in zip(of_group, found, strict=True):
            row["advantage"] = advantage
            row["weight"] = WEIGHTS[objective.weights](row["num_tokens"], len(taken), sum(taken))
    settings = slow_step.Settings(
        beta=objective.kl_coefficient,
        a_ent=objective.entropy_coefficient,
        a_bal=objective.balance_coefficient,
        a_z=objective.z_coefficient,
        temperature=TEMPERATURE,
        eps_low=objective.clip_low,
        eps_high=objective.clip_high,
        unit=objective.ratio,
        ends=ENDS,
        kept=lambda k: KEPT[objective.mismatch.kind](k, objective.mismatch),
    )  # fmt: skip
    old = policy() if moves is None else older_policy(moves)
    models = [double_weights(model) for model in (policy(), old, reference())]
    return slow_step.step(*models, records, config=CONFIG, loads=LOADS, settings=settings)


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
@pytest.mark.parametrize("moves", [None, MOVES])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"mismatch": "icepop"},
        {"mismatch": "tis", "ratio": "sentence"},
        {"kl_coefficient": 0.0, "entropy_coefficient": 0.0},
        *({"kind": kind, "clip_low": 0.05, "clip_high": 0.07} for kind in PRESETS),
    ],
    ids=str,
)
def test_the_gradient_of_an_update_is_that_of_a_loop_over_tokens_in_float64(process, values, moves) -> None:
    config = config_of(**values)
    rows = with_choice(sampled_step(), step=1, config=config)
    kept, lengths = rows["kept_tokens"].to_pylist(), rows["num_tokens"].to_pylist()
    assert kept[2] == 0  # the judge failed
    assert sum(0 < some < whole for some, whole in zip(kept, lengths, strict=True)) == (
        config.objective.weights == "budget"
    )
    assert kept[-3:] == ([0, 0, 0] if config.objective.zero_groups == "leave_out" else lengths[-3:])
    found, sums, _ = process.submit(
        gradients, chosen_of(rows, update=1), config=config, moves=moves, ends=ENDS
    ).result()
    slow = slow_gradient(rows, config, moves=moves)
    assert furthest(found, slow.gradient) < 2e-5  # what float32 rounds of the smallest
    assert sums["loss"] == pytest.approx(slow.loss, rel=1e-5)
    assert sums["clipped"] == slow.num_clipped
    assert (slow.num_clipped > 4) == (moves is not None)
    assert sums["tokens"] == slow.num_tokens == sum(kept)
    assert sums["kl"] == pytest.approx(slow.kl if config.objective.kl_coefficient else 0.0, rel=1e-4)


# ---------------------------------------------------------------- another number format


def sampled_by(dtype: torch.dtype) -> pa.Table:
    """Four prompts of three responses, as a sampler of the policy's own weights draws them whose large products are of this format."""
    draw, model = random.Random(6), policy()
    model.compute_dtype = dtype
    prompts = [
        [draw.randrange(1, CONFIG.vocab_size) for _ in range(length)] for length in (4, 2, 6, 3) for _ in range(3)
    ]
    made = generate(model, prompts, seeds=range(12), max_new_tokens=12, temperature=TEMPERATURE, eos_id=0)
    return rollouts(
        [
            {
                "group": number // 3, "sample": number % 3, "budget_rank": number // 3 % 2, "prompt_ids": prompt,
                "token_ids": one.token_ids, "logprobs": one.logprobs.tolist(), "num_tokens": len(one.token_ids),
                "reference_logprobs": logprobs_of(reference(), prompt, one.token_ids),
                "status": "wrong" if number % 3 else "correct",
            }
            for number, (prompt, one) in enumerate(zip(prompts, made, strict=True))
        ]
    )  # fmt: skip


def log_k_of(rows: pa.Table) -> list[float]:
    """Of every token that is kept, the trainer's log-probability less the sampler's."""
    return [
        own - drawn
        for row in rows.to_pylist()
        if row["kept_tokens"]
        for own, drawn in zip(
            logprobs_of(policy(), row["prompt_ids"], row["token_ids"][: row["kept_tokens"]]),
            row["logprobs"][: row["kept_tokens"]],
            strict=True,
        )
    ]


@pytest.mark.slow
def test_a_sampler_of_the_same_numbers_does_not_differ(process) -> None:
    config = config_of()
    rows = with_choice(sampled_by(torch.float32), step=1, config=config)
    *_, figures = process.submit(gradients, chosen_of(rows, update=1), config=config).result()
    assert figures["mismatch/max_abs_difference"] < 1e-5
    assert figures["mismatch/effective_share"] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mismatch", "rejects"),
    [
        ({"kind": "none"}, lambda k: False),
        ({"kind": "tis", "cap": 1.01}, lambda k: False),
        ({"kind": "icepop", "low": 0.99, "high": 1.01}, lambda k: not 0.99 <= k <= 1.01),
    ],
)
def test_a_sampler_that_computes_in_bfloat16_shows_and_is_corrected_token_by_token(process, mismatch, rejects) -> None:
    config = config_of(mismatch=mismatch)
    rows = with_choice(sampled_by(torch.bfloat16), step=1, config=config)
    found, sums, figures = process.submit(gradients, chosen_of(rows, update=1), config=config).result()
    log_k = log_k_of(rows)
    assert len(log_k) == sums["tokens"] == 40
    ks = [math.exp(one) for one in log_k]
    assert figures["mismatch/mean_abs_difference"] == pytest.approx(sum(map(abs, log_k)) / 40, rel=1e-3)
    assert figures["mismatch/mean_abs_difference"] > 1e-3
    assert figures["mismatch/max_abs_difference"] == pytest.approx(max(map(abs, log_k)), rel=1e-3)
    assert figures["mismatch/effective_share"] == pytest.approx(sum(ks) ** 2 / (40 * sum(k * k for k in ks)), rel=1e-6)
    rejected = sum(map(rejects, ks))
    assert figures["mismatch/rejected_share"] == rejected / 40
    assert (2 <= rejected <= 38) == (mismatch["kind"] == "icepop")
    slow = slow_gradient(rows, config, moves=None)
    assert furthest(found, slow.gradient) < 2e-5  # what float32 rounds of the smallest
    uncorrected = slow_gradient(rows, config_of(), moves=None)
    assert (furthest(found, uncorrected.gradient) > 1e-3) == (mismatch["kind"] != "none")


# ---------------------------------------------------------------- how it is cut


@pytest.fixture(scope="module")
def whole(process) -> tuple[dict[str, Tensor], dict[str, float], dict[str, float]]:
    """Gradient, sums and mismatch of STEP in one micro-batch."""
    return process.submit(gradients, chosen_step(), config=config_of(), moves=MOVES).result()


def chosen_step(**values: object) -> list[Chosen]:
    return chosen_of(with_choice(sampled_step(), step=1, config=config_of(**values)), update=1)


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch_tokens", [16, 30, 64])
@pytest.mark.parametrize("order", [1, -1])
def test_neither_micro_batches_nor_the_order_of_responses_change_the_gradient(
    process, whole, micro_batch_tokens: int, order: int
) -> None:
    chosen = chosen_step()[::order]
    found, *figures = process.submit(
        gradients, chosen, config=config_of(), micro_batch_tokens=micro_batch_tokens, moves=MOVES
    ).result()
    assert furthest(found, whole[0]) < 1e-5
    assert figures == [pytest.approx(one, rel=1e-5) for one in whole[1:]]


@pytest.mark.slow
def test_a_longer_neighbour_that_weighs_nothing_changes_no_gradient(process) -> None:
    config = config_of(balance_coefficient=0.0, z_coefficient=0.0)
    longer = Chosen("math", [1] * 20, [2] * 30, [-1.0] * 30, [-1.0] * 30, advantage=1.0, weight=0.0)
    alone, *_ = process.submit(gradients, chosen_step(), config=config).result()
    padded, *_ = process.submit(gradients, [longer, *chosen_step()], config=config).result()
    assert furthest(padded, alone) < 1e-5


@pytest.mark.slow
def test_a_group_of_equal_rewards_has_no_policy_gradient(process) -> None:
    config = config_of(kl_coefficient=0.0, entropy_coefficient=0.0, balance_coefficient=0.0, z_coefficient=0.0)
    rows = with_choice(sampled_step().slice(9), step=1, config=config)  # the last group alone
    assert rows["kept_tokens"].to_pylist() == [5, 1, 3]
    found, totals, _ = process.submit(gradients, chosen_of(rows, update=1), config=config).result()
    assert all(not gradient.any() for gradient in found.values())
    assert totals["loss"] == 0.0


# ---------------------------------------------------------------- a step of a run


@pytest.mark.slow
def test_two_updates_from_one_batch_are_two_steps_on_disjoint_halves(process, tiny_model: Path, tmp_path: Path) -> None:
    bare = {name: 0.0 for name in PARTS if name.endswith("_coefficient")}
    two = config_of(**bare, budget_scope="global", token_budget=12, updates_per_batch=2)
    sampled = with_columns(sampled_step().slice(0, 9), budget_rank=[0] * 9)
    rows = with_choice(sampled, step=1, config=two)
    taken = {update: chosen_of(rows, update=update) for update in (1, 2)}
    assert [sum(len(one.token_ids) for one in chosen) for chosen in taken.values()] == [12, 12]
    first = with_columns(rows, update=[1 if update == 1 else 0 for update in rows["update"].to_pylist()])
    both, alone = (
        process.submit(update, table, config=config, start=tiny_model, out=tmp_path / name).result()
        for name, table, config in (("both", rows, two), ("alone", first, two))
    )
    assert (both.skipped, alone.skipped) == (0, 0)
    assert both.moved > alone.moved > 1e-4


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


@pytest.mark.slow
def test_routers_that_are_frozen_stay_to_the_bit_and_all_else_moves(process, tiny_model: Path, tmp_path: Path) -> None:
    config, rows = config_of(), with_choice(sampled_step(), step=1, config=config_of())
    frozen = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"freeze_router": True})})
    still, usual = (
        process.submit(update, rows, config=one, start=tiny_model, out=tmp_path / name).result()
        for name, one in (("frozen", frozen), ("usual", config))
    )
    assert still.still == [f"layers.{layer}.mlp.gate.weight" for layer in range(1)]
    assert usual.still == []
    assert still.values["router/z_loss"] == usual.values["router/z_loss"]


# ---------------------------------------------------------------- what enters it


def test_a_response_enters_as_far_as_it_is_kept_and_one_of_which_nothing_is_does_not() -> None:
    rows = rollouts(
        [
            {"num_tokens": 4, "kept_tokens": 4, "advantage": 1.5, "weight": 0.25, "update": 1},
            {"num_tokens": 3, "kept_tokens": 0, "advantage": -2.0},
            {"num_tokens": 4, "kept_tokens": 1, "advantage": -0.5, "weight": 0.125, "prompt_ids": [5, 6], "update": 1},
            {
                "num_tokens": 2,
                "kept_tokens": 2,
                "advantage": 1.0,
                "weight": 0.5,
                "update": 2,
                "reference_logprobs": [-3.0, -4.0],
            },
        ]
    )
    assert chosen_of(rows, update=1) == [
        Chosen("math", [1, 2, 3], [10, 11, 12, 13], [-0.5, -1.0, -1.5, -2.0], [], 1.5, 0.25),
        Chosen("math", [5, 6], [10], [-0.5], [], -0.5, 0.125),
    ]
    assert chosen_of(rows, update=2) == [Chosen("math", [1, 2, 3], [10, 11], [-0.5, -1.0], [-3.0, -4.0], 1.0, 0.5)]
    assert chosen_of(rows, update=3) == []
    assert [one.num_tokens for one in chosen_of(rows, update=1)] == [3 + 4, 2 + 1]


def test_sums_add_up_and_a_new_name_begins_at_nothing() -> None:
    sums = {"a": 1.0}
    add(sums, {"a": 2.0, "b": 4.0})
    assert sums == {"a": 3.0, "b": 4.0}
