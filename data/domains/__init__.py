"""The judge of mathematics, code, science, puzzles and domains of one's own, shared by curation, rewards and evaluation."""

from data.domains.domain import Domain, Outcome
from data.domains.judge import DOMAINS, Judge, verify
from data.domains.own import load_own_domains
from data.domains.policy import Policy
from data.domains.verdict import FAILED_STATUSES, STATUSES, Verdict

DOMAINS.update(load_own_domains())
PROMPT_SUFFIXES: tuple[str, ...] = tuple(dict.fromkeys(domain.prompt_suffix for domain in DOMAINS.values()))
PLAIN_DOMAINS: tuple[str, ...] = tuple(
    name for name, domain in DOMAINS.items() if not domain.extra
)  # without any extra

__all__ = [
    "DOMAINS",
    "FAILED_STATUSES",
    "PLAIN_DOMAINS",
    "PROMPT_SUFFIXES",
    "STATUSES",
    "Domain",
    "Judge",
    "Outcome",
    "Policy",
    "Verdict",
    "verify",
]
