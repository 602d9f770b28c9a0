"""Curation (paper 2.3): raw problems in, verified and decontaminated splits out, a reason for every dropped row."""

from stages.curation.run import run

__all__ = ["run"]
