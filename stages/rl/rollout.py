"""The rollouts of one step on one rank: prompts answered K times by the current policy, judged, and turned into advantages.

Out: records of the rank's responses, and a parquet file of `SAMPLE_SCHEMA` rows under rollouts/.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.domains import DOMAINS, Judge
from data.schema import Problem, write_table
from ring_model.modelling import BailingMoe
from ring_model.tokenizer import Tokenizer
from stages.config import Phase, RlConfig
from stages.rl.advantages import group_advantages
from stages.rl.objectives import Response
from stages.sampling.answering import Answers, Asked, answer
from stages.sampling.scores import failure_name
from stages.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Rollout:
    """The answers of a rank to its prompts, with what the objective needs to know of each."""

    answers: Answers
    responses: Sequence[Response]  # in the order of the answers

    def failures(self) -> Counter[str]:
        """The verdicts of this rank that are the judge's failure, by problem and status."""
        judged = zip(self.answers.asked, self.answers.verdicts, strict=True)
        return Counter(
            failure_name(asked.problem.id, verdict.status) for asked, verdict in judged if verdict.is_failure
        )

    def sums(self) -> dict[str, float]:
        """Sums over this rank's responses, to be added up over ranks; see `figures`."""
        sums: dict[str, float] = dict.fromkeys(_SUMS, 0.0)
        for asked, completion, verdict in zip(
            self.answers.asked, self.answers.completions, self.answers.verdicts, strict=True
        ):
            sums["responses"] += 1
            sums["tokens"] += len(completion.token_ids)
            sums["truncated"] += not completion.finished
            sums["entropy"] += float(completion.entropies.astype(np.float64).sum())
            sums["failures"] += verdict.is_failure
            sums["checker_failures"] += verdict.checker_failed
            sums["weak"] += verdict.weak
            if not verdict.is_failure:
                for group in ("all", asked.problem.domain):
                    sums[f"judged/{group}"] += 1
                    sums[f"reward/{group}"] += verdict.score
        return sums


_GROUPS = ("all", *DOMAINS)
_SUMS = (
    *("responses", "tokens", "truncated", "entropy", "failures", "checker_failures", "weak"),
    *(f"{kind}/{group}" for kind in ("judged", "reward") for group in _GROUPS),
)


def figures(sums: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a step from the sums of all ranks; a domain that was not asked has no reward."""
    responses = max(sums["responses"], 1.0)
    rewards = {
        f"reward/{'mean' if group == 'all' else group}": sums[f"reward/{group}"] / sums[f"judged/{group}"]
        for group in _GROUPS
        if sums[f"judged/{group}"]
    }
    return {
        **rewards,
        "response/mean_tokens": sums["tokens"] / responses,
        "response/truncated_share": sums["truncated"] / responses,
        "policy/entropy": sums["entropy"] / max(sums["tokens"], 1.0),
        "judge/failures": sums["failures"],
        "judge/checker_failures": sums["checker_failures"],
        "judge/weak": sums["weak"],
    }


def roll_out(
    model: BailingMoe,
    problems: Mapping[int, Problem],
    *,
    tokenizer: Tokenizer,
    judge: Judge,
    config: RlConfig,
    phase: Phase,
    step: int,
    max_rows: int,
) -> Rollout:
    """Answer `problems` (number of the group within the step -> problem) K times each."""
    asked = [
        Asked(problem, sample, seed=derive_seed(config.seed, "rl", "sample", step, group, sample))
        for group, problem in problems.items()
        for sample in range(config.samples_per_prompt)
    ]
    answers = answer(
        model,
        asked,
        tokenizer=tokenizer,
        judge=judge,
        sampling=config.sampling,
        max_rows=max_rows,
        max_total_tokens=phase.max_total_tokens,
    )
    return Rollout(answers, _responses(answers, list(problems), config=config))


def _responses(answers: Answers, groups: Sequence[int], *, config: RlConfig) -> list[Response]:
    rewards = [math.nan if verdict.is_failure else verdict.score for verdict in answers.verdicts]
    rewards_PK = np.array(rewards).reshape(len(groups), config.samples_per_prompt)
    advantages = group_advantages(rewards_PK, epsilon=config.advantage_epsilon).flatten()
    return [
        Response(
            group=groups[index // config.samples_per_prompt],
            sample=asked.sample,
            num_tokens=len(completion.token_ids),
            advantage=float(advantages[index]),
            judged=not math.isnan(rewards[index]),
        )
        for index, (asked, completion) in enumerate(zip(answers.asked, answers.completions, strict=True))
    ]


def write_rollout(rollout: Rollout, folder: Path, *, step: int, round_: int, rank: int) -> None:
    """Keep every response of the step with its verdict. The same step gives the same bytes, so a resumed one may overwrite."""
    write_table(rollout.answers.table(), folder / f"step-{step:06d}.{round_}.{rank}.parquet")
