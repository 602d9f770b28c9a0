"""The documented teacher: proposes reasoning of one of three styles, now and then with a slip that is carried on.

A style is `long` (every step written), `skip` (intermediate results left out) or `direct` (an empty thought). Each
operation goes wrong with the style's chance; the judge rejects what ends wrong. A slip that a later step undoes stays.
"""

from collections.abc import Mapping
from random import Random

from data.schema import Problem
from data.sources.procedural.generation import KINDS
from data.sources.procedural.kind import Slips, derive_seed

STYLES = ("long", "skip", "direct")


def propose_trace(problem: Problem, *, styles: Mapping[str, float], slips: Mapping[str, float], seed: int) -> str:
    """One proposal: `steps </think> answer`, what follows an opened `<think>`; a pure function of its arguments."""
    rng = Random(derive_seed("teacher", problem.id, seed))
    style = rng.choices(STYLES, weights=[styles.get(style, 0.0) for style in STYLES])[0]
    operands = problem.metadata
    return KINDS[operands["kind"]].reason(operands, style, Slips(rng=rng, chance=slips[style]))
