"""Held-out evaluation of the chosen SFT checkpoint and every arm (paper 4.1.2). The stage is `run`; the rest counts without torch."""
