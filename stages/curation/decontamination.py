"""Decontamination (paper 2.3): drop what gives away a problem that a model will be measured on.

Measured are the benchmarks' rows and the recipe's own heldout and probe splits. A heldout row is compared with nothing, a probe row
with benchmarks and heldout, any other row with all three. A departure: by n-grams only, not by meaning.
"""

from collections.abc import Mapping, Sequence

from data.schema import Problem
from stages.config import Decontamination
from stages.curation.contamination import LeakIndex, MeasuredRow
from stages.curation.pool import Candidate, Drop, Sifted

OWN_SPLITS = ("heldout", "probe")


def decontaminate(
    candidates: Sequence[Candidate], benchmarks: Mapping[str, Sequence[Problem]], rule: Decontamination
) -> Sifted:
    """Drop leaks; the evidence is the benchmark, the row and the coverage."""
    measured = [MeasuredRow(name, row.id, row.prompt) for name, rows in benchmarks.items() for row in rows]
    measured += _own_rows(candidates, "heldout")
    for_probe = LeakIndex(measured, rule)
    for_others = LeakIndex([*measured, *_own_rows(candidates, "probe")], rule)
    sifted = Sifted([], [])
    for candidate in candidates:
        split = candidate.problem.split
        leak = None
        if split != "heldout":
            leak = (for_probe if split == "probe" else for_others).find(candidate.problem.prompt)
        if leak is None:
            sifted.kept.append(candidate)
            continue
        reason = "contaminated: same text" if leak.identical else "contaminated: shared n-grams"
        evidence = f"{leak.row.benchmark}, row {leak.row.id}, coverage {leak.coverage:.2f}"
        sifted.dropped.append(Drop(candidate, reason, evidence, leaks_to=leak.row.benchmark))
    return sifted


def _own_rows(candidates: Sequence[Candidate], split: str) -> list[MeasuredRow]:
    return [
        MeasuredRow(split, candidate.problem.id, candidate.problem.prompt)
        for candidate in candidates
        if candidate.problem.split == split
    ]
