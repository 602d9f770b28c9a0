"""Names of SFT's checkpoints, and what is written of them."""

import re
from pathlib import Path

import pytest

from stages.config import Training
from stages.training.checkpoints import (
    Checkpoint,
    checkpoint_folders,
    checkpoint_name,
    checkpoints_of,
    mean_name,
    planned_checkpoints,
    write_checkpoints,
)


def names_of(num_epochs: int, num_parts: int) -> list[str]:
    """In the order of training."""
    return [
        checkpoint_name(epoch, part=part, num_parts=num_parts)
        for epoch in range(1, num_epochs + 1)
        for part in range(1, num_parts + 1)
    ]


def test_a_whole_epoch_has_its_number_alone() -> None:
    assert [checkpoint_name(epoch) for epoch in (1, 2, 99)] == ["epoch-01", "epoch-02", "epoch-99"]
    assert checkpoint_name(3, part=4, num_parts=4) == "epoch-03"


def test_a_part_of_an_epoch_has_the_whole_ones_before_it_and_its_share_of_the_next() -> None:
    assert names_of(2, 2) == ["epoch-00+1of2", "epoch-01", "epoch-01+1of2", "epoch-02"]
    assert names_of(1, 3) == ["epoch-00+1of3", "epoch-00+2of3", "epoch-01"]
    assert names_of(1, 12)[1:10:8] == ["epoch-00+02of12", "epoch-00+10of12"]


@pytest.mark.parametrize("num_parts", [1, 2, 3, 10, 12, 100])
def test_names_of_checkpoints_sort_in_the_order_of_training(num_parts: int) -> None:
    names = names_of(99, num_parts)
    assert names == sorted(set(names))


def test_a_name_is_one_folder_and_no_mark_that_a_tracker_or_a_shell_minds() -> None:
    assert all(re.fullmatch(r"[a-z0-9+-]+", name) for name in [*names_of(3, 12), mean_name(3)])


def test_what_is_written_of_checkpoints_comes_back_in_the_order_of_training(tmp_path: Path) -> None:
    trained = [
        Checkpoint("epoch-00+1of2", epoch=0.5, steps=2, tokens_trained=20, validation_loss=1.5),
        Checkpoint("epoch-01", epoch=1, steps=5, tokens_trained=40, validation_loss=None),
    ]
    mean = Checkpoint("mean-of-last-2", 1, 5, 40, validation_loss=1.25, mean_of=("epoch-00+1of2", "epoch-01"))
    write_checkpoints(tmp_path, [*trained, mean])
    found = checkpoints_of(tmp_path)
    assert [*found] == ["epoch-00+1of2", "epoch-01", "mean-of-last-2"]
    assert [*found.values()] == [*trained, mean]


def test_the_folders_of_an_artifact_are_those_that_were_trained_and_then_the_mean(tmp_path: Path) -> None:
    for name in (mean_name(2), *reversed(names_of(2, 2)), "something-else"):
        (tmp_path / name).mkdir()
    assert [folder.name for folder in checkpoint_folders(tmp_path)] == [*names_of(2, 2), "mean-of-last-2"]


def test_what_sft_will_keep_is_known_beforehand() -> None:
    training = Training(epochs=2, checkpoints_per_epoch=2, mean_of_last=3)
    assert planned_checkpoints(training) == ["epoch-00+1of2", "epoch-01", "epoch-01+1of2", "epoch-02", "mean-of-last-3"]
    assert planned_checkpoints(Training(epochs=1)) == ["epoch-01"]
