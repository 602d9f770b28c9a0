"""The model that SFT starts from: a released folder, or a stand-in trained on easy problems."""

from stages.base.run import run

__all__ = ["run"]
