"""What became of dirt: rows that a generated source planted, wrong on purpose, and that say so in `meta`.

Dropped is what a step took for a reason of its own; what reached the mixture slipped through, whether or not there was room for it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from stages.curation import mixture
from stages.curation.funnel import Step
from stages.curation.pool import Pool
from stages.stage import Row

_Form = tuple[str, str]  # kind and form
_MARK = '"dirt"'


@dataclass(slots=True)
class Fates:
    """Planted rows by kind and form."""

    dropped: Counter[_Form] = field(default_factory=Counter)
    slipped: Counter[_Form] = field(default_factory=Counter)
    reasons: dict[_Form, Counter[str]] = field(default_factory=dict)  # of the dropped
    by_step: Counter[str] = field(default_factory=Counter)
    num_kept: int = 0  # of those that slipped through, those that stand in a split

    @property
    def num_planted(self) -> int:
        """All of them."""
        return self.dropped.total() + self.slipped.total()


def fates(steps: Sequence[Step], pool: Pool) -> Fates:
    """What the steps dropped, and what is left."""
    found = Fates()
    for step in steps:
        for table in step.dropped():
            for form, reason in _planted(table.select(["meta", "reason"])):
                found.by_step[step.name] += 1
                if step.name == mixture.NAME:
                    found.slipped[form] += 1
                    continue
                found.dropped[form] += 1
                found.reasons.setdefault(form, Counter())[reason] += 1
    for batch in pool.batches(["meta"]):
        for form, _ in _planted(batch):
            found.slipped[form] += 1
            found.num_kept += 1
    return found


def _planted(table: pa.Table) -> Iterator[tuple[_Form, str]]:
    reasons = table["reason"].to_pylist() if "reason" in table.column_names else [""] * len(table)
    for meta, reason in zip(table["meta"].to_pylist(), reasons, strict=True):
        if meta and _MARK in meta and isinstance(dirt := json.loads(meta).get("dirt"), dict):
            yield (dirt["kind"], dirt["form"]), reason


def dirt_rows(found: Fates) -> list[Row]:
    """One row for each kind and form."""
    return [
        {
            "planted": kind,
            "form": form,
            "rows": found.dropped[kind, form] + found.slipped[kind, form],
            "dropped": found.dropped[kind, form],
            "slipped through": found.slipped[kind, form],
            "dropped as": ", ".join(
                f"{reason} ({count})" for reason, count in found.reasons.get((kind, form), Counter()).most_common(2)
            ),
        }
        for kind, form in sorted(found.dropped.keys() | found.slipped.keys())
    ]


def dirt_note(found: Fates, steps: Sequence[Step]) -> str:
    """The same in words."""
    missed = ", ".join(
        f"{kind} {form} ({count})"
        for (kind, form), count in sorted(found.slipped.items(), key=lambda item: (-item[1], item[0]))[:3]
    )
    judged = [step for step in steps if step.name != mixture.NAME]
    others = sum(step.num_dropped for step in judged) - found.dropped.total()
    rows = steps[0].num_kept + steps[0].num_dropped - found.num_planted
    return (
        f"the sources planted {found.num_planted:,} rows that are wrong on purpose: {found.dropped.total():,}"
        f" ({found.dropped.total() / found.num_planted:.0%}) were dropped for a reason, {found.slipped.total():,} slipped through"
        f"{f', most as {missed}' if missed else ''}; {found.num_kept:,} of those stand in a split, the others were surplus."
        f" Of the {rows:,} other rows {others:,} were dropped for a reason"
    )


def dirt_metrics(found: Fates) -> dict[str, float]:
    """`curation/dirt_...`."""
    return {
        "curation/dirt_planted": float(found.num_planted),
        "curation/dirt_dropped": float(found.dropped.total()),
        "curation/dirt_slipped_through": float(found.slipped.total()),
    }
