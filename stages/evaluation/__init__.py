"""Held-out evaluation of the chosen SFT checkpoint and every arm (paper 4.1.2)."""

from stages.evaluation.run import run

__all__ = ["run"]
