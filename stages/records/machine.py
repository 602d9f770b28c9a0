"""Which machine made a result: its processor, its kind, and a line that says so. Free of torch, so that any command may ask.

A machine's *kind* names what decides the bytes of float32 arithmetic and can be known without doing any: the processor (vendor, family,
model, widest instructions), torch's version, and what the environment forces on the libraries. Which kernel multiplies follows
from these. Machines of one kind give the same bytes for the same fingerprint and Runtime; other kinds need not.
"""

import functools
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
GPUS = Path("/proc/driver/nvidia/gpus")
INSTRUCTION_SETS = tuple(
    "avx2 fma f16c avx512f avx512dq avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 avx_vnni amx_tile amx_bf16 amx_int8 "
    "asimd asimddp bf16 i8mm sve sve2".split()
)
LEVELS = {  # the widest of which all are there
    "amx": ("amx_tile", "amx_bf16", "avx512f", "avx512dq", "avx512bw", "avx512vl"),
    "avx512": ("avx512f", "avx512dq", "avx512bw", "avx512vl"),
    "avx2": ("avx2", "fma"),
    "sve": ("sve",),
    "neon": ("asimd",),
}
FORCES = (  # of the environment: each makes torch, MKL, oneDNN or numpy compute otherwise than the processor asks for
    "RING_MATMUL",
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "NPY_DISABLE_CPU_FEATURES",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
UNKNOWN = "unknown (made before machines were recorded)"
_VENDORS = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "hygon", "0x41": "arm", "0xc0": "ampere"}
_SHOWN = {"amx": "AVX-512 with AMX", "avx512": "AVX-512", "avx2": "AVX2", "sve": "SVE", "neon": "NEON"}


@dataclass(frozen=True, slots=True)
class Processor:
    """What /proc/cpuinfo says of the first processor; numbers are texts, as they stand there."""

    vendor: str
    family: str
    model: str
    stepping: str
    name: str
    instruction_sets: tuple[str, ...]

    @property
    def level(self) -> str:
        """The widest instructions that float32 arithmetic finds: a key of LEVELS, else the architecture."""
        there = set(self.instruction_sets)
        return next((name for name, needed in LEVELS.items() if there.issuperset(needed)), platform.machine())


@functools.cache
def processor(path: Path = CPUINFO) -> Processor:
    """This machine's processor; on a system without /proc, as much as Python knows."""
    lines = path.read_text(encoding="utf-8").partition("\n\n")[0].splitlines() if path.is_file() else []
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = set((said.get("flags") or said.get("Features") or "").split())
    return Processor(
        vendor=said.get("vendor_id") or said.get("CPU implementer") or platform.machine(),
        family=said.get("cpu family") or said.get("CPU architecture") or "?",
        model=said.get("model") or said.get("CPU part") or "?",
        stepping=said.get("stepping") or said.get("CPU revision") or "?",
        name=said.get("model name") or platform.processor() or platform.machine(),
        instruction_sets=tuple(name for name in INSTRUCTION_SETS if name in flags),
    )


def machine_kind(device: str, *, cpu: Processor | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Such as `intel-6-143-amx/torch-2.13.0+cpu`, followed by the GPU where `device` is one, and by what the environment forces."""
    cpu = cpu or processor()
    parts = [
        f"{_VENDORS.get(cpu.vendor, cpu.vendor)}-{cpu.family}-{cpu.model}-{cpu.level}",
        f"torch-{importlib.metadata.version('torch')}",
        *([_gpu()] if device != "cpu" else []),
        *(f"{name}={environment[name]}" for name in FORCES if name in environment),
    ]
    return "/".join(parts)


def _gpu() -> str:
    """Name of the first GPU, as its driver tells; nothing of torch is needed for it."""
    for path in sorted(GPUS.glob("*/information")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return "gpu"


def kind_of(document: Mapping[str, Any]) -> str:
    """The kind of machine on which the result of a manifest was made."""
    return document.get("hardware", {}).get("kind", UNKNOWN)


def machine_line(document: Mapping[str, Any]) -> str:
    """The machine of a manifest in one line: processor, instructions, kernel, threads and ranks, torch; GPU where one computed."""
    hardware = document.get("hardware", {})
    if "kind" not in hardware:
        return hardware.get("processor", UNKNOWN)
    numbers = f"family {hardware['family']} model {hardware['model']} stepping {hardware['stepping']}"
    level = _SHOWN.get(hardware["level"], hardware["level"])
    parts = [f"{hardware['processor']} ({hardware['vendor']} {numbers})", level, *_arithmetic_parts(document)]
    return ", ".join(parts)


def _arithmetic_parts(document: Mapping[str, Any]) -> list[str]:
    done = document["hardware"].get("arithmetic")
    if not done:
        return []  # no torch took part
    kernel = done["kernel"] + (" (RING_MATMUL)" if done["is_kernel_forced"] else "")
    ranks, threads = document.get("ranks", 1), done["threads"]
    work = f"{ranks} x {_counted(threads, 'thread')}" if ranks > 1 else _counted(threads, "thread")
    return [kernel, work, f"torch {done['torch']}", *([done["gpu"]] if done["gpu"] else [])]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def made_elsewhere(documents: Mapping[str, Mapping[str, Any]], *, here: str) -> dict[str, str]:
    """Of the manifests by stage, those of another kind of machine than `here`: stage -> its kind."""
    return {key: kind for key, document in documents.items() if (kind := kind_of(document)) != here}


def elsewhere_line(kinds: Mapping[str, str], *, here: str) -> str:
    """One line on results of other kinds of machines, and what to do if one's own are wanted."""
    by_kind: dict[str, list[str]] = {}
    for key, kind in kinds.items():
        by_kind.setdefault(kind, []).append(key)
    made = "; ".join(f"{', '.join(keys)} on {kind}" for kind, keys in by_kind.items())
    first = next(iter(kinds)).partition("/")
    rerun = f"--rerun {first[0]}" + (f" --arm {first[2]}" if first[2] else "")
    return f"made on another kind of machine: {made} (this one is {here}); `{rerun}` builds it here, as does a RING_HOME of its own"
