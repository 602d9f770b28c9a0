"""GPUs that a recipe may be planned for: figures of the makers' data sheets, dense (without structured sparsity).

Sources: NVIDIA's data sheets "H100 Tensor Core GPU" (SXM and PCIe), "H200 Tensor Core GPU", "A100 Tensor Core GPU" (SXM), "L40S", "L4",
"Ada GPU Architecture" (RTX 4090, its appendix A, with float32 accumulation); H800 and H20, sold in China alone, as resellers print
them: the H800 computes as the H100 and has slower links. Sheets that state sparse figures were halved.
"""

import difflib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """What one GPU has."""

    name: str
    memory: float  # bytes
    flops: float  # bfloat16 FLOP/s, dense
    bandwidth: float  # of its memory, bytes/s


def _gpu(name: str, memory_gb: float, tflops: float, bandwidth_gb: float) -> Gpu:
    return Gpu(name, memory_gb * 1e9, tflops * 1e12, bandwidth_gb * 1e9)


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _gpu("H800", 80, 989, 3350),
        _gpu("H100", 80, 989, 3350),
        _gpu("H100-PCIe", 80, 756, 2000),
        _gpu("H200", 141, 989, 4800),
        _gpu("H20", 96, 148, 4000),
        _gpu("A100-80GB", 80, 312, 2039),
        _gpu("A100-40GB", 40, 312, 1555),
        _gpu("L40S", 48, 362, 864),
        _gpu("L4", 24, 121, 300),
        _gpu("RTX4090", 24, 165.2, 1008),
    )
}
"""By name; memory in decimal gigabytes, as sheets write it."""


def find_gpu(name: str) -> Gpu:
    """The GPU of that name, written as people write it (`rtx 4090`, `a100-80gb`).

    Raises:
        ValueError: there is none; the nearest and the list are told.

    """
    plain, known = _plain(name), {_plain(one): gpu for one, gpu in GPUS.items()}
    if plain in known:
        return known[plain]
    longer = [one for one in known if one.startswith(plain)]
    near = longer or difflib.get_close_matches(plain, known, n=1)
    hint = f"did you mean {known[near[0]].name}? " if near else ""
    raise ValueError(
        f"--gpu {name}: {hint}known are {', '.join(GPUS)}; of another give --gpu-memory, --gpu-tflops and --gpu-bandwidth"
    )


def own_gpu(name: str, *, memory_gb: float | None, tflops: float | None, bandwidth_gb: float | None) -> Gpu:
    """One that the table does not hold, by its three figures; or one of the table with some of them changed.

    Raises:
        ValueError: a figure is not above 0, or one is missing for a GPU that is not in the table.

    """
    given = {"--gpu-memory": memory_gb, "--gpu-tflops": tflops, "--gpu-bandwidth": bandwidth_gb}
    for option, value in given.items():
        if value is not None and value <= 0:
            raise ValueError(f"{option} = {value:g} must be above 0")
    if memory_gb and tflops and bandwidth_gb:
        return _gpu(name, memory_gb, tflops, bandwidth_gb)
    known = find_gpu(name)
    return Gpu(
        name,
        memory_gb * 1e9 if memory_gb else known.memory,
        tflops * 1e12 if tflops else known.flops,
        bandwidth_gb * 1e9 if bandwidth_gb else known.bandwidth,
    )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
