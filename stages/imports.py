"""Importing what takes seconds: PyTorch, Prefect, MLflow."""

import contextlib
import gc
from collections.abc import Generator


@contextlib.contextmanager
def heavy_imports() -> Generator[None]:
    """Import without the collector of cycles, which finds nothing meanwhile and takes a quarter of the CPU seconds (measured).

    What was imported stays, so no later collection looks through it either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
