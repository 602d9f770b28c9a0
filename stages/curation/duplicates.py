"""De-duplication (paper 2.3): of problems with the same normalised text, the one of the earliest source stays.

A departure: the paper also de-duplicates by meaning; we have no embedding model, so paraphrases and translations stay.
"""

from collections.abc import Sequence

from stages.curation.normalisation import comparison_key
from stages.curation.pool import Candidate, Drop, Sifted


def drop_duplicates(candidates: Sequence[Candidate]) -> Sifted:
    """Keep the first of each text; the evidence is its id."""
    first: dict[str, Candidate] = {}
    sifted = Sifted([], [])
    for candidate in candidates:
        key = comparison_key(candidate.problem.prompt)
        kept = first.setdefault(key, candidate)
        if kept is candidate:
            sifted.kept.append(candidate)
        else:
            same = kept.problem.prompt == candidate.problem.prompt
            reason = "duplicate: same text" if same else "duplicate: same text after normalisation"
            sifted.dropped.append(Drop(candidate, reason, kept.problem.id))
    return sifted
