"""Hours, by hand."""

from dataclasses import replace

import pytest

from ring_model.configuration import BailingMoeConfig
from ring_model.memory import cache_bytes
from stages.sizing.assumptions import Assumptions
from stages.sizing.gpus import Gpu
from stages.sizing.times import Cluster, decoding_seconds, hours_of, step_seconds, used_parameters
from stages.sizing.work import Drawing, Load
from stages.training.compute import SAMPLING, TRAINING

LITE = BailingMoeConfig()
GPU = Gpu("mine", memory=1e12, flops=1e15, bandwidth=1e12)
ASSUMED = Assumptions(training_efficiency=0.5, decoding_efficiency=0.5, layer_milliseconds=0)
ONE = Drawing(responses=1, prompts=1, prompt_tokens=10, response_tokens=100, rows=1)


def test_training_takes_its_flops_over_the_peak_times_the_efficiency() -> None:
    load = Load("sft", flops={TRAINING: 9_000_000 * 10**15})
    hours = hours_of(load, LITE, Cluster(GPU, 5), ASSUMED, checkpoints_layers=False)
    assert hours.total == pytest.approx(9_000_000 / (5 * 0.5) / 3600)
    again = hours_of(load, LITE, Cluster(GPU, 5), ASSUMED, checkpoints_layers=True)
    assert again.training == pytest.approx(hours.training * 4 / 3)


def test_a_step_of_one_row_reads_what_a_token_uses_and_its_cache() -> None:
    embedding = LITE.parameters_by_part()["embedding"]
    used = LITE.num_active_parameters - embedding
    assert used_parameters(LITE, rows=1) == pytest.approx(used)
    seconds = step_seconds(ONE, LITE, Cluster(GPU, 1), ASSUMED, rows=1, sharing=1)
    assert seconds == pytest.approx((2 * used + cache_bytes(LITE, num_tokens=60)) / (1e12 * 0.5))


def test_many_rows_use_every_expert() -> None:
    assert used_parameters(LITE, rows=1000) == pytest.approx(
        LITE.num_parameters - LITE.parameters_by_part()["embedding"]
    )


def test_a_step_is_never_faster_than_its_layers_can_be_called() -> None:
    slow = replace(ASSUMED, layer_milliseconds=100)
    assert step_seconds(ONE, LITE, Cluster(GPU, 1), slow, rows=1, sharing=1) == pytest.approx(2.8)


def test_twice_the_gpus_take_half_the_time_while_all_rows_are_filled() -> None:
    many = replace(ONE, responses=1 << 16, prompts=1 << 12, rows=64)
    one, two = (decoding_seconds(many, LITE, Cluster(GPU, count), ASSUMED) for count in (4, 8))
    assert one == pytest.approx(2 * two)


def test_decoding_that_is_bound_by_arithmetic_takes_its_flops() -> None:
    fast = Gpu("mine", memory=1e12, flops=1e12, bandwidth=1e18)
    many = replace(ONE, responses=640, prompts=640, rows=64)
    load = Load("rl", drawings=(many,), flops={SAMPLING: 0})
    seconds = hours_of(load, LITE, Cluster(fast, 1), ASSUMED, checkpoints_layers=False).sampling * 3600
    # A token takes at least two FLOPs for each active parameter but the embedding's.
    least = 2 * (LITE.num_active_parameters - LITE.parameters_by_part()["embedding"]) * 640 * 100 / (1e12 * 0.5)
    assert least < seconds < 1.2 * least
