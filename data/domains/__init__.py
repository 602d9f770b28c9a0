"""The judge of mathematics, code, science and puzzles, shared by curation, rewards and evaluation."""

from data.domains.domain import Domain
from data.domains.judge import DOMAINS, Judge, verify
from data.domains.policy import Policy
from data.domains.verdict import FAILED_STATUSES, STATUSES, Verdict

PROMPT_SUFFIXES: tuple[str, ...] = tuple(dict.fromkeys(domain.prompt_suffix for domain in DOMAINS.values()))
OWN_DOMAINS: tuple[str, ...] = tuple(name for name, domain in DOMAINS.items() if not domain.extra)  # without any extra

__all__ = [
    "DOMAINS",
    "FAILED_STATUSES",
    "OWN_DOMAINS",
    "PROMPT_SUFFIXES",
    "STATUSES",
    "Domain",
    "Judge",
    "Policy",
    "Verdict",
    "verify",
]
