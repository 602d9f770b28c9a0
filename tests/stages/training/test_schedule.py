"""Learning rates of SFT and RL, by hand."""

import math

import pytest

from stages.config import RlOptimizer, Training
from stages.training.schedule import cosine_rate, linear_rate, optimizer_settings


def test_sfts_rate_warms_up_then_follows_a_cosine_to_its_floor() -> None:
    training = Training(learning_rate=1.0, final_learning_rate_share=0.1, warmup_share=0.1, batch_tokens=100)
    rates = [cosine_rate(step, num_steps=20, training=training) for step in range(1, 21)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[10] == pytest.approx(0.1 + 0.9 * 0.5)  # step 11: half of the way from 2 to 20
    assert rates[-1] == pytest.approx(0.1)
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_rls_rate_warms_up_then_follows_a_line_to_its_floor() -> None:
    optimizer = RlOptimizer(learning_rate=1.0, final_learning_rate_share=0.2, warmup_steps=2)
    rates = [linear_rate(step, num_steps=10, optimizer=optimizer) for step in range(1, 11)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[5] == pytest.approx(1 - 0.8 * 4 / 8)  # step 6: half of the way from 2 to 10
    assert rates[-1] == pytest.approx(0.2)


def test_the_papers_rate_is_constant_after_its_warm_up() -> None:
    rates = [linear_rate(step, num_steps=6, optimizer=RlOptimizer()) for step in range(1, 7)]
    assert rates == pytest.approx([1e-6, 2e-6, 3e-6, 3e-6, 3e-6, 3e-6])


def test_adamw_gets_what_the_configuration_states() -> None:
    settings = optimizer_settings(Training(learning_rate=0.5, betas=(0.7, 0.8), weight_decay=0.3, gradient_clip=2.0))
    assert (settings.learning_rate, settings.betas, settings.weight_decay, settings.gradient_clip) == (
        0.5,
        (0.7, 0.8),
        0.3,
        2.0,
    )


def test_the_warm_up_is_rounded_up_to_whole_steps_and_may_be_absent() -> None:
    training = Training(learning_rate=2.0, final_learning_rate_share=0.0, warmup_share=0.15, batch_tokens=100)
    rates = [cosine_rate(step, num_steps=10, training=training) for step in (1, 2, 3, 10)]
    assert rates == pytest.approx([1.0, 2.0, 1.0 + math.cos(math.pi / 8), 0.0])
    none = Training(learning_rate=2.0, final_learning_rate_share=0.5, warmup_share=0.0, batch_tokens=100)
    assert [cosine_rate(step, num_steps=2, training=none) for step in (1, 2)] == pytest.approx([1.5, 1.0])


def test_a_line_without_a_warm_up_falls_from_the_first_step_on() -> None:
    optimizer = RlOptimizer(learning_rate=1.0, final_learning_rate_share=0.5, warmup_steps=0)
    assert [linear_rate(step, num_steps=4, optimizer=optimizer) for step in (1, 2, 4)] == [0.875, 0.75, 0.5]


def test_a_run_shorter_than_its_warm_up_stays_in_it() -> None:
    optimizer = RlOptimizer(learning_rate=1.0, final_learning_rate_share=0.5, warmup_steps=4)
    assert [linear_rate(step, num_steps=3, optimizer=optimizer) for step in (1, 2, 3)] == [0.25, 0.5, 0.75]
