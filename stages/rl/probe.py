"""The probe: a few fixed problems answered greedily now and then during RL, so that a collapse is seen while it happens."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from data.domains import DOMAINS
from data.schema import PROBLEM_SCHEMA, SAMPLE_SCHEMA, Problem, problems_from_table, read_table, write_table
from stages.config import RlConfig
from stages.sampling.requests import Policy, SamplingJob
from stages.sampling.sampler import Sampler, joined
from stages.sampling.scores import entropy_figure, mean_score, mean_tokens, scores_by_problem
from stages.stage import STATE, step_file

PROBES = "probes"


@dataclass(frozen=True, slots=True)
class Probe:
    """The problems, and where the answers of each version are kept."""

    problems: tuple[Problem, ...]
    config: RlConfig
    out: Path

    @classmethod
    def load(cls, curation: Path, *, config: RlConfig, out: Path) -> "Probe | None":
        """The first rows of curation's probe split; None where the recipe wants no probe. Raises ValueError where it has no row."""
        if not config.probe_every:
            return None
        path = curation / "probe.parquet"
        problems = problems_from_table(read_table(path, PROBLEM_SCHEMA))[: config.probe_problems]
        if not problems:
            raise ValueError(
                f"{path} holds no problem: give curation a source for the split `probe`, or set rl.probe_every = 0"
            )
        return cls(tuple(problems), config, out)

    def is_due(self, step: int, *, num_steps: int) -> bool:
        """At the beginning (step 0), every `probe_every` steps, and at the end."""
        return step % self.config.probe_every == 0 or step == num_steps

    def needs_weights(self, step: int) -> bool:
        """Whether the weights after `step` steps were not asked yet."""
        return not self._path(step).exists()

    def _path(self, step: int) -> Path:
        return self.out / PROBES / step_file(step)

    def figures(self, step: int, *, sampler: Sampler, policy: Policy | None) -> dict[str, float]:
        """What the weights after `step` steps answer; sampled once, and computed from what is kept: then no policy is needed."""
        path = self._path(step)
        if policy is not None and not path.exists():
            job = SamplingJob(path.stem, policy, self.problems, num_samples=0, sampling=self.config.sampling, seed=0)
            chunks = list(job.chunks(self.out / STATE / PROBES))
            deque(sampler.sample(chunks), maxlen=0)
            write_table(joined(chunks), path)
        return probe_figures(read_table(path, SAMPLE_SCHEMA))


def probe_figures(samples: pa.Table) -> dict[str, float]:
    """Share of right answers, of all and by domain, entropy and length of greedy responses."""
    scores = scores_by_problem(samples)
    domains = dict(zip(samples["problem_id"].to_pylist(), samples["domain"].to_pylist(), strict=True))
    parts = {"greedy": scores} | {
        domain: {name: values for name, values in scores.items() if domains[name] == domain} for domain in DOMAINS
    }
    return {
        **{f"probe/{name}": mean_score(part) for name, part in parts.items() if any(part.values())},
        **entropy_figure("probe/entropy", samples),
        "probe/mean_tokens": mean_tokens(samples),
    }
