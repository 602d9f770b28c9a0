"""The mixture (paper 4.1.1, 2.2): how many rows of a generated source, and of each domain in sft and rl, are kept.

SFT: the largest set in which the domains stand in the recipe's proportion, so the scarcest one decides. RL: at most so many rows of a
domain. Which rows stay is an order by a stable hash of (seed, id, prompt), so that it depends neither on files nor on processes, and rows
that share an id are told apart.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from stages.config import CurationConfig, Domain, Mixture, ProceduralSource
from stages.curation.pool import Drop, Pool
from stages.seeds import derive_seed
from stages.stage import Row

NAME = "mixture"
_COLUMNS = ("id", "prompt", "split", "domain", "via")
_Part = tuple[str, str]  # split and domain


@dataclass(frozen=True, slots=True)
class _Limit:
    """Of the rows of a split and domain those stay whose place is at most `last`."""

    last: int
    evidence: str


@dataclass(slots=True)
class _Surplus:
    """Counts the rows of sources that keep only their first `num_kept`."""

    limits: Mapping[str, int | None]
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def takes(self, via: str) -> str:
        """Evidence against one row more of the source; empty where it stays."""
        limit = self.limits.get(via)
        self.counts[via] += 1
        return f"{via} keeps {limit}" if limit is not None and self.counts[via] > limit else ""


def left_out(pool: Pool, config: CurationConfig) -> Iterator[list[Drop]]:
    """For each batch, the rows past `num_kept` of their source, and those that the mixture has no place for.

    Raises ValueError where SFT wants a domain of which no row is left.
    """
    limits = _limits(pool, config) if config.mixture else {}
    surplus = _Surplus(_kept_of_sources(config))
    for batch in pool.batches(_COLUMNS):
        drops = []
        for row, (key, prompt, split, domain, via) in enumerate(
            zip(*(batch[name].to_pylist() for name in _COLUMNS), strict=True)
        ):
            if evidence := surplus.takes(via):
                drops.append(Drop(row, "surplus", evidence))
            elif (limit := limits.get((split, domain))) and _place(config, key, prompt) > limit.last:
                drops.append(Drop(row, "surplus of the mixture", limit.evidence))
        yield drops


def _kept_of_sources(config: CurationConfig) -> dict[str, int | None]:
    return {source.name: source.num_kept for source in config.sources if isinstance(source, ProceduralSource)}


def _place(config: CurationConfig, key: str, prompt: str) -> int:
    return derive_seed(config.seed, "curation", NAME, key, prompt)


def _limits(pool: Pool, config: CurationConfig) -> dict[_Part, _Limit]:
    """For each split and domain that the mixture speaks of, where to stop."""
    assert config.mixture is not None
    places = _places(pool, config)
    limits = {}
    for split, wanted in (("sft", sft_rows), ("rl", rl_rows)):
        there = {domain: len(found) for (name, domain), found in places.items() if name == split}
        for domain, count in wanted(there, getattr(config.mixture, split)).items():
            limits[split, domain] = _limit(
                places[split, domain], count, f"{split} keeps {count} of {there[domain]} {domain} rows"
            )
    return limits


def _places(pool: Pool, config: CurationConfig) -> dict[_Part, np.ndarray]:
    """Places of the rows of sft and rl that their source keeps: eight bytes a row."""
    found: defaultdict[_Part, list[np.ndarray]] = defaultdict(list)
    surplus = _Surplus(_kept_of_sources(config))
    for batch in pool.batches(_COLUMNS):
        here: defaultdict[_Part, list[int]] = defaultdict(list)
        for key, prompt, split, domain, via in zip(*(batch[name].to_pylist() for name in _COLUMNS), strict=True):
            if not surplus.takes(via) and split in ("sft", "rl"):
                here[split, domain].append(_place(config, key, prompt))
        for part, places in here.items():
            found[part].append(np.array(places, np.uint64))
    return {part: np.concatenate(pieces) for part, pieces in found.items()}


def _limit(places: np.ndarray, count: int, evidence: str) -> _Limit:
    last = int(np.partition(places, count - 1)[count - 1]) if count else -1
    return _Limit(last, evidence)


def sft_rows(there: Mapping[str, int], weights: Mapping[Domain, float]) -> dict[str, int]:
    """Rows of each domain in the largest set with these weights; rounded down. All rows where there is no weight, or no row.

    Raises ValueError for a domain with a weight and without a row: nothing would be left.
    """
    if not weights or not there:
        return {}
    total = sum(weights.values())
    shares = {domain: weight / total for domain, weight in weights.items() if weight}
    if missing := [domain for domain in shares if not there.get(domain)]:
        raise ValueError(
            f"curation.mixture.sft asks for {', '.join(missing)}, and no such row is left for sft (there are {dict(there)}): "
            "add a source, or take the domain out of curation.mixture.sft"
        )
    size = min(there[domain] / share for domain, share in shares.items())
    return {domain: int(size * shares.get(domain, 0) + 1e-9) for domain in there}


def rl_rows(there: Mapping[str, int], counts: Mapping[Domain, int]) -> dict[str, int]:
    """Rows of each domain, at most as many as the recipe says. All rows where it says nothing."""
    return {domain: min(number, counts.get(domain, 0)) for domain, number in there.items()} if counts else {}


def compared(splits: Iterable[Row], mixture: Mixture) -> list[Row]:
    """What the recipe asks of each split and domain, beside what the table `splits` says it holds."""
    there = {(row["split"], row["domain"]): row for row in splits}
    whole = sum(mixture.sft.values())
    rows = [("sft", domain, f"{weight / whole:.1%}") for domain, weight in mixture.sft.items()]
    rows += [("rl", domain, f"{count:,} rows") for domain, count in mixture.rl.items()]
    found = []
    for split, domain, asked in rows:
        row = there.get((split, domain), {"rows": 0, "share": 0.0})
        reached = f"{row['share']:.1%}" if split == "sft" else f"{row['rows']:,} rows"
        found.append({"split": split, "domain": domain, "asked": asked, "reached": reached, "rows": row["rows"]})
    return found


def shortages(kept: Mapping[str, int], counts: Mapping[Domain, int]) -> list[str]:
    """What RL has less of than the recipe asks for."""
    return [
        f"rl holds {kept.get(domain, 0):,} {domain} rows, the mixture asks for {count:,}"
        for domain, count in counts.items()
        if kept.get(domain, 0) < count
    ]
