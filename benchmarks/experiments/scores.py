"""What the models of a chain score on held-out problems, and by how much they differ on each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.experiments.chains import Chain
from data.schema import problems_from_table, read_table
from stages.evaluation.groups import problem_groups
from stages.evaluation.metrics import mean_by_problem
from stages.sampling.scores import scores_by_problem

METRICS = ("greedy", "pass@1")
ALL = "all"
_COLUMNS = ("model", "problem_id", "sample", "status", "score")


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one chain."""

    by_problem: Mapping[
        tuple[str, str], Mapping[str, float]
    ]  # (model, metric) -> problem -> mean over samples; NaN where not judged
    groups: Mapping[str, Sequence[str]]  # group -> problems

    def values(self, model: str, metric: str, group: str = ALL) -> list[float]:
        """A number a problem of the group."""
        scores = self.by_problem[model, metric]
        return [scores[name] for name in self.groups[group]]

    def differences(self, model: str, against: str, metric: str, group: str = ALL) -> list[float]:
        """Paired, of the problems that were judged for both."""
        pairs = zip(self.values(model, metric, group), self.values(against, metric, group), strict=True)
        found = [one - other for one, other in pairs]
        return [value for value in found if not math.isnan(value)]

    def mean(self, model: str, metric: str, group: str = ALL) -> float:
        """Over problems that were judged; NaN without any."""
        judged = [value for value in self.values(model, metric, group) if not math.isnan(value)]
        return fmean(judged) if judged else math.nan


def scores_of(chain: Chain) -> Scores:
    """From the samples of the evaluation; `all` and domains are without what is harder than RL trains on, and levels are left out."""
    curation = chain.manifests["curation"].folder
    heldout, trained = (problems_from_table(read_table(curation / f"{split}.parquet")) for split in ("heldout", "rl"))
    groups = problem_groups(heldout, trained_levels=[problem.level for problem in trained])
    samples = pq.read_table(chain.manifests["evaluation"].folder / "samples.parquet", columns=list(_COLUMNS))
    return Scores(
        scores_by_model(samples, chain.models),
        {name: ids for name, ids in groups.items() if "level" not in name},
    )


def scores_by_model(samples: pa.Table, models: Sequence[str]) -> dict[tuple[str, str], dict[str, float]]:
    """(model, metric) -> problem -> mean over its judged samples, NaN without any. Greedy responses have a sample below 0."""
    found = {}
    for model in models:
        rows = samples.filter(pc.field("model") == model)
        parts = {METRICS[0]: pc.field("sample") < 0, METRICS[1]: pc.field("sample") >= 0}
        for metric, part in parts.items():
            found[model, metric] = mean_by_problem(scores_by_problem(rows.filter(part)))
    return found


def compared_pairs(chain: Chain) -> list[tuple[str, str]]:
    """(model, against), as the evaluation compares them."""
    rows = chain.manifests["evaluation"].tables()["comparisons"]
    return list(dict.fromkeys((row["model"], row["against"]) for row in rows))
