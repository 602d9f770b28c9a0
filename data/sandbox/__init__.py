"""Running untrusted Python: a fork server whose children have no network, no other program and nothing of this machine to see."""

from data.sandbox.client import Job, Limits, NoCompilerError, Run, Sandbox, SandboxError, SandboxLostError
from data.sandbox.probes import Probe, Rehearsal, check, rehearse, require_confinement
from data.sandbox.rungs import LADDER, RUNGS, Rung

__all__ = [
    "LADDER",
    "RUNGS",
    "Job",
    "Limits",
    "NoCompilerError",
    "Probe",
    "Rehearsal",
    "Run",
    "Rung",
    "Sandbox",
    "SandboxError",
    "SandboxLostError",
    "check",
    "rehearse",
    "require_confinement",
]
