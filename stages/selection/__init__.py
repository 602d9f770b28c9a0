"""Entropy-guided choice of the SFT checkpoint, and grading of the RL pool by it."""

from stages.selection.run import run

__all__ = ["run"]
