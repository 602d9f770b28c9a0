"""Draw problems with pairwise different prompts by the shares of kinds and levels."""

import json
from collections.abc import Collection, Iterable, Mapping
from random import Random
from typing import TypeVar

from data.schema import Problem
from data.sources.procedural.chain import CHAIN
from data.sources.procedural.fit import FIT
from data.sources.procedural.kind import LEVELS, Kind, Statement, derive_seed
from data.sources.procedural.lin import LIN
from data.sources.procedural.list_program import LIST
from data.sources.procedural.science import SCIENCE

KINDS: dict[str, Kind] = {"chain": CHAIN, "lin": LIN, "list": LIST, "fit": FIT, "science": SCIENCE}
Key = TypeVar("Key", str, int)

LICENCE = "Apache-2.0"
_SOURCE = "procedural/"
MAX_TRIES = 40  # draws of one kind and level for one problem before another kind takes its place


def generate_problems(
    *,
    name: str,
    split: str,
    num_problems: int,
    kinds: Mapping[str, float],
    levels: Mapping[int, float],
    seed: int,
    exclude: Collection[str] = (),
) -> list[Problem]:
    """Draw problems whose prompts differ from each other and from `exclude`; a pure function of the arguments.

    A kind that has nothing new at the drawn level gives its place to another one, so that shares may shift.

    Raises:
        ValueError: an unknown kind or level, or no kind has a new problem at the drawn level.

    """
    _check(kinds, levels)
    rng = Random(derive_seed("procedural", name, seed))
    seen = set(exclude)
    problems: list[Problem] = []
    for index in range(num_problems):
        level = _draw_share(rng, levels)
        kind, statement = _draw_new(rng, kinds=kinds, level=level, seen=seen, where=f"{name}-{index:06d}")
        seen.add(statement.prompt)
        problems.append(
            Problem(
                id=f"{name}-{index:06d}",
                domain=KINDS[kind].domain,
                split=split,
                prompt=statement.prompt,
                answer=statement.answer,
                tests=statement.tests,
                source=f"{_SOURCE}{kind}",
                licence=LICENCE,
                meta=json.dumps({"kind": kind, "level": level, **statement.operands}),
            )
        )
    return problems


def describe(sources: Iterable[str]) -> str:
    """What the generated problems among rows with these sources are, by domain; empty where there are none.

    >>> describe(["procedural/list", "gsm8k", "procedural/lin"])
    'generated problems: math is linear equations with one unknown; code is what a list of named operations makes of four digits'
    """
    names = {source.removeprefix(_SOURCE) for source in sources if source.startswith(_SOURCE)}
    kinds: dict[str, list[str]] = {}
    for name, kind in KINDS.items():
        if name in names:
            kinds.setdefault(kind.domain, []).append(kind.description)
    said = "; ".join(f"{domain} is {', or '.join(descriptions)}" for domain, descriptions in kinds.items())
    return f"generated problems: {said}" if said else ""


def _check(kinds: Mapping[str, float], levels: Mapping[int, float]) -> None:
    unknown = [str(kind) for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"unknown kind of problem {', '.join(unknown)}; there are {', '.join(KINDS)}")
    if wrong := [level for level in levels if level not in LEVELS]:
        raise ValueError(f"unknown level {', '.join(map(str, wrong))}; there are {', '.join(map(str, LEVELS))}")


def _draw_share(rng: Random, shares: Mapping[Key, float]) -> Key:
    """Draw a key by its share; the order in which a recipe names them does not matter."""
    keys = sorted(shares)
    return rng.choices(keys, weights=[shares[key] for key in keys])[0]


def _draw_new(
    rng: Random, *, kinds: Mapping[str, float], level: int, seen: Collection[str], where: str
) -> tuple[str, Statement]:
    """Draw a kind and a problem of it that is not in `seen`."""
    left = {kind: share for kind, share in kinds.items() if share > 0}
    tried: list[str] = []
    while left:
        kind = _draw_share(rng, left)
        for _ in range(MAX_TRIES):
            statement = KINDS[kind].draw(rng, level)
            if statement.prompt not in seen:
                return kind, statement
        del left[kind]
        tried.append(kind)
    raise ValueError(
        f"{where}: no new problem of kind {', '.join(tried)} at level {level} in {MAX_TRIES} draws each;"
        f" {len(seen)} prompts are taken: ask for fewer problems, or for more kinds or levels"
    )
