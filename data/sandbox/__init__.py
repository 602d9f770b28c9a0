"""Running untrusted Python: a fork server whose children have no files, network, exec or signals to others."""

from data.sandbox.client import Job, Limits, Run, Sandbox, SandboxError, SandboxLostError
from data.sandbox.probes import Probe, check, require_confinement

__all__ = [
    "Job",
    "Limits",
    "Probe",
    "Run",
    "Sandbox",
    "SandboxError",
    "SandboxLostError",
    "check",
    "require_confinement",
]
