"""Long-CoT SFT, the supervised training loop it shares with the base stage, and the control arm (`further`)."""

from stages.sft.run import run

__all__ = ["run"]
