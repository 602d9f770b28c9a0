"""Where and by what a result was made: code version, package versions, hardware, and how torch computed. Recorded, no part of identity."""

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from stages.records.machine import machine_kind, processor

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "torch",
    "deepspeed",
    "prefect",
    "mlflow",
    "datasets",
    "pyarrow",
    "transformers",
    "tokenizers",
    "safetensors",
    "math-verify",
    "numpy",
    "scipy",
    "rensa",
)


@functools.cache
def code_version() -> dict[str, str | bool | None]:
    """Git commit of the source, and whether the tree differs from it; None outside a checkout."""
    commit = _git("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain")) if commit else None}


def _git(*arguments: str) -> str | None:
    try:
        trusted = ["-c", f"safe.directory={ROOT}"]  # the source may be another user's; we run it already
        done = subprocess.run(
            ["git", *trusted, "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a number."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def hardware(*, device: str) -> dict[str, Any]:
    """Processor and kind of machine (`records.machine`), cores, memory, operating system, Python. `device` is torch's: cpu or cuda."""
    cpu = processor()
    return {
        "processor": cpu.name,
        "vendor": cpu.vendor,
        "family": cpu.family,
        "model": cpu.model,
        "stepping": cpu.stepping,
        "instruction_sets": list(cpu.instruction_sets),
        "level": cpu.level,
        "kind": machine_kind(device),
        "cores": os.cpu_count() or 1,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def arithmetic(*, device: str) -> dict[str, Any] | None:
    """What torch computed with in this process: kernel, instructions, threads, builds; None where the stage needed no torch."""
    if "torch" not in sys.modules:
        return None
    import torch

    from ring_model.products import FORCED, matmul_kernel

    return {
        "kernel": matmul_kernel(),
        "is_kernel_forced": FORCED in os.environ,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "mkl": _built_with(r"Math Kernel Library Version (\S+)"),
        "onednn": _built_with(r"MKL-DNN (v\S+)"),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "cuda": torch.version.cuda,
    }


def _built_with(pattern: str) -> str | None:
    import torch

    found = re.search(pattern, torch.__config__.show())
    return found[1] if found else None
