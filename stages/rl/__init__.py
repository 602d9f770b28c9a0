"""Multi-domain reinforcement learning with C3PO (paper 3.2); arms of phases are data."""

from stages.rl.run import run

__all__ = ["run"]
