"""The six splits: at most `num_kept` rows of a generated source, in order, and no prompt in two splits."""

from collections.abc import Mapping, Sequence
from typing import get_args

from data.schema import Problem
from stages.config import CurationConfig, ProceduralSource, Split
from stages.curation.normalisation import comparison_key
from stages.curation.pool import Candidate, Drop, Sifted

SPLITS: tuple[str, ...] = get_args(Split)


def drop_surplus(candidates: Sequence[Candidate], config: CurationConfig) -> Sifted:
    """Keep the first `num_kept` rows of each source that says so."""
    limits = {source.name: source.num_kept for source in config.sources if isinstance(source, ProceduralSource)}
    counts = dict.fromkeys(limits, 0)
    sifted = Sifted([], [])
    for candidate in candidates:
        limit = limits.get(candidate.source)
        if limit is not None and counts[candidate.source] >= limit:
            sifted.dropped.append(Drop(candidate, "surplus", f"{candidate.source} keeps {limit}"))
            continue
        if limit is not None:
            counts[candidate.source] += 1
        sifted.kept.append(candidate)
    return sifted


def fill_splits(
    candidates: Sequence[Candidate], benchmarks: Mapping[str, Sequence[Problem]]
) -> dict[str, list[Problem]]:
    """Rows by split, always all six. Rows of benchmarks that can be judged join `heldout` and keep `eval` as their split."""
    splits: dict[str, list[Problem]] = {split: [] for split in SPLITS}
    for candidate in candidates:
        splits[candidate.problem.split].append(candidate.problem)
    splits["heldout"] += [problem for rows in benchmarks.values() for problem in rows if can_be_judged(problem)]
    _assert_disjoint(splits)
    return splits


def can_be_judged(problem: Problem) -> bool:
    """Whether there is anything to judge an answer by; other rows of a benchmark only serve decontamination."""
    return bool(problem.answer.strip() or problem.tests.strip())


def _assert_disjoint(splits: Mapping[str, Sequence[Problem]]) -> None:
    seen: dict[str, str] = {}
    for split, problems in splits.items():
        for problem in problems:
            other = seen.setdefault(comparison_key(problem.prompt), split)
            assert other == split, f"{problem.id}: its prompt stands in {other} and in {split}"
