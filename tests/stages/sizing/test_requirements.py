"""What fits, what does not, and what to change."""

from dataclasses import replace

import pytest

from stages.recipe import load_recipe, recipe_names
from stages.sizing.advice import Settings
from stages.sizing.assumptions import Assumptions
from stages.sizing.gpus import GPUS, Gpu
from stages.sizing.requirements import RL, SFT, planned_model, requirements, share
from stages.sizing.times import Cluster

LITE = load_recipe("ring-lite").recipe
ASSUMED = Assumptions()


def needs(name: str = "H800", count: int = 256, **options: object):
    return requirements(LITE, Cluster(GPUS[name], count), ASSUMED, zero_stage=1, data_dir=None, **options)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_planned(name: str) -> None:
    found = requirements(load_recipe(name).recipe, Cluster(GPUS["H200"], 8), ASSUMED, zero_stage=None, data_dir=None)
    assert all(hours.total >= 0 for hours in found.hours)
    assert all(fit.shares[0].peak > 0 for fit in found.fits.values())


def test_what_the_float32_design_could_not_do_is_found() -> None:
    fits = needs().fits
    assert not fits[SFT].fits
    assert not fits[RL].fits
    assert fits[RL].shares[1].stays["reference model"] == 2 * 16_801_974_272


def test_settings_that_are_advised_fit_and_no_single_one_of_them_can_be_left_out() -> None:
    found = needs()
    fit = found.fits[RL]
    assert fit.way is not None
    assert fit.way.peak <= fit.limit
    now = Settings(
        zero_stage=1, checkpoint_layers=True, micro_batch_tokens=32_768, max_rows=64, sampler_gpus=1, kl_coefficient=1e-3,
        max_total_tokens=32_768,
    )  # fmt: skip
    names = {"runtime.zero_stage": "zero_stage", "--sampler-gpus": "sampler_gpus", "rl.sampling.max_rows": "max_rows"}
    changes = {names[key]: value for key, value in fit.way.changes.items()}

    def peak(changed: dict) -> int:
        settings = replace(now, **changed)
        return share(LITE, found.model, found.rows, settings, num_gpus=256, samples=True).peak

    assert peak(changes) == fit.way.peak
    for name in changes:
        assert peak({key: value for key, value in changes.items() if key != name}) > fit.limit


def test_settings_that_change_no_result_are_tried_before_those_that_do() -> None:
    for count in (8, 256):
        way = needs("H100", count).fits[RL].way
        assert way is not None
        assert not {"max_total_tokens", "rl.objective.kl_coefficient"} & set(way.changes)


def test_where_nothing_fits_it_is_said_how_many_gpus_would_do() -> None:
    fit = needs("A100-40GB", 2).fits[SFT]
    assert fit.way is None
    assert fit.gpus_needed is not None
    enough = requirements(LITE, Cluster(GPUS["A100-40GB"], fit.gpus_needed), ASSUMED, zero_stage=1, data_dir=None)
    assert enough.fits[SFT].way is not None


def test_more_memory_never_fits_less() -> None:
    peaks = []
    for memory in (24e9, 80e9, 1e12):
        gpu = Gpu("mine", memory, 1e15, 1e12)
        peaks.append(requirements(LITE, Cluster(gpu, 64), ASSUMED, zero_stage=3, data_dir=None).fits[RL].fits)
    assert peaks == sorted(peaks)


def test_the_cache_of_tokens_that_are_there_is_smaller_than_a_dense_one() -> None:
    there, dense = needs().caches.values()
    assert there < dense
    assert there / dense == pytest.approx(13_000 / 32_768)


def test_every_assumption_is_told() -> None:
    names = [one.name for one in needs().stated]
    for name in (
        "sft rows",
        "rl rows",
        "prompt tokens, mean",
        "response tokens, mean",
        "training efficiency",
        "margin",
    ):
        assert name in names


def test_sizes_are_those_of_the_folder_where_it_is_there(tmp_path) -> None:
    model, where = planned_model(LITE.base, vocab_size=None)
    assert round(model.num_parameters / 1e9, 1) == 16.8
    assert "is not here" in where
    replace(model, num_hidden_layers=2).save(tmp_path)
    base = LITE.base.model_copy(update={"checkpoint": str(tmp_path)})
    assert planned_model(base, vocab_size=None)[0].num_hidden_layers == 2


def test_rows_of_a_folder_are_counted_by_split_and_solution(tmp_path) -> None:
    lines = [
        "question,answer,solution,split",
        *(f"{n}?,1,one,train" for n in range(100)),
        *(f"x{n}?,1,,train" for n in range(49)),
        "e?,1,,eval",
    ]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    found = requirements(LITE, Cluster(GPUS["H800"], 8), ASSUMED, zero_stage=1, data_dir=tmp_path).rows
    # 100 with a solution by .5, .47, .02, .01; 49 without by .47 and .02
    assert (found.sft, found.rl, found.probe) == (50, 47 + 47, 2 + 2)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("margin", 1.0, "--margin = 1 must be at least 0 and below 1"),
        ("training_efficiency", 1.5, "--training-efficiency = 1.5 must be at most 1"),
        ("prompt_tokens", 0, "--prompt-tokens = 0 must be above 0"),
        ("sft_rows", -1, "--sft-rows = -1 must be above 0"),
    ],
)
def test_what_no_plan_can_be_made_with_is_refused(option: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Assumptions(**{option: value})


def test_a_stage_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="--zero-stage = 4 must be 0 to 3"):
        requirements(LITE, Cluster(GPUS["H800"], 8), ASSUMED, zero_stage=4, data_dir=None)
