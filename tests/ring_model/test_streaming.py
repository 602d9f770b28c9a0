"""A response that is read along is the one that `generate` hands out whole."""

import math

import pytest
import torch

from ring_model.generation import generate
from ring_model.modelling import BailingMoe
from ring_model.policy import pack_rows, response_logprobs
from ring_model.streaming import Manner, Speaker

PROMPTS = [[5, 1, 36], [3], [11, 4, 30, 8, 2, 2, 9], [7] * 12]


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (0.7, 0.8)])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_tokens_are_those_of_generate(model: BailingMoe, prompt, temperature, top_p) -> None:
    settings = {"max_new_tokens": 70, "temperature": temperature, "top_p": top_p}
    (whole,) = generate(model, [prompt], seeds=[11], eos_id=0, **settings)
    said = list(Speaker(model).say(prompt, Manner(end_ids=[0], seed=11, **settings)))
    assert [token.id for token in said] == whole.token_ids
    assert [token.logprob for token in said] == pytest.approx(whole.logprobs.tolist(), abs=1e-5)
    assert said[-1].is_end == whole.finished


def test_the_tokens_of_a_variant_are_those_of_generate(variant: BailingMoe) -> None:
    (whole,) = generate(variant, [PROMPTS[2]], seeds=[11], eos_id=0, max_new_tokens=20, temperature=1.0)
    said = Speaker(variant).say(PROMPTS[2], Manner(end_ids=[0], seed=11, max_new_tokens=20, temperature=1.0))
    assert [token.id for token in said] == whole.token_ids


def test_the_most_probable_tokens_are_those_of_a_forward_pass(model: BailingMoe) -> None:
    prompt, speaker = PROMPTS[2], Speaker(model)
    said = list(speaker.say(prompt, Manner(end_ids=[], max_new_tokens=5, num_top=3)))
    rows = pack_rows([prompt], [[token.id for token in said]])
    with torch.no_grad():
        forced = response_logprobs(model, rows).logprobs_M.tolist()
    for token, logprob in zip(said, forced, strict=True):
        assert token.top[0][0] == token.id
        assert token.top[0][1] == pytest.approx(logprob, abs=1e-5)
        values = [value for _, value in token.top]
        assert values == sorted(values, reverse=True)
        assert len(token.top) == 3
    whole = next(speaker.say(prompt, Manner(end_ids=[], max_new_tokens=1, num_top=10**6))).top
    assert math.fsum(math.exp(value) for _, value in whole) == pytest.approx(1.0, abs=1e-5)


def test_a_response_ends_where_the_model_has_no_further_position(model: BailingMoe) -> None:
    room = model.config.max_position_embeddings
    prompt = [3] * (room - 4)
    assert len(list(Speaker(model).say(prompt, Manner(end_ids=[], max_new_tokens=10)))) == 4


def test_a_response_that_was_dropped_leaves_nothing_behind(model: BailingMoe) -> None:
    speaker, manner = Speaker(model), Manner(end_ids=[], max_new_tokens=8)
    alone = [token.id for token in speaker.say(PROMPTS[0], manner)]
    dropped = speaker.say(PROMPTS[3], manner)
    next(dropped)
    next(dropped)
    assert [token.id for token in speaker.say(PROMPTS[0], manner)] == alone


@pytest.mark.parametrize(
    ("prompt", "changes", "said"),
    [
        ([], {}, "at least one"),
        ([3] * 10_000, {}, r"the prompt has 10,000 tokens, prompt and response together may have"),
        ([3], {"max_new_tokens": 0}, "max_new_tokens = 0"),
        ([3], {"temperature": -1.0}, "temperature = -1.0"),
        ([3], {"temperature": float("nan")}, "temperature = nan"),
        ([3], {"top_p": 0.0}, "top_p = 0.0"),
        ([3], {"seed": -1}, "seed = -1"),
    ],
)
def test_what_cannot_be_said_is_refused(model: BailingMoe, prompt, changes, said) -> None:
    with pytest.raises(ValueError, match=said):
        Speaker(model).say(prompt, Manner(**{"end_ids": [0], "max_new_tokens": 4, **changes}))
