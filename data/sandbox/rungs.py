"""The ladder: sets of mechanisms that confine an answer, best first. The first that works on a machine is used there."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rung:
    """Which mechanisms confine an answer. seccomp and resource limits belong to every rung but `unsafe`."""

    name: str
    namespaces: bool  # own root, processes, network and users: there an answer may fork and has a scratch folder
    landlock: bool
    seccomp: bool
    what: str


LADDER = (
    Rung("A", True, True, True, "namespaces, Landlock and seccomp"),
    Rung("A-without-landlock", True, False, True, "namespaces and seccomp"),
    Rung("B", False, True, True, "Landlock and seccomp"),
)
UNSAFE = Rung("unsafe", False, False, False, "no isolation")
RUNGS = {rung.name: rung for rung in (*LADDER, UNSAFE)}
