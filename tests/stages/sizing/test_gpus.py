"""GPUs by name."""

import pytest

from stages.sizing.gpus import GPUS, find_gpu, own_gpu


@pytest.mark.parametrize(
    ("written", "name"), [("h800", "H800"), ("RTX 4090", "RTX4090"), ("a100-80gb", "A100-80GB"), ("L40s", "L40S")]
)
def test_a_gpu_is_found_as_people_write_it(written: str, name: str) -> None:
    assert find_gpu(written) is GPUS[name]


def test_an_unknown_gpu_is_refused_with_the_nearest_and_the_list() -> None:
    with pytest.raises(ValueError, match=r"--gpu A100: did you mean A100-80GB\? known are H800, H100, .*--gpu-memory"):
        find_gpu("A100")


def test_the_two_that_compute_alike_are_alike() -> None:
    one, other = GPUS["H100"], GPUS["H800"]
    assert (
        (one.memory, one.flops, one.bandwidth) == (other.memory, other.flops, other.bandwidth) == (80e9, 989e12, 3350e9)
    )


def test_another_gpu_has_the_figures_that_are_given() -> None:
    found = own_gpu("mine", memory_gb=10, tflops=2, bandwidth_gb=3)
    assert (found.name, found.memory, found.flops, found.bandwidth) == ("mine", 10e9, 2e12, 3e9)
    with pytest.raises(ValueError, match="--gpu mine"):
        own_gpu("mine", memory_gb=10, tflops=2, bandwidth_gb=None)
    assert own_gpu("H100", memory_gb=94, tflops=None, bandwidth_gb=None).memory == 94e9
    with pytest.raises(ValueError, match="--gpu-memory = 0 must be above 0"):
        own_gpu("H100", memory_gb=0, tflops=None, bandwidth_gb=None)
