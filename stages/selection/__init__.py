"""Choice of the SFT checkpoint that RL starts from, and grading of the RL pool by it."""

from stages.selection.run import run

__all__ = ["run"]
