"""Domains of one's own: Python files outside the project that RING_DOMAINS names, each with a `DOMAIN`.

A file is read by itself: it may import installed packages and the project's, no file beside it, so that its text is all that decides
(with what it imports). What its `verify` gives is held to the statuses of `verdict`; anything else is a failure of the judge, as an
exception is.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from data.domain_names import VARIABLE, own_domain_files
from data.domains.domain import Domain, Outcome, Question
from data.domains.instruments import Instruments
from data.domains.verdict import STATUSES
from data.schema import Problem

_Verify = Callable[[str, Problem, Instruments], Outcome | Question]


def load_own_domains() -> dict[str, Domain]:
    """Name -> domain. Raises ValueError for a file that cannot be imported, or has no `DOMAIN` of its name."""
    return {name: _domain(name, path) for name, path in own_domain_files().items()}


def _domain(name: str, path: Path) -> Domain:
    domain = getattr(_module(name, path), "DOMAIN", None)
    if not isinstance(domain, Domain) or domain.name != name:
        found = f"{domain.name!r}" if isinstance(domain, Domain) else f"a {type(domain).__name__}"
        raise ValueError(
            f'{VARIABLE}: {path}: needed is DOMAIN = Domain("{name}", PROMPT_SUFFIX, verify), called after the file; it is {found}'
        )
    return replace(domain, verify=_held(domain.verify, name))


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ring_domain_{name}", path)
    assert spec is not None and spec.loader is not None  # a .py file
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a person's file does
        raise ValueError(f"{VARIABLE}: {path}: cannot be imported: {type(error).__name__}: {error}; mend it") from error
    return module


def _held(verify: _Verify, name: str) -> _Verify:
    """The same, and an error for what is no outcome."""

    def held(text: str, problem: Problem, instruments: Instruments) -> Outcome | Question:
        found = verify(text, problem, instruments)
        if isinstance(found, Question):
            return found
        if not isinstance(found, Outcome) or found.status not in STATUSES:
            raise TypeError(f"verify of {name} gave {found!r}; needed is an Outcome of {', '.join(STATUSES)}")
        if not 0 <= found.credit <= 1:
            raise ValueError(f"verify of {name} gave the credit {found.credit}; it lies from 0 to 1")
        return found

    return held
