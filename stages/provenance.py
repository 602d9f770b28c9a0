"""Where and by what a result was made: code version, package versions, hardware. Recorded, no part of identity."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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


@functools.cache
def hardware() -> dict[str, str | int]:
    """Processor, cores, memory, kernel, Python."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cores": os.cpu_count() or 1,
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
