"""Samples are those of the trainer's model, whatever shares their batch."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from ring_model import row_cache
from ring_model.generation import Completion, choose_tokens, generate, uniforms
from ring_model.modelling import BailingMoe
from ring_model.policy import pack_rows, response_logprobs

PROMPTS = [[5, 1, 36], [3], [11, 4, 30, 8, 2, 2, 9], [5, 1, 36], [20, 21], [5, 1, 36], [3], [7] * 12]


def sample(model: BailingMoe, prompts=PROMPTS, **changes) -> list[Completion]:
    settings = {"max_new_tokens": 15, "temperature": 1.0, "eos_id": 0, "seeds": range(len(prompts))}
    return generate(model, prompts, **settings | changes)


@pytest.mark.parametrize(("temperature", "max_rows"), [(1.0, 3), (1.0, 128), (0.7, 3)])
def test_logprobs_and_entropies_equal_teacher_forcing(model: BailingMoe, temperature: float, max_rows: int) -> None:
    prompts = PROMPTS * 4
    made = sample(model, prompts, temperature=temperature, max_rows=max_rows)
    assert len({len(c.token_ids) for c in made}) > 3  # rows end at different steps, so slots were refilled
    rows = pack_rows(prompts, [c.token_ids for c in made])
    with torch.no_grad():
        forced = response_logprobs(model, rows, temperature=temperature)
    assert np.abs(np.concatenate([c.logprobs for c in made]) - forced.logprobs_M.numpy()).max() < 1e-5
    assert np.abs(np.concatenate([c.entropies for c in made]) - forced.entropies_M.numpy()).max() < 1e-5


def test_bfloat16_products_decode_as_they_are_teacher_forced(model: BailingMoe) -> None:
    model.compute_dtype = torch.bfloat16
    made = sample(model, max_rows=3)
    with torch.no_grad():
        forced = response_logprobs(model, pack_rows(PROMPTS, [c.token_ids for c in made])).logprobs_M.numpy()
    assert np.abs(np.concatenate([c.logprobs for c in made]) - forced).mean() < 0.05


def test_samples_do_not_depend_on_their_batch_mates(model: BailingMoe) -> None:
    prompts = PROMPTS * 3
    whole = [c.token_ids for c in sample(model, prompts)]
    assert [c.token_ids for c in sample(model, prompts, max_rows=2)] == whole
    alone = [sample(model, [prompt], seeds=[seed])[0].token_ids for seed, prompt in enumerate(prompts[:6])]
    assert alone == whole[:6]


def test_equal_calls_are_equal_to_the_bit(model: BailingMoe) -> None:
    one, two = sample(model, max_rows=3), sample(model, max_rows=3)
    for a, b in zip(one, two, strict=True):
        assert a.token_ids == b.token_ids
        assert a.logprobs.tobytes() == b.logprobs.tobytes()


def test_a_cache_that_grows_and_shrinks_changes_no_bit(model: BailingMoe, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for spare in (64, 1):
        monkeypatch.setattr(row_cache, "SPARE_POSITIONS", spare)
        made.append(sample(model, PROMPTS * 3, max_rows=3, max_new_tokens=40))
    assert max(len(completion.token_ids) for completion in made[0]) == 40
    for wide, narrow in zip(*made, strict=True):
        assert wide.token_ids == narrow.token_ids
        assert wide.logprobs.tobytes() == narrow.logprobs.tobytes()


def test_greedy_takes_the_most_likely_token(model: BailingMoe) -> None:
    for prompt, made in zip(PROMPTS, sample(model, temperature=0.0, max_rows=2), strict=True):
        row = list(prompt)
        for token in made.token_ids:
            with torch.no_grad():
                logits = model.logits(model(torch.tensor([row])).hidden_ND[-1:])
            assert token == int(logits.argmax())
            row.append(token)


def test_a_response_ends_at_its_end_token_or_its_limit(model: BailingMoe) -> None:
    made = sample(model, PROMPTS * 10)
    assert {c.finished for c in made} == {True, False}
    for completion in made:
        assert 0 not in completion.token_ids[:-1]
        assert completion.finished == (completion.token_ids[-1] == 0)
        assert completion.finished or len(completion.token_ids) == 15
        assert len(completion.logprobs) == len(completion.entropies) == len(completion.token_ids)


@pytest.mark.parametrize("max_rows", [3, 128])
def test_a_response_ends_at_the_first_of_several_end_tokens(model: BailingMoe, max_rows: int) -> None:
    one = sample(model, PROMPTS * 10)
    several = sample(model, PROMPTS * 10, eos_id=[0, 5, 9], max_rows=max_rows)
    ends = []
    for whole, made in zip(one, several, strict=True):
        places = [place for place, token in enumerate(whole.token_ids) if token in (0, 5, 9)]
        assert made.token_ids == whole.token_ids[: places[0] + 1 if places else None]
        assert made.finished == bool(places)
        ends += [made.token_ids[-1]] if places else []
    assert set(ends) == {0, 5, 9}


def test_the_limit_of_prompt_and_response_together_is_each_rows_own(model: BailingMoe) -> None:
    limited = sample(model, PROMPTS * 3, max_total_tokens=14)
    for prompt, made, free in zip(PROMPTS * 3, limited, sample(model, PROMPTS * 3), strict=True):
        assert made.token_ids == free.token_ids[: 14 - len(prompt)]


def in_rounds(
    model: BailingMoe, prompts: list[list[int]], most_more: int, *, limit: int = 15, **changes
) -> list[Completion]:
    """Responses of at most `limit` tokens, of which each round makes a few more of those that are not finished."""
    whole = [Completion([], np.zeros(0, np.float32), np.zeros(0, np.float32), finished=False) for _ in prompts]
    room = changes.get("max_total_tokens", 10**6)

    def goes_on(row: int) -> bool:
        length = len(whole[row].token_ids)
        return not whole[row].finished and length < limit and len(prompts[row]) + length < room

    while rows := [row for row in range(len(prompts)) if goes_on(row)]:
        begun = [whole[row].token_ids for row in rows]
        more = sample(
            model,
            [[*prompts[row], *ids] for row, ids in zip(rows, begun, strict=True)],
            seeds=rows,
            num_begun=[len(ids) for ids in begun],
            most_more=most_more,
            max_new_tokens=limit,
            **changes,
        )
        for row, made in zip(rows, more, strict=True):
            assert 1 <= len(made.token_ids) <= most_more
            before = whole[row]
            whole[row] = Completion(
                before.token_ids + made.token_ids,
                np.concatenate([before.logprobs, made.logprobs]),
                np.concatenate([before.entropies, made.entropies]),
                made.finished,
            )
    return whole


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0.7, "max_rows": 3}, {"max_total_tokens": 14}, {"temperature": 0.0}]
)
@pytest.mark.parametrize("most_more", [1, 4, 7])
def test_a_response_that_is_cut_into_rounds_is_the_one_that_is_drawn_at_once(
    model: BailingMoe, most_more: int, changes: dict
) -> None:
    prompts = PROMPTS * 3
    at_once = sample(model, prompts, **changes)
    for cut, made in zip(in_rounds(model, prompts, most_more, **changes), at_once, strict=True):
        assert cut.token_ids == made.token_ids
        assert cut.finished == made.finished
        assert np.abs(cut.logprobs - made.logprobs).max() < 1e-5
        assert np.abs(cut.entropies - made.entropies).max() < 1e-5


@pytest.mark.parametrize("top_p", [1.0, 0.75])
def test_sampled_frequencies_follow_the_distribution(top_p: float) -> None:
    probabilities = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    logits_RV = torch.tensor(np.log(probabilities), dtype=torch.float32).repeat(20000, 1)
    uniform_R = torch.from_numpy(uniforms(np.arange(20000, dtype=np.uint64), np.full(20000, 7, dtype=np.uint64)))
    chosen = choose_tokens(logits_RV, uniform_R=uniform_R, temperature=1.0, top_p=top_p)
    counts = np.bincount(chosen.token_R.numpy(), minlength=5)
    kept = probabilities * (1.0 if top_p == 1.0 else np.array([1, 1, 1, 0, 0]))
    assert counts[kept == 0].sum() == 0
    assert chisquare(counts[kept > 0], 20000 * kept[kept > 0] / kept.sum()).pvalue > 0.001
    assert chosen.logprob_R.exp().numpy() == pytest.approx(probabilities[chosen.token_R.numpy()], rel=1e-5)


def test_uniforms_differ_by_seed_and_position_and_fill_the_interval() -> None:
    seeds, positions = np.meshgrid(np.arange(300, dtype=np.uint64), np.arange(300, dtype=np.uint64))
    values = uniforms(seeds.ravel(), positions.ravel())
    assert len(np.unique(values)) == values.size
    assert values.min() >= 0.0 and values.max() < 1.0
    assert chisquare(np.histogram(values, bins=50, range=(0, 1))[0]).pvalue > 0.001
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1]}, "one seed per prompt"),
        ({"seeds": [-1] * 8}, "every seed"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"temperature": -1.0}, "temperature = -1"),
        ({"top_p": 0.0}, "top_p = 0"),
        ({"max_total_tokens": 2}, "prompt and response together may have 2"),
    ],
)
def test_an_argument_out_of_range_is_named(model: BailingMoe, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(model, **changes)


def test_no_prompts_give_no_completions(model: BailingMoe) -> None:
    assert sample(model, []) == []
