"""The judge of mathematics, code and science, shared by curation, rewards and evaluation."""

from data.domains.domain import Domain
from data.domains.judge import DOMAINS, Judge, verify
from data.domains.policy import Policy
from data.domains.verdict import FAILED_STATUSES, STATUSES, Verdict

PROMPT_SUFFIXES: tuple[str, ...] = tuple(dict.fromkeys(domain.prompt_suffix for domain in DOMAINS.values()))

__all__ = [
    "DOMAINS",
    "FAILED_STATUSES",
    "PROMPT_SUFFIXES",
    "STATUSES",
    "Domain",
    "Judge",
    "Policy",
    "Verdict",
    "verify",
]
